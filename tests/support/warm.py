"""Python programs that start warm: each is forked from a process that has imported the libraries of the program.

A Python that starts from nothing spends most of its start on these imports, half a second of a CPU each time, and the
tests start three thousand. A forked program is a process like any other, with its own environment, folder, output,
exit code and answer to signals, and it imports the modules of the project itself. Only /proc/PID/environ shows the
environment of the process that it was forked from. `make run`, containers and machines prove that programs start cold.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
import gc
from importlib import import_module
import json
import os
from pathlib import Path
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from threading import Lock, Thread
import time
from types import TracebackType
from typing import BinaryIO, TextIO

ROOT = Path(__file__).resolve().parents[2]
MESSAGE_BYTES = 200_000
WAITING = 100  # requests that wait while another one is served


class Libraries(Enum):
    """The modules that a warm process imports, by the programs that need them."""

    APPLICATION = ('alembic.command', 'alembic.ddl.postgresql', 'flask', 'flask.cli', 'flask_migrate',
                   'flask_sqlalchemy', 'gunicorn.app.wsgiapp', 'gunicorn.workers.gthread', 'psycopg2.extras',
                   'sqlalchemy.dialects.postgresql', 'sqlalchemy.dialects.sqlite')
    SDK = ('argparse', 'boto3', 'botocore.client', 'botocore.endpoint', 'botocore.handlers', 'botocore.paginate',
           'botocore.parsers', 'botocore.session', 'rich.console', 'rich.live', 'shtab', 'yaml')


class WarmProcess:
    """A program that was forked from a warm process, with the methods of subprocess.Popen that tests need."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], stdout: BinaryIO | None = None,
                 stderr: BinaryIO | None = None, start_new_session: bool = False, *, folder: Path = ROOT,
                 libraries: Libraries = Libraries.APPLICATION, server: str = '') -> None:
        """Start `python -m` with these arguments in a folder; output without a file can be read from this object.

        Another process than the one of the tests names the socket of the warm process that serves it.
        """
        self.args = [sys.executable, '-m', *arguments]
        self.returncode: int | None = None
        self._lock = Lock()
        self.stdout, output = _written_to(stdout)
        self.stderr, errors = _written_to(stderr)
        reading, writing = os.pipe()
        self._report = open(reading, encoding='ascii')
        request = [list(arguments), dict(env), str(folder), start_new_session]
        try:
            _ask(server or _warm(libraries).path, request, [output, errors, writing])
        finally:
            os.close(writing)
            for stream, descriptor in ((self.stdout, output), (self.stderr, errors)):
                if stream:
                    os.close(descriptor)
        self.pid = int(self._report.readline())

    def __enter__(self) -> 'WarmProcess':
        """Return the process."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Close its streams, and return after its end."""
        for stream in (self.stdout, self.stderr):
            if stream:
                stream.close()
        self.wait()

    def poll(self) -> int | None:
        """Return the exit code, or None while the program runs."""
        with self._lock:
            if self.returncode is None and select.select([self._report], [], [], 0)[0]:
                self.returncode = int(self._report.readline())
                self._report.close()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code after the program ends."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = None if deadline is None else deadline - time.monotonic()
            if timeout is not None and left is not None and left <= 0:
                raise subprocess.TimeoutExpired(self.args, timeout)
            with self._lock:
                report = None if self.returncode is not None else os.dup(self._report.fileno())
            if report is not None:
                # Another thread may read the report first, so this looks again from time to time.
                select.select([report], [], [], 1 if left is None else min(left, 1))
                os.close(report)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return the program's stdout and stderr after it ends and both are closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        readers = [_Reader(self.stdout), _Reader(self.stderr)]
        for reader in readers:
            reader.join(None if deadline is None else max(0, deadline - time.monotonic()))
            if timeout is not None and reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(None if deadline is None else max(0, deadline - time.monotonic()))
        return readers[0].text, readers[1].text

    def send_signal(self, number: int) -> None:
        """Send a signal, if the program runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask the program to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the program."""
        self.send_signal(signal.SIGKILL)


