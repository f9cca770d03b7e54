"""The front door of a rehearsal: start it, find it, use it, end it."""

from collections.abc import Callable, Sequence
from contextlib import suppress
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
import psutil
import requests

from rehearsal.errors import RehearsalError
from rehearsal.folder import Folder
from rehearsal.machines.engine import running_engines
from rehearsal.machines.sweep import BALANCERS, end_load_balancers, sweep
from rehearsal.names import programs
from rehearsal.settings import client_options, sdk_environment, Settings
from release.progress import Progress, View

ROOT = Path(__file__).resolve().parent.parent
# The first start on a host makes the source AMI.
UP_SECONDS, DOWN_SECONDS = 900, 180
STARTING = 'start the server'


class NotUp(RehearsalError):
    """The error that no rehearsal of a name is up."""


class Rehearsal:
    """A rehearsal whose server is another process.

    In a `with` block it is up, and it ends with the block or with this process. `up` starts one that stays.
    """

    def __init__(self, settings: Settings | None = None, *, report: Callable[[str], None] = print) -> None:
        """Describe a rehearsal, by default one with a name of its own; `report` gets the log of its server."""
        self.settings = settings or Settings(name=f'r{os.getpid()}-{secrets.token_hex(3)}')
        self._folder = Folder(self.settings.names)
        self._report = report
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> 'Rehearsal':
        """Start it, and return it when it is up; it ends with this process at the latest."""
        if self.is_up:
            raise RehearsalError(f'rehearsal {self.settings.name!r} is already up')
        self._start(attached=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """End it, and report the log of its server, which pytest shows with a failure."""
        self._report(self.log)
        self.down()

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return self._folder.is_held and 'endpoint' in self._folder.facts()

    @property
    def facts(self) -> dict[str, Any]:
        """Its endpoints and other facts."""
        facts = self._folder.facts()
        if not self._folder.is_held or 'endpoint' not in facts:
            raise NotUp(f'rehearsal {self.settings.name!r} is not up: start it with `rehearsal up`')
        return facts

    @property
    def log(self) -> str:
        """The log of its server."""
        return self._folder.log.read_text(encoding='utf-8') if self._folder.log.exists() else ''

    @property
    def endpoint(self) -> str:
        """The URL of the API for programs on this host."""
        return str(self.facts['endpoint'])

    @property
    def machine_endpoint(self) -> str:
        """The URL of the API for programs in its machines, the same in all of them."""
        return str(self.facts['machine_endpoint'])

    @property
    def gateway(self) -> str:
        """The address of this host in the default VPC."""
        return str(self.facts['gateway'])

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that point AWS's libraries, and Packer, to the API."""
        facts = self.facts
        machines = {'PKR_VAR_ec2_endpoint': facts['endpoint'], 'REHEARSAL_MACHINE_ENDPOINT': facts['machine_endpoint'],
                    'AWS_POLL_DELAY_SECONDS': '1', 'CHECKPOINT_DISABLE': '1'} if 'machine_endpoint' in facts else {}
        return {**sdk_environment(facts['endpoint'], facts['region']), **machines}

    def client(self, service: str, **options: Any) -> Any:
        """Return boto3's client of one service."""
        facts = self.facts
        return boto3.client(service, **{**client_options(facts['endpoint'], facts['region']), **options})

    def run(self, command: Sequence[str]) -> int:
        """Run a command on this host with the API, credentials and names, and return its exit code."""
        return programs.run(self.facts.get('resolver'), command, self.environment, self._folder.path)

    def console(self, instance: str) -> str:
        """Return the end of the console of an instance, which may be stopped or terminated."""
        answer = self.client('ec2').get_console_output(InstanceId=instance)
        return str(answer.get('Output', ''))

    def gaps(self) -> list[str]:
        """Return the missing actions that were called."""
        return [str(gap) for gap in requests.get(f'{self.endpoint}/rehearsal/gaps', timeout=10).json()]

    def mail(self) -> list[dict[str, str]]:
        """Return the e-mails that topics sent, the oldest first, as `deliveries.Delivery` has them."""
        return list(requests.get(f'{self.endpoint}/rehearsal/mail', timeout=10).json())

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

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests to load balancers, each with the fields of rehearsal/api/traffic.py's `Request`."""
        return list(requests.get(f'{self.endpoint}/rehearsal/requests', timeout=10).json())

    def up(self, progress: Progress | None = None) -> bool:
        """Start it to stay, and return whether it was down before."""
        if self.is_up:
            return False
        self._start(attached=False, progress=progress)
        return True

    def down(self) -> None:
        """End it and remove everything that it made, even after its server was killed."""
        self._end_server()
        if self.settings.machines:
            end_load_balancers(self._folder.path / BALANCERS)
            with running_engines() as engines:
                for engine in engines:
                    sweep(engine.client(), self.settings.names)
        self._folder.remove()

    def _start(self, attached: bool, progress: Progress | None = None) -> None:
        if self.settings.machines and os.geteuid():
            raise RehearsalError('machines need root, because each has a network namespace of its own: run this as '
                                 'root, or with --no-machines')
        command = [sys.executable, '-m', 'rehearsal.server', json.dumps(asdict(self.settings)),
                   *(['--attached'] if attached else [])]
        # moto would take settings of its own from there.
        environment = {name: value for name, value in os.environ.items() if not name.startswith('MOTO_')}
        with self._folder.open_log() as log:
            # A session of its own, because Ctrl-C is for this process, which then ends the server in order.
            self._server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log,
                                            stdin=subprocess.PIPE if attached else subprocess.DEVNULL,
                                            start_new_session=True)
        # Without a waiting thread the server would become a zombie when another process ends it.
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
                        raise RehearsalError(f'rehearsal {self.settings.name!r} does not start:\n'
                                             f'{self.log.strip()}')
                    progress.step('working')
                    time.sleep(0.1)

    @property
    def _phase(self) -> str:
        """The phase of the server's start, in the server's own words."""
        return str(self._folder.facts().get('phase', STARTING))

    def _end_server(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = self._folder.facts().get('pid')
            if not process or not self._folder.is_held:
                break
            end(process, number)
        if self._server:
            self._server.kill()  # it may not have taken the lock yet
            self._server.wait()
            if self._server.stdin:
                self._server.stdin.close()


def end(process: int, number: signal.Signals) -> None:
    """Send a process a signal, and wait for its end, but not for ever: a stronger signal may follow."""
    with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        server = psutil.Process(process)
        server.send_signal(number)
        server.wait(DOWN_SECONDS)
