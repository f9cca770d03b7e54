"""The separation of requests from the page of all, of slow clients from others, and of clients from the log."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
import re
import shutil
import socket
import subprocess
import time

import pytest
import requests

from tests.support.server import bring_up, BROWSER, environment, flask_command, json_lines, ROOT, Server
from tests.support.waiting import eventually

# Every header by which a proxy, or a client that plays one, says under which address it publishes an application.
EVIL = '\r\n'.join([
    'Host: evil.example', 'SCRIPT_NAME: {script_name}', 'PATH_INFO: /evil.example', 'X-Script-Name: /evil.example',
    'X-Forwarded-Host: evil.example', 'X-Forwarded-Prefix: /evil.example', 'X-Forwarded-Proto: https',
    'X-Original-URL: /evil.example', 'Forwarded: host=evil.example;proto=https', 'Referer: http://evil.example/'])

HEAD = b'GET / HTTP/1.1\r\nHost: a\r\n'
THREADS = 2
MANY = 8 * THREADS
# Half a second for a request instead of ten, and more for a stop than this test waits.
IMPATIENT = """
from gunicorn.workers import gthread
from visitors.worker import BufferingWorker

graceful_timeout = 120
gthread.STOP_KEEPALIVE_LINGER = 0.2
BufferingWorker.receive_seconds = 0.5
"""
# Requests that no server can read, or only in part, each with a word that only its sender may see again.
UNREADABLE = {
    'a long cookie': HEAD + b'Cookie: secret=' + b'x' * 9000 + b'\r\n\r\n',
    'a blank in the path': b'GET /a b?secret HTTP/1.1\r\nHost: a\r\n\r\n',
    'a blank in the query': b'GET /?mail=secret 2 HTTP/1.1\r\nHost: a\r\n\r\n',
    'a blank in a name': HEAD + b'Coo kie: secret\r\n\r\n',
    'a method': b'secret / HTTP/1.1\r\nHost: a\r\n\r\n',
    'a version': b'GET / HTTP/secret\r\nHost: a\r\n\r\n',
    'a coding': b'POST /?secret HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: secret\r\n\r\n',
    'a chunk': b'POST /?secret HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n',
    'a length': HEAD + b'Content-Length: secret\r\n\r\n',
    'an expectation': HEAD + b'Expect: secret\r\n\r\n',
    'a folded line': HEAD + b' secret: 1\r\n\r\n',
    'a line without a colon': HEAD + b'secret\r\n\r\n',
    'bytes': HEAD + b'X: \xff\x00secret\r\n\r\n',
    'a handshake': b'\x16\x03\x01\x02\x00secret\r\n\r\n',
    'an address': b'GET http://[secret/ HTTP/1.1\r\nHost: a\r\n\r\n',
    'two hosts': b'GET /?secret HTTP/1.1\r\nHost: a\r\nHost: secret\r\n\r\n',
    'a line of the PROXY protocol': b'PROXY TCP4 198.51.100.7 198.51.100.8 1 2\r\n' + HEAD + b'\r\n',
    'an endless head': HEAD + b'X: secret' + b'x' * 70000,
    'half a head': b'GET /?secret HTTP/1.1\r\nHost: a',
}


@pytest.fixture(scope='module')
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the URL of an embedded database with a schema."""
    return bring_up(f'sqlite:///{tmp_path_factory.mktemp("front") / "visitors.sqlite3"}')


@pytest.fixture(scope='module')
def server(url: str) -> Iterator[Server]:
    """Give a server of one process with two threads."""
    with Server(url, WORKERS='1', THREADS=str(THREADS)) as running:
        yield running


@pytest.mark.parametrize(('target', 'script_name'), [
    ('//evil.example/', '//evil.example'), ('/', ''), ('http://evil.example/', ''), ('/?next=//evil.example/', ''),
])
def test_nothing_of_one_request_is_in_the_page_of_the_next_visitor(server: Server, target: str,
                                                                   script_name: str) -> None:
    server.statistics()  # the kept page is too old now, so the next request renders it
    head = f'GET {target} HTTP/1.1\r\n{EVIL.format(script_name=script_name)}\r\nUser-Agent: {BROWSER}\r\n'
    assert server.exchange(f'{head}Connection: close\r\n\r\n'.encode()).startswith('HTTP/1.1 ')
    page = server.get('/').text
    assert 'href="/stats.json"' in page
    assert 'evil.example' not in page and 'https:' not in page


@pytest.mark.parametrize('strips', [True, False], ids=['a proxy that strips it', 'a proxy that leaves it'])
def test_below_a_prefix_all_links_lead_there_and_the_page_is_counted(url: str, strips: bool) -> None:
    before = '' if strips else '/below/here'
    with Server(url, URL_PREFIX='/below/here/', SCRIPT_NAME='/elsewhere') as running:
        first, second = running.visits(), running.visits()
        assert second == first + 1
        for path in ('/', '/nothing'):
            page = running.get(before + path).text
            assert page.count('="/') == page.count('="/below/here/') > 2
        assert running.get(f'{before}/static/style.css').status_code == 200
        assert running.get(f'{before}/readyz').json()['ready'] is True
        assert running.get('/below/here').status_code == 200
        assert running.get('/below/hereafter').status_code == 404


@pytest.mark.parametrize('sent', [
    b'', b'GET', HEAD, HEAD + b'Cookie: ' + b'x' * 4000, b'GET /?' + b'x' * 70000,
    b'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n',
    b'POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n',
    HEAD + b'\r\n' + HEAD, HEAD + b'Connection: close\r\n\r\n', b'GET / HTTP/1.0\r\n\r\n', b'\r\n\r\n',
], ids=['nothing', 'half a word', 'half a head', 'half a line', 'too much', 'no body', 'no chunk',
        'a request and a half', 'a request and no end', 'an old request and no end', 'nonsense and no end'])