class _Reader(Thread):
    """The thread that reads a stream to its end."""

    def __init__(self, stream: TextIO | None) -> None:
        """Begin to read."""
        super().__init__(daemon=True)
        self._stream = stream
        self.text = ''
        self.start()

    def run(self) -> None:
        """Read everything."""
        if self._stream:
            self.text = self._stream.read()


def _written_to(file: BinaryIO | None) -> tuple[TextIO | None, int]:
    """Return the stream for a program's output, and its reading end if it is no file."""
    if file:
        return None, file.fileno()
    reading, writing = os.pipe()
    return open(reading, encoding='utf-8', errors='replace'), writing


def _ask(path: str, request: object, descriptors: Sequence[int]) -> None:
    """Ask a warm process for a program, whose output and report go to these descriptors."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(path)
        socket.send_fds(client, [json.dumps(request).encode()], list(descriptors))


class _Warm:
    """A process that others are forked from; it ends with this one."""

    def __init__(self, libraries: Libraries) -> None:
        """Start it."""
        self._folder = tempfile.TemporaryDirectory(prefix='visitors-warm-')
        self.path = f'{self._folder.name}/socket'
        reading, self._life = os.pipe()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self.path)
            listener.listen(WAITING)
            self._process = subprocess.Popen(
                [sys.executable, '-m', __spec__.name, libraries.name, str(listener.fileno())], cwd=ROOT,
                stdin=reading, pass_fds=[listener.fileno()])
        os.close(reading)


@cache
def _warm(libraries: Libraries) -> _Warm:
    return _Warm(libraries)


def socket_of(libraries: Libraries) -> str:
    """Return the socket by which other processes start warm programs while this process lives."""
    return _warm(libraries).path


def main() -> None:
    """Fork a program for each request until stdin ends; return in each of them, as what it is to be."""
    for name in Libraries[sys.argv[1]].value:
        import_module(name)
    gc.freeze()
    listener = socket.socket(fileno=int(sys.argv[2]))
    selector = selectors.DefaultSelector()
    life = os.dup(0)
    selector.register(life, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj == life:
                sys.exit()
            if key.data:
                selector.unregister(key.fileobj)
                _report_end(*key.data)
                continue

            with listener.accept()[0] as client:
                message, descriptors, _, _ = socket.recv_fds(client, MESSAGE_BYTES, 3)
            child = os.fork()
            if not child:
                for watched in [each.data for each in selector.get_map().values() if each.data]:
                    os.close(watched[1])
                    os.close(watched[2])
                selector.close()
                listener.close()
                os.close(life)
                _become(json.loads(message), descriptors)
                return
            *outputs, report = descriptors
            for each in outputs:
                os.close(each)
            os.write(report, f'{child}\n'.encode())
            handle = os.pidfd_open(child)
            selector.register(handle, selectors.EVENT_READ, (child, handle, report))


def _report_end(child: int, handle: int, report: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(handle)
    try:
        os.write(report, f'{code}\n'.encode())
    except BrokenPipeError:
        pass  # The test did not want to know.
    os.close(report)


def _become(request: tuple[list[str], dict[str, str], str, bool], descriptors: Sequence[int]) -> None:
    arguments, environment, folder, new_session = request
    if new_session:
        os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    stdout, stderr, report = descriptors
    for number, descriptor in enumerate((nothing, stdout, stderr)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.close(report)
    for stream in (sys.stdout, sys.stderr):
        getattr(stream, 'reconfigure')(line_buffering=True, write_through=True)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    sys.path[:1] = [folder, *filter(None, environment.get('PYTHONPATH', '').split(os.pathsep))]
    sys.argv = arguments


if __name__ == '__main__':
    main()
    runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
