"""A Docker engine: the one of this host, or one of our own that ends with its last user."""

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

# Only root can start it, so one serves the whole host, whichever user's cache is in use.
RUNTIME = Path('/run/rehearsal-engine')
DATA = Path('/var/lib/rehearsal-engine')
CHANGING, USERS = Path('/run/rehearsal-engine.changing'), Path('/run/rehearsal-engine.users')
SOCKET = f'unix://{RUNTIME}/docker.sock'
# An empty folder hides the containerd of a host that runs one: that one does not see this engine's mounts.
HIDE_CONTAINERD = 'mkdir --parents /run/containerd; mount -t tmpfs none /run/containerd; exec "$@"'
# Its mounts are its own, so they end with it. It leaves the host's firewall and forwarding as they are: its proxy
# publishes ports, and containers reach each other, but nothing outside unless they use the host's network.
DAEMON = ('unshare', '--mount', '--propagation=slave', 'sh', '-euc', HIDE_CONTAINERD, 'sh',
          'dockerd', f'--config-file={RUNTIME}/daemon.json', f'--host={SOCKET}', f'--pidfile={RUNTIME}/pid',
          f'--exec-root={RUNTIME}/exec', f'--data-root={DATA}',
          '--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false', '--ip-masq=false')
# Folders that it makes at fixed places, which no option changes.
TRACES = ('/etc/docker', '/opt/containerd', '/run/containerd', '/run/docker')
START_SECONDS = 60
DEFAULT_SOCKET = 'unix:///var/run/docker.sock'
ADVICE = ('No Docker engine is available. Start Docker and allow this user to use it, or run this as root on a host '
          'with the packages docker.io and iptables.')


class NoEngine(RehearsalError):
    """The error that no Docker engine answers and none can be started."""


class CommandFailed(RehearsalError):
    """The failure of a Docker command; the message holds its output."""


class Engine:
    """A Docker engine, used by commands and by Docker's library for Python."""

    def __init__(self, address: str, is_own: bool) -> None:
        """Use the engine at this URL; an empty one leaves the choice to the docker command."""
        self.is_own = is_own
        self.environment = {**os.environ, **({'DOCKER_HOST': address} if address else {})}
        server = urlsplit(self.environment.get('DOCKER_HOST', ''))
        self.host = server.hostname if server.scheme == 'tcp' and server.hostname else '127.0.0.1'

    @property
    def build_options(self) -> list[str]:
        """The options with which a build reaches package indexes."""
        return ['--network=host'] if self.is_own else []

    @property
    def publish_address(self) -> str:
        """The address at which ports of containers are published; an engine on another host has another loopback."""
        return '127.0.0.1' if self.host == '127.0.0.1' else '0.0.0.0'

    def client(self) -> docker.DockerClient:
        """Return a client of Docker's library; the engine must be on this host."""
        address = self.environment.get('DOCKER_HOST') or DEFAULT_SOCKET
        if not address.startswith('unix://'):
            raise NoEngine(f'DOCKER_HOST={address}: use an engine of this host, at a unix:// URL')
        return docker.DockerClient(address, version='auto', timeout=300, max_pool_size=64)

    def docker(self, *arguments: str, **options: Any) -> str:
        """Return the output of a docker command."""
        return self._output(['docker', *arguments], **options).stdout.strip()

    def logs(self, container: str) -> str:
        """Return both streams of a container's output."""
        result = self._output(['docker', 'logs', container])
        return result.stdout + result.stderr

    def compose(self, *arguments: str, environment: Mapping[str, str], **options: Any) -> str:
        """Return both streams of the output of a compose command."""
        program = str(Path(sys.executable).with_name('docker-compose'))
        result = self._output([program, *arguments], environment, **options)
        return result.stdout + result.stderr

    def _output(self, command: list[str], environment: Mapping[str, str] | None = None,
                **options: Any) -> subprocess.CompletedProcess[str]:
        options = {'timeout': 300, **options}
        result = subprocess.run(command, env={**self.environment, **(environment or {})}, capture_output=True,
                                text=True, check=False, **options)
        if result.returncode:
            raise CommandFailed(f'{" ".join(command)} failed with {result.returncode}:\n'
                                f'{result.stdout}{result.stderr}')
        return result


@contextmanager
def usable_engine() -> Iterator[Engine]:
    """Give the engine that the docker command finds, or one of our own for the time of the block."""
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
    """Give all engines that run, because an earlier run may have used another one than this one would."""
    with ExitStack() as stack:
        engines = [Engine('', is_own=False)] if shutil.which('docker') and _answers('') else []
        if os.geteuid() == 0 and shutil.which('docker') and _answers(SOCKET):
            stack.enter_context(_own_engine(lambda: None))
            engines.append(Engine(SOCKET, is_own=True))
        yield engines


@contextmanager
def _own_engine(start: Callable[[], None]) -> Iterator[None]:
    """Share one engine of our own among all runs on this host; the first starts it, the last stops it."""
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
    (RUNTIME / 'daemon.json').write_text('{}', encoding='ascii')  # the host's may contradict the options
    log = RUNTIME / 'log'
    with log.open('w', encoding='utf-8') as output:
        # A session of its own, because Ctrl-C is for its users, which then stop it in order.
        daemon = subprocess.Popen(DAEMON, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                  start_new_session=True)
    # Without a waiting thread it would become a zombie when another run stops it.
    threading.Thread(target=daemon.wait, daemon=True).start()
    until = time.monotonic() + START_SECONDS
    while not _answers(SOCKET):
        if daemon.poll() is not None or time.monotonic() > until:
            daemon.kill()
            raise NoEngine(f'{ADVICE}\ndockerd does not start:\n{log.read_text(encoding="utf-8")}')
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
    """Delete the files of an engine; one that was killed leaves them."""
    traces = RUNTIME / 'traces'
    for folder in (*(traces.read_text(encoding='ascii').split() if traces.exists() else ()), RUNTIME, DATA):
        shutil.rmtree(folder, ignore_errors=True)
