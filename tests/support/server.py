"""The real application in processes of its own, as gunicorn or the flask command starts it."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
import json
import os
from pathlib import Path
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Any, BinaryIO

import requests

from tests.support.schema_copy import is_empty, SchemaCopies
from tests.support.waiting import eventually
from tests.support.warm import WarmProcess

ROOT = Path(__file__).resolve().parents[2]
KEY = 'a-key-for-tests-only-of-32-bytes-and-more'
BROWSER = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'
COPIES = SchemaCopies()
KEPT = ('PATH', 'HOME', 'LANG', 'TZ')
KEPT_PREFIXES = ('COVERAGE_', 'MUTANT_')


def environment(url: str, **settings: str) -> dict[str, str]:
    """Return an environment for the application on a database, free of the caller's own."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    return {**kept, 'FLASK_SKIP_DOTENV': '1', 'PYTHONUNBUFFERED': '1', 'DATABASE_URL': url, 'VISITOR_KEY': KEY,
            'WORKERS': '2', 'THREADS': '4', **settings}


def flask(url: str, *arguments: str, timeout: float = 120, **settings: str) -> subprocess.CompletedProcess[str]:
    """Return the result of a flask command of the application."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = WarmProcess(['flask', '--app', 'app', *arguments], environment(url, **settings), stdout, stderr)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        output = [file.read().decode() for file in (stdout, stderr) if not file.seek(0)]
    return subprocess.CompletedProcess(process.args, code, *output)


def flask_command(*arguments: str) -> list[str]:
    """Return the command line of a flask command of the application."""
    return [sys.executable, '-m', 'flask', '--app', 'app', *arguments]


def start(arguments: Sequence[str], env: Mapping[str, str], stdout: BinaryIO, stderr: BinaryIO,
          prefix: Sequence[str] = (), start_new_session: bool = False) -> 'subprocess.Popen[bytes] | WarmProcess':
    """Start `python -m` with these arguments: warm, unless another program or a library has to start it."""
    if not prefix and 'LD_PRELOAD' not in env:
        return WarmProcess(arguments, env, stdout, stderr, start_new_session)
    return subprocess.Popen([*prefix, sys.executable, '-m', *arguments], env=env, cwd=ROOT, stdout=stdout,
                            stderr=stderr, start_new_session=start_new_session)


def bring_up(url: str) -> str:
    """Return a database's URL when its schema is the newest.

    The first empty one of a run gets it by the command that every instance calls, the next ones get a copy.
    """
    was_empty = is_empty(url)
    if was_empty and COPIES.put(url):
        return url
    result = flask(url, 'schema', 'ready')
    assert result.returncode == 0, result.stderr
    if was_empty:
        COPIES.keep(url)
    return url


def today() -> date:
    """Return the day that an application without TIME_ZONE counts now."""
    return datetime.now(timezone.utc).date()


class Server:
    """A running gunicorn with an application on a database."""

    def __init__(self, url: str, /, *prefix: str, application: str = 'app:create_app()',
                 config: str = 'gunicorn.conf.py', **settings: str) -> None:
        """Start gunicorn with an application on a database and a free port, and wait until it answers.

        The prefix is put before the command line, as in 'faketime', '-f', '@2026-01-01 23:59:58'.
        """
        self.url = url
        self.folder = tempfile.TemporaryDirectory(prefix='visitors-server-')
        arguments = ['gunicorn', '--config', config, application]
        with open(self._path('stdout'), 'wb') as stdout, open(self._path('stderr'), 'wb') as stderr:
            self.process = start(arguments, environment(url, PORT='0', **settings), stdout, stderr, prefix, True)
        self.address = self._wait_for_address()
        self.http = requests.Session()
        self.http.headers['User-Agent'] = BROWSER

    def __enter__(self) -> 'Server':
        """Return the running server."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """End the server and all its processes."""
        self.http.close()
        self.end()
        self.folder.cleanup()

    def get(self, path: str = '/', **headers: str) -> requests.Response:
        """Return the answer to a GET; header names are given with underscores for hyphens."""
        named = {name.replace('_', '-'): value for name, value in headers.items()}
        return self.http.get(self.address + path, headers=named, timeout=60)

    @property
    def endpoint(self) -> tuple[str, int]:
        """The server's address and port."""
        host, _, port = self.address.removeprefix('http://').rpartition(':')
        return host, int(port)

    def connect(self) -> socket.socket:
        """Return a new connection to the server."""
        return socket.create_connection(self.endpoint, timeout=60)

    def exchange(self, request: bytes) -> str:
        """Return all that the server answers to exactly these bytes; raise TimeoutError if it does not close."""
        with self.connect() as connection:
            connection.sendall(request)
            return b''.join(iter(lambda: connection.recv(65536), b'')).decode()

    def visits(self, **headers: str) -> int:
        """Visit the page and return the visit count that it shows."""
        answer = self.get('/', **headers)
        assert answer.status_code == 200, answer.text
        match = re.search(r'You have visited this page (\d+) time', answer.text)
        assert match, answer.text
        return int(match[1])

    def statistics(self) -> dict[str, Any]:
        """Return /stats.json, when what it is made from is newer than this call."""
        time.sleep(1.1)
        return dict(self.get('/stats.json').json())

    def stdout(self) -> str:
        """Return the server's stdout: its access log."""
        return self._path('stdout').read_text(encoding='utf-8')

    def access_log(self, path: str, least: int = 0) -> list[Mapping[str, Any]]:
        """Return the access log's lines for a path when there are so many; each is written after its answer."""
        def lines() -> list[Mapping[str, Any]]:
            return [line for line in json_lines(self.stdout()) if line.get('path') == path]

        eventually(lambda: len(lines()) >= least, f'{least} answers at {path} are in the log')
        return lines()

    def stderr(self) -> str:
        """Return the server's stderr."""
        return self._path('stderr').read_text(encoding='utf-8')

    def end(self, number: int = signal.SIGTERM, timeout: float = 100) -> int:
        """Send the first process a signal and return the exit code it ends with."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        finally:
            self._kill_group()

    def _kill_group(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def _path(self, name: str) -> Path:
        return Path(self.folder.name) / name

    def _wait_for_address(self) -> str:
        def address() -> str:
            has_ended = self.process.poll() is not None
            match = re.search(r'serving on (http://[0-9a-f.:[\]]+)', self.stderr())
            if has_ended and not match:
                raise RuntimeError(f'the server did not start: {self.stderr()}')
            return match[1] if match else ''

        try:
            return eventually(address, lambda: f'the server says where it serves: {self.stderr()}')
        except BaseException:
            self._kill_group()
            raise


def json_lines(text: str) -> list[Mapping[str, Any]]:
    """Return the objects of a log of JSON lines."""
    return [json.loads(line) for line in text.splitlines() if line.startswith('{')]
