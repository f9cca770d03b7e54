"""A password that the database replaces while the application serves: no visit is lost."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
import socket
import threading

import pytest

from app import create_app
from tests.support.postgresql import execute, PostgresServer
from tests.support.server import bring_up, BROWSER, environment
from visitors.settings import Settings

ROLE = 'rotated'
# A limit that no machine reaches here, because the test is about the order of the steps and not about their time.
PATIENT_SECONDS = 60.0


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Give a server that asks the application's role for a password."""
    server = PostgresServer()
    (server.data / 'pg_hba.conf').write_text(
        f'host all owner 127.0.0.1/32 trust\nhost all {ROLE} 127.0.0.1/32 scram-sha-256\n', encoding='ascii')
    execute(server.url('postgres'), 'SELECT pg_reload_conf()')
    yield server
    server.remove()


def test_a_visit_whose_sign_in_is_refused_gets_the_renewed_password_and_is_counted(
        server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('visitors.deadline.REQUEST_SECONDS', 'visitors.passwordfile.RENEWAL_SECONDS'):
        monkeypatch.setattr(name, PATIENT_SECONDS)
    url = bring_up(server.create_database())
    execute(url, f"CREATE ROLE {ROLE} LOGIN PASSWORD 'first' IN ROLE pg_read_all_data, pg_write_all_data")
    execute(url, f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}')
    password, listens_at = tmp_path / 'password', tmp_path / 'socket'
    password.write_text('first', encoding='utf-8')
    application = create_app(Settings.from_environ(environment(
        url.replace('owner@', f'{ROLE}@'), DATABASE_PASSWORD_FILE=str(password),
        DATABASE_PASSWORD_SOCKET=str(listens_at)), tmp_path))
    client = application.test_client()
    client.environ_base['HTTP_USER_AGENT'] = BROWSER
    assert client.get('/').status_code == 200
    requests: list[bytes] = []

    def renew(listener: socket.socket) -> None:
        requests.append(listener.recv(100))
        password.write_text('second', encoding='utf-8')

    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        listener.bind(str(listens_at))
        listener.settimeout(PATIENT_SECONDS)
        thread = threading.Thread(target=renew, args=(listener,))
        thread.start()
        execute(url, f"ALTER ROLE {ROLE} PASSWORD 'second'")
        assert client.get('/').status_code == 200 and not requests, 'an open connection goes on'
        execute(url, f"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = '{ROLE}'")
        answer = client.get('/')
        thread.join()
    assert (answer.status_code, requests) == (200, [b'refused'])
    assert 'You have visited this page 3 times' in answer.text
