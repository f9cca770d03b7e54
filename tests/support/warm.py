"""Python programs that start warm: each is forked from a process that has imported the libraries of the application.

A Python that starts from nothing spends most of its start on these imports, half a second of a CPU each time, and the
tests start two thousand. A forked program is a process like any other, with its own environment, folder, output, exit
code and answer to signals, and it imports the modules of the project itself. How programs start cold is tested by
`make run`, by containers and by machines.
"""

from collections.abc import Mapping, Sequence
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
from threading import Lock
import time
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ('alembic.command', 'alembic.ddl.postgresql', 'flask', 'flask.cli', 'flask_migrate', 'flask_sqlalchemy',
             'gunicorn.app.wsgiapp', 'gunicorn.workers.gthread', 'psycopg2.extras', 'sqlalchemy.dialects.postgresql',
             'sqlalchemy.dialects.sqlite')
MESSAGE_BYTES = 200_000


class WarmProcess:
    """A program that was forked from the warm process, with the methods of subprocess.Popen that tests need."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], stdout: BinaryIO, stderr: BinaryIO,
                 start_new_session: bool = False) -> None:
        """Start `python -m` with these arguments in the root folder of the project."""
        self.args = [sys.executable, '-m', *arguments]
        self.returncode: int | None = None
        self._lock = Lock()
        reading, writing = os.pipe()
        self._report = open(reading, encoding='ascii')
        try:
            _warm().start([list(arguments), dict(env), start_new_session],
                          [stdout.fileno(), stderr.fileno(), writing])
        finally:
            os.close(writing)
        self.pid = int(self._report.readline())

    def poll(self) -> int | None:
        """Return the exit code, or None while the program runs."""
        with self._lock:
            if self.returncode is None and select.select([self._report], [], [], 0)[0]:
                self.returncode = int(self._report.readline())
                self._report.close()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when the program has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            left = None if deadline is None else deadline - time.monotonic()
            if timeout is not None and left is not None and left <= 0:
                raise subprocess.TimeoutExpired(self.args, timeout)
            # Another thread may read the report first, so this looks again from time to time.
            select.select([self._report], [], [], 1 if left is None else min(left, 1))
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if the program runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the program."""
        self.send_signal(signal.SIGKILL)


class _Warm:
    def __init__(self) -> None:
        """Start the process that the others are forked from; it ends with this one."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = Lock()
        with theirs:
            self._process = subprocess.Popen([sys.executable, '-m', 'tests.support.warm'], cwd=ROOT,
                                             stdin=theirs.fileno())

    def start(self, request: object, descriptors: Sequence[int]) -> None:
        """Ask for a program, whose output and report go to these descriptors."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(descriptors))


@cache
def _warm() -> _Warm:
    return _Warm()


def main() -> None:
    """Fork a program for each request until there are no more; return in each of them, as what it is to be."""
    for name in LIBRARIES:
        import_module(name)
    gc.freeze()
    requests = socket.socket(fileno=os.dup(0))
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data:
                selector.unregister(key.fileobj)
                _report_end(*key.data)
                continue

            message, descriptors, _, _ = socket.recv_fds(requests, MESSAGE_BYTES, 3)
            if not message:
                sys.exit()
            child = os.fork()
            if not child:
                for watched in [each.data for each in selector.get_map().values() if each.data]:
                    os.close(watched[1])
                    os.close(watched[2])
                selector.close()
                requests.close()
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


def _become(request: tuple[list[str], dict[str, str], bool], descriptors: Sequence[int]) -> None:
    arguments, environment, new_session = request
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
    sys.argv = arguments


if __name__ == '__main__':
    main()
    runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
