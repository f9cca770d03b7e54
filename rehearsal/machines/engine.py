"""A Docker engine: the one that answers, or an own one that is gone when the last of its users ends."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, ExitStack
import fcntl
import os
from pathlib import Path
import shutil
import subprocess
import sys
import threading
import time
from typing import Any, TextIO
from urllib.parse import urlsplit

import docker
import psutil

from rehearsal.errors import RehearsalError
from rehearsal.machines.cache import locked

# Only root can start it, so it is one for the whole machine, whoever's cache is in use.
RUNTIME = Path('/run/rehearsal-engine')
DATA = Path('/var/lib/rehearsal-engine')
CHANGING, USERS = Path('/run/rehearsal-engine.changing'), Path('/run/rehearsal-engine.users')
SOCKET = f'unix://{RUNTIME}/docker.sock'
# Mounts are its own, so they end with it. It leaves the machine's firewall and forwarding as they are: ports are
# published by its proxy, and containers reach each other, but nothing outside unless they use the host's network.
DAEMON = ('unshare', '--mount', '--propagation=slave',
          'dockerd', f'--config-file={RUNTIME}/daemon.json', f'--host={SOCKET}', f'--pidfile={RUNTIME}/pid',
          f'--exec-root={RUNTIME}/exec', f'--data-root={DATA}',
          '--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false', '--ip-masq=false')
# Folders that it makes wherever it runs, and whose place cannot be told it.
TRACES = ('/etc/docker', '/opt/containerd', '/run/containerd', '/run/docker')
START_SECONDS = 60
DEFAULT_SOCKET = 'unix:///var/run/docker.sock'
ADVICE = ('No Docker engine can be used. Start Docker and let this user use it, or come as root where the packages '
          'docker.io and iptables are installed.')


class NoEngine(RehearsalError):
    """No Docker engine answers, and none can be started."""


class CommandFailed(RehearsalError):
    """A command of Docker's ended with another code than 0; the message holds its output."""


class Engine:
    def __init__(self, address: str, is_own: bool) -> None:
        """Use the engine at this address; an empty one leaves the choice to the docker command."""
        self.is_own = is_own
        self.environment = {**os.environ, **({'DOCKER_HOST': address} if address else {})}
        server = urlsplit(self.environment.get('DOCKER_HOST', ''))
        self.host = server.hostname if server.scheme == 'tcp' and server.hostname else '127.0.0.1'

    @property
    def build_options(self) -> list[str]:
        """What a build needs to reach package indexes."""
        return ['--network=host'] if self.is_own else []

    @property
    def publish_address(self) -> str:
        """The address that containers' ports are published at: an engine elsewhere has another loopback."""
        return '127.0.0.1' if self.host == '127.0.0.1' else '0.0.0.0'

    def client(self) -> docker.DockerClient:
        """Return what speaks with the engine in this process; it has to be on this machine."""
        address = self.environment.get('DOCKER_HOST') or DEFAULT_SOCKET
        if not address.startswith('unix://'):
            raise NoEngine(f'DOCKER_HOST={address}: an engine of this machine is needed, at a unix:// address')
        return docker.DockerClient(address, version='auto', timeout=300, max_pool_size=64)

    def docker(self, *arguments: str, **options: Any) -> str:
        """Return what a docker command prints."""
        return self._output(['docker', *arguments], **options).stdout.strip()

    def logs(self, container: str) -> str:
        """Return what a container has written to both of its streams."""
        done = self._output(['docker', 'logs', container])
        return done.stdout + done.stderr

    def compose(self, *arguments: str, environment: Mapping[str, str], **options: Any) -> str:
        """Return what a compose command prints to both of its streams."""
        program = str(Path(sys.executable).with_name('docker-compose'))
        done = self._output([program, *arguments], environment, **options)
        return done.stdout + done.stderr

    def _output(self, command: list[str], environment: Mapping[str, str] | None = None,
                **options: Any) -> subprocess.CompletedProcess[str]:
        options = {'timeout': 300, **options}
        done = subprocess.run(command, env={**self.environment, **(environment or {})}, capture_output=True,
                              text=True, check=False, **options)
        if done.returncode:
            raise CommandFailed(f'{" ".join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}')
        return done


@contextmanager
def usable_engine() -> Iterator[Engine]:
    """Give the engine that the docker command finds, or else one started for this time."""
    if not shutil.which('docker'):
        raise NoEngine(ADVICE)
    if _answers(''):
        yield Engine('', is_own=False)
        return

    if os.geteuid() or not shutil.which('dockerd'):
        raise NoEngine(ADVICE)
    with _own_engine(_start):
        yield Engine(SOCKET, is_own=True)


@contextmanager
def running_engines() -> Iterator[list[Engine]]:
    """Give the engines that run already: which of them was used before may have changed since."""
    with ExitStack() as stack:
        found = [Engine('', is_own=False)] if shutil.which('docker') and _answers('') else []
        if os.geteuid() == 0 and shutil.which('docker') and _answers(SOCKET):
            stack.enter_context(_own_engine(lambda: None))
            found.append(Engine(SOCKET, is_own=True))
        yield found


@contextmanager
def _own_engine(start: Callable[[], None]) -> Iterator[None]:
    """Share one engine among all runs on this machine; the last one stops it, also if another one has started it."""
    with USERS.open('w') as users:
        with locked(CHANGING):
            if not _answers(SOCKET):
                start()
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield
        finally:
            with locked(CHANGING):
                _stop_unless_used(users)


def _answers(address: str) -> bool:
    environment = {**os.environ, **({'DOCKER_HOST': address} if address else {})}
    command = ['docker', 'version', '--format', '{{.Server.Version}}']
    return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False).returncode == 0


def _start() -> None:
    _clean_up()
    RUNTIME.mkdir()
    (RUNTIME / 'traces').write_text('\n'.join(path for path in TRACES if not Path(path).exists()), encoding='ascii')
    (RUNTIME / 'daemon.json').write_text('{}', encoding='ascii')  # not the machine's own, which may contradict
    log = RUNTIME / 'log'
    with log.open('w', encoding='utf-8') as output:
        # A session of its own: Ctrl-C is for its users, who then stop it in order.
        daemon = subprocess.Popen(DAEMON, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                  start_new_session=True)
    threading.Thread(target=daemon.wait, daemon=True).start()  # else it would stay a zombie when another run stops it
    until = time.monotonic() + START_SECONDS
    while not _answers(SOCKET):
        if daemon.poll() is not None or time.monotonic() > until:
            daemon.kill()
            raise NoEngine(f'{ADVICE}\ndockerd could not be started:\n{log.read_text(encoding="utf-8")}')
        time.sleep(0.2)


def _stop_unless_used(users: TextIO) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(users, fcntl.LOCK_UN)
        return

    daemon = psutil.Process(int((RUNTIME / 'pid').read_text(encoding='ascii')))
    daemon.terminate()
    daemon.wait(START_SECONDS)
    _clean_up()


def _clean_up() -> None:
    """Delete what an engine has written; one that was killed has not done so itself."""
    traces = RUNTIME / 'traces'
    for folder in (*(traces.read_text(encoding='ascii').split() if traces.exists() else ()), RUNTIME, DATA):
        shutil.rmtree(folder, ignore_errors=True)