def test_as_many_slow_clients_as_there_are_threads_keep_nobody_waiting(server: Server, sent: bytes) -> None:
    with ExitStack() as connections:
        for _ in range(MANY):
            connections.enter_context(server.connect()).sendall(sent)
        # With a thread for each, or with one wait after another, this would take tens of seconds.
        for path in ('/livez', '/readyz', '/'):
            assert server.get(path).status_code == 200


def test_clients_that_do_not_read_their_answers_keep_nobody_waiting(server: Server) -> None:
    with ExitStack() as connections:
        for _ in range(MANY):
            client = connections.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.settimeout(1)
            client.connect(server.endpoint)
            try:
                for _ in range(20):
                    client.sendall((HEAD + b'\r\n') * 20)
            except (ConnectionError, TimeoutError):
                pass  # it has been disconnected, which is right
        assert server.get('/livez').status_code == 200
    assert 'Traceback' not in server.stderr()


@pytest.fixture
def impatient(url: str, tmp_path: Path) -> Iterator[Server]:
    """Give a server that waits half a second for a request."""
    config = tmp_path / 'impatient.conf.py'
    shutil.copy(ROOT / 'gunicorn.conf.py', config)
    with config.open('a', encoding='utf-8') as file:
        file.write(IMPATIENT)
    with Server(url, config=str(config), WORKERS='1', THREADS=str(THREADS)) as running:
        yield running


def test_a_request_that_never_ends_is_given_up_and_an_idle_connection_is_kept(impatient: Server) -> None:
    with impatient.connect() as silent, impatient.connect() as half, impatient.connect() as idle:
        half.sendall(HEAD)
        idle.sendall(HEAD + b'\r\n')
        assert idle.recv(12) == b'HTTP/1.1 200'
        assert half.recv(1) == b'' and silent.recv(1) == b'', 'the server waits for ever'
        trickle(half_of=impatient)
        idle.sendall(HEAD + b'\r\n')
        assert answers(idle, 2), 'a load balancer would find its idle connections closed'


def trickle(half_of: Server) -> None:
    """Send a head byte by byte, and see that each byte does not begin the time limit again."""
    with half_of.connect() as client:
        started = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - started < 100:
                client.sendall(b'X')
                time.sleep(0.1)


def answers(client: socket.socket, number: int) -> bool:
    """Return whether so many answers arrive on a connection."""
    text = b''
    while text.count(b'</html>') < number:
        part = client.recv(65536)
        if not part:
            return False
        text += part
    return True


def test_requests_in_one_packet_and_in_many_are_all_answered(server: Server) -> None:
    with server.connect() as client:
        client.sendall((HEAD + b'\r\n') * 3)
        assert answers(client, 3)
        for byte in HEAD + b'\r\n':
            client.sendall(bytes([byte]))
        assert answers(client, 1)


def test_a_stop_waits_for_no_silent_client(impatient: Server) -> None:
    with impatient.connect(), impatient.connect() as half:
        half.sendall(HEAD)
        assert impatient.get('/livez').status_code == 200
        assert impatient.end(timeout=60) == 0, 'it waits for its whole grace period of 120 s'


@pytest.fixture(scope='module')
def development(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, Path]]:
    """Give host and port of the development server, and the file of its log."""
    log = tmp_path_factory.mktemp('development') / 'log'
    with log.open('wb') as output:
        process = subprocess.Popen(flask_command('run', '--port', '0'), cwd=ROOT, env=environment(url),
                                   stdout=output, stderr=output)
    try:
        def place() -> re.Match[str] | None:
            assert process.poll() is None, log.read_text(encoding='utf-8')
            return re.search(r'Running on http://([0-9.]+):([0-9]+)', log.read_text(encoding='utf-8'))

        match = eventually(place, 'the development server says where it serves')
        assert match
        yield match[1], int(match[2]), log
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize('request_bytes', UNREADABLE.values(), ids=UNREADABLE)
def test_a_request_that_cannot_be_read_leaves_neither_address_nor_content_in_the_log(
        server: Server, development: tuple[str, int, Path], request_bytes: bytes) -> None:
    host, port, log = development
    for connection in (server.connect(), socket.create_connection((host, port), timeout=60)):
        with connection as client:
            client.sendall(request_bytes)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
    assert server.get('/livez').status_code == 200
    assert requests.get(f'http://{host}:{port}/livez', timeout=60).status_code == 200
    for text in (server.stdout(), server.stderr(), log.read_text(encoding='utf-8')):
        said = re.sub(r'(?:Listening at:|serving on|Running on) http://127\.0\.0\.1', '', text)
        assert 'secret' not in said
        assert '127.0.0.1' not in said and '198.51.100' not in said


def test_a_refused_request_leaves_one_line_that_says_which_kind_it_was(server: Server) -> None:
    server.exchange(UNREADABLE['a long cookie'])
    lines = eventually(lambda: [line for line in json_lines(server.stderr()) if 'refused' in str(line['message'])],
                       'the refusal is in the log')
    line = lines[-1]
    assert (line['level'], line['message']) == ('warning', 'refused a request: LimitRequestHeaders')


def test_the_development_server_logs_the_path_alone(development: tuple[str, int, Path]) -> None:
    host, port, log = development
    assert requests.get(f'http://{host}:{port}/version?mail=ada', timeout=60).status_code == 200
    text = log.read_text(encoding='utf-8')
    assert 'GET /version 200\n' in text
    assert 'ada' not in text
