"""A Docker engine for tests: the one that answers, or one of their own that is gone when the last of them ends."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import fcntl
import os
from pathlib import Path
import shutil
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.images.cache import cache_folder, locked

# Short paths: a socket's may have 108 bytes.
RUNTIME = Path('/run/visitors-engine')
SOCKET = f'unix://{RUNTIME}/docker.sock'
START_SECONDS = 60
ADVICE = ('No Docker engine can be used, so the image cannot be tested. Start Docker and let this user use it, or run '
          'the tests as root where the packages docker.io and iptables are installed; `make test` installs them.')


class CommandFailed(AssertionError):
    """A command of Docker's ended with another code than 0; the message holds its output."""


class Engine:
    def __init__(self, address: str, started_by_tests: bool) -> None:
        """Use the engine at this address; an empty one leaves the choice to the docker command."""
        self.started_by_tests = started_by_tests
        self.environment = {**os.environ, **({'DOCKER_HOST': address} if address else {})}
        server = urlsplit(self.environment.get('DOCKER_HOST', ''))
        self.host = server.hostname if server.scheme == 'tcp' and server.hostname else '127.0.0.1'

    @property
    def publish_address(self) -> str:
        """The address that containers' ports are published at: an engine elsewhere has another loopback."""
        return '127.0.0.1' if self.host == '127.0.0.1' else '0.0.0.0'

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
    """Give the engine that the docker command finds, or else one started for the time of the tests."""
    if not shutil.which('docker'):
        pytest.fail(ADVICE, pytrace=False)
    if _answers(''):
        yield Engine('', started_by_tests=False)
        return

    with _engine_of_tests():
        yield Engine(SOCKET, started_by_tests=True)


@contextmanager
def _engine_of_tests() -> Iterator[None]:
    """Share one engine among all runs on this machine: two would tear each other's firewall rules down."""
    if os.geteuid() or not shutil.which('dockerd'):
        pytest.fail(ADVICE, pytrace=False)
    changing = cache_folder() / 'engine.lock'
    with (cache_folder() / 'engine.users').open('w') as users:
        with locked(changing):
            if not _answers(SOCKET):
                _start()
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield
        finally:
            with locked(changing):
                _stop_unless_used(users)


def _answers(address: str) -> bool:
    environment = {**os.environ, **({'DOCKER_HOST': address} if address else {})}
    command = ['docker', 'version', '--format', '{{.Server.Version}}']
    return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False).returncode == 0


def _start() -> None:
    _clean_up()
    RUNTIME.mkdir()
    settings = RUNTIME / 'daemon.json'
    settings.write_text('{}', encoding='ascii')  # the machine's own may name another socket and be refused
    log = RUNTIME / 'log'
    with log.open('w', encoding='utf-8') as output:
        # A session of its own: Ctrl-C is for the tests, which then stop it in order.
        daemon = subprocess.Popen(
            ['dockerd', '--config-file', str(settings), '--host', SOCKET, '--pidfile', str(RUNTIME / 'pid'),
             '--exec-root', str(RUNTIME / 'exec'), '--data-root', str(_data())],
            stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + START_SECONDS
    while not _answers(SOCKET):
        if daemon.poll() is not None or time.monotonic() > until:
            daemon.kill()
            pytest.fail(f'{ADVICE}\ndockerd could not be started:\n{log.read_text(encoding="utf-8")}', pytrace=False)
        time.sleep(0.2)


def _stop_unless_used(users: Any) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(users, fcntl.LOCK_UN)
        return

    process = int((RUNTIME / 'pid').read_text(encoding='ascii'))
    subprocess.run(['kill', str(process)], check=True)
    until = time.monotonic() + START_SECONDS
    while Path(f'/proc/{process}/exe').exists() and time.monotonic() < until:
        time.sleep(0.1)
    _clean_up()


def _clean_up() -> None:
    """Delete what an engine has written, also one that was killed; its containers' file systems are still mounted."""
    for folder in (RUNTIME, _data()):
        mounted = [line.split()[1] for line in Path('/proc/mounts').read_text(encoding='utf-8').splitlines()]
        for point in sorted((point for point in mounted if point.startswith(f'{folder}/')), reverse=True):
            subprocess.run(['umount', '--lazy', point], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def _data() -> Path:
    return cache_folder() / 'engine'
