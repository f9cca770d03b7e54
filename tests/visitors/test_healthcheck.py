"""The container's own health check, against a server that answers well, badly, late or not at all."""

from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
import socket
import subprocess
import sys
import threading

import pytest

from tests.support.postgresql import free_port
from tests.support.server import bring_up, ROOT, Server


class Failing(BaseHTTPRequestHandler):
    """Answers 500 to everything."""

    def do_GET(self) -> None:
        self.send_error(500)

    def log_message(self, *_arguments: object) -> None:
        """Write nothing."""


def check(host: str, port: int | str) -> subprocess.CompletedProcess[str]:
    """Return the result of the health check, started as the container starts it."""
    command = [sys.executable, '-m', 'visitors.healthcheck', host, str(port)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(('listens', 'asked'), [
    ('127.0.0.1', '127.0.0.1'), ('0.0.0.0', '0.0.0.0'), ('::', '::'), ('[::1]', '[::1]'), ('::1', '::1'),
])
def test_a_server_that_lives_is_healthy_wherever_it_listens(sqlite_url: str, listens: str, asked: str) -> None:
    with Server(bring_up(sqlite_url), HOST=listens, WORKERS='1') as server:
        result = check(asked, server.address.rpartition(':')[2])
        assert (result.returncode, result.stderr) == (0, '')
        assert [line['status'] for line in server.access_log('/livez', least=1)] == [200]


def test_a_server_that_answers_an_error_is_not_healthy() -> None:
    with HTTPServer(('127.0.0.1', 0), Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        result = check('127.0.0.1', server.server_port)
        server.shutdown()
    assert (result.returncode, result.stderr) == (1, '/livez answers 500\n')


def test_where_nobody_listens_nothing_is_healthy() -> None:
    result = check('127.0.0.1', free_port())
    assert result.returncode == 1
    assert '/livez does not answer: ConnectionRefusedError' in result.stderr


def test_a_server_that_is_silent_is_given_up_before_the_engine_gives_up_the_check() -> None:
    with closing(socket.create_server(('127.0.0.1', 0))) as silent:
        result = check('127.0.0.1', silent.getsockname()[1])
    assert result.returncode == 1
    assert '/livez does not answer: TimeoutError' in result.stderr
    dockerfile = (ROOT / 'Dockerfile').read_text(encoding='utf-8')
    assert '--timeout=5s' in dockerfile, 'the check needs 3 s and its start; the engine shall not cut it off'
