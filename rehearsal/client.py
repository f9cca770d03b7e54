"""The front door of a rehearsal: bring it up, ask where it is, let it down."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
import json
import os
from pathlib import Path
import secrets
import signal
import subprocess
import sys
from threading import Thread
import time
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config
import psutil
import requests

from rehearsal.errors import RehearsalError
from rehearsal.folder import Folder
from rehearsal.machines.engine import running_engines
from rehearsal.machines.sweep import sweep
from rehearsal.names import programs
from rehearsal.settings import CREDENTIALS, sdk_environment, Settings
from release.progress import Progress, View

ROOT = Path(__file__).resolve().parent.parent
# The first start on a machine makes the source AMI.
UP_SECONDS, DOWN_SECONDS = 900, 180
STARTING = 'start the server'


class NotUp(RehearsalError):
    """No rehearsal of this name is up."""


class Rehearsal:
    def __init__(self, settings: Settings | None = None, *, tell: Callable[[str], None] = print) -> None:
        """Describe a rehearsal; for the time of a `with` block it is up, under an own name where none is given."""
        self.settings = settings or Settings(name=f'r{os.getpid()}-{secrets.token_hex(3)}')
        self._folder = Folder(self.settings.names)
        self._tell = tell
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> 'Rehearsal':
        """Return the rehearsal when it is up; it goes down at the latest when this process does."""
        if self.is_up:
            raise RehearsalError(f'rehearsal {self.settings.name!r} is up already')
        self._start(attached=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Let it down; what its server has written goes where pytest shows it with a failure."""
        self._tell(self.log)
        self.down()

    @property
    def is_up(self) -> bool:
        """Whether it can be reached."""
        return self._folder.is_held and 'endpoint' in self._folder.facts()

    @property
    def facts(self) -> dict[str, Any]:
        """How it can be reached."""
        facts = self._folder.facts()
        if not self._folder.is_held or 'endpoint' not in facts:
            raise NotUp(f'rehearsal {self.settings.name!r} is not up: bring it up by `up`')
        return facts

    @property
    def log(self) -> str:
        """What its server has written."""
        return self._folder.log.read_text(encoding='utf-8') if self._folder.log.exists() else ''

    @property
    def endpoint(self) -> str:
        """The URL of the API for programs on this machine."""
        return str(self.facts['endpoint'])

    @property
    def machine_endpoint(self) -> str:
        """The URL of the API for programs in its machines, the same in all of them."""
        return str(self.facts['machine_endpoint'])

    @property
    def gateway(self) -> str:
        """The address that this machine has in the default VPC."""
        return str(self.facts['gateway'])

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that point AWS's libraries, and Packer, to the API."""
        facts = self.facts
        machines = {'PKR_VAR_ec2_endpoint': facts['endpoint'], 'REHEARSAL_MACHINE_ENDPOINT': facts['machine_endpoint'],
                    'AWS_POLL_DELAY_SECONDS': '1', 'CHECKPOINT_DISABLE': '1'} if 'machine_endpoint' in facts else {}
        return {**sdk_environment(facts['endpoint'], facts['region']), **machines}

    def client(self, service: str, **options: Any) -> Any:
        """Return boto3's client of one service of it."""
        facts = self.facts
        quick = Config(retries={'total_max_attempts': 1})
        keys = {name.lower(): value for name, value in CREDENTIALS.items()}
        return boto3.client(service, endpoint_url=facts['endpoint'], region_name=facts['region'],
                            **{'config': quick, **keys, **options})

    def run(self, command: Sequence[str]) -> int:
        """Return the exit code of a command of this machine that ran with its API, credentials and names."""
        return programs.run(self.facts.get('resolver'), command, self.environment, self._folder.path)

    def console(self, instance: str) -> str:
        """Return the end of what an instance has written to its console, also of one that is gone."""
        answer = self.client('ec2').get_console_output(InstanceId=instance)
        return str(answer.get('Output', ''))

    def gaps(self) -> list[str]:
        """Return the actions that were asked for and are missing."""
        return [str(gap) for gap in requests.get(f'{self.endpoint}/rehearsal/gaps', timeout=10).json()]

    def fault(self, effect: str, *operations: str, **fields: Any) -> None:
        """Add a fault; rehearsal/faults.py lists the effects and the fields, such as `times`."""
        fault = {'effect': effect, 'operations': operations, **fields}
        requests.put(f'{self.endpoint}/rehearsal/faults', json=[fault], timeout=10).raise_for_status()

    def clear_faults(self) -> None:
        """Remove all faults, and forget the calls so far."""
        requests.delete(f'{self.endpoint}/rehearsal/faults', timeout=10).raise_for_status()

    def calls(self) -> list[dict[str, str]]:
        """Return the calls of the API, each with service, operation and text."""
        return list(requests.get(f'{self.endpoint}/rehearsal/calls', timeout=10).json())

    def up(self, progress: Progress | None = None) -> bool:
        """Bring it up to stay, and return whether it was down before."""
        if self.is_up:
            return False
        self._start(attached=False, progress=progress)
        return True

    def down(self) -> None:
        """Let it down: nothing is left of it, also where its server was killed."""
        self._end_server()
        if self.settings.machines:
            with running_engines() as engines:
                for engine in engines:
                    sweep(engine.client(), self.settings.names)
        self._folder.remove()

    def _start(self, attached: bool, progress: Progress | None = None) -> None:
        if self.settings.machines and os.geteuid():
            raise RehearsalError('machines have network namespaces of their own, which need root: come as root')
        command = [sys.executable, '-m', 'rehearsal.server', json.dumps(asdict(self.settings)),
                   *(['--attached'] if attached else [])]
        # moto would take settings of its own from there.
        environment = {name: value for name, value in os.environ.items() if not name.startswith('MOTO_')}
        with self._folder.open_log() as log:
            # A session of its own: Ctrl-C is for who has started it, who then lets it down in order.
            self._server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log,
                                            stdin=subprocess.PIPE if attached else subprocess.DEVNULL,
                                            start_new_session=True)
        # Else it would stay a zombie when another process lets it down.
        Thread(target=self._server.wait, daemon=True).start()
        try:
            self._wait_until_up(self._server, progress or Progress(View()))
        except BaseException:
            self.down()
            raise

    def _wait_until_up(self, server: subprocess.Popen[bytes], progress: Progress) -> None:
        until = time.monotonic() + UP_SECONDS
        while not self.is_up:
            phase = self._phase
            with progress.phase(phase):
                while not self.is_up and self._phase == phase:
                    if server.poll() is not None or time.monotonic() > until:
                        raise RehearsalError(f'rehearsal {self.settings.name!r} does not come up:\n'
                                             f'{self.log.strip()}')
                    progress.step('working')
                    time.sleep(0.1)

    @property
    def _phase(self) -> str:
        """What its server does on its way up, by its own words."""
        return str(self._folder.facts().get('phase', STARTING))

    def _end_server(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = self._folder.facts().get('pid')
            if not process or not self._folder.is_held:
                break
            end(process, number)
        if self._server:
            self._server.kill()  # it may not even have begun
            self._server.wait()
            if self._server.stdin:
                self._server.stdin.close()


def end(process: int, number: signal.Signals) -> None:
    """Send a process a signal, and return when it is gone or has had its time."""
    try:
        server = psutil.Process(process)
        server.send_signal(number)
        server.wait(DOWN_SECONDS)
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        pass
