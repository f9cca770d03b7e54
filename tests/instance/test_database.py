"""The database of a machine: a real server that its containers reach by the settings of the Parameter Store."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
import json
from pathlib import Path
import socket
import tempfile
import threading

import psycopg2
import pytest

from instance import password_renewal, probe
from instance.urls import AUTHORITIES
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.machine_folder import FolderMachine, last_line, machine_in, STEP_SECONDS
from tests.support.made_up_authority import Authority
from tests.support.parameters import KEY, put_secrets, put_settings
from tests.support.postgresql import execute, free_port, give_to_its_user, PostgresServer, value
from tests.support.waiting import eventually

ADDRESS = '127.0.0.1'


@pytest.fixture(scope='module')
def authority() -> Authority:
    """Give the authority of the server's certificate."""
    return Authority('authority of the database')


@pytest.fixture(scope='module')
def encrypted(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """Give a server that proves itself by a certificate of its own authority."""
    folder = tmp_path_factory.mktemp('certificate')
    settings = {'ssl': 'on'}
    for name, text in zip(('ssl_key_file', 'ssl_cert_file'), authority.certify(ADDRESS), strict=True):
        path = folder / name
        path.write_text(text, encoding='ascii')
        path.chmod(0o600)
        give_to_its_user(path)
        settings[name] = str(path)
    for above in (folder, *folder.parents[:3]):
        above.chmod(above.stat().st_mode | 0o011)
    server = PostgresServer(ADDRESS, settings)
    (server.data / 'pg_hba.conf').write_text(
        f'host all owner {ADDRESS}/32 trust\nhost all all {ADDRESS}/32 scram-sha-256\n', encoding='ascii')
    execute(server.url('postgres'), 'SELECT pg_reload_conf()')
    yield server
    server.remove()


def test_every_container_verifies_the_database_by_the_authorities_of_the_bake(
        machine: FolderMachine, aws: EmbeddedRehearsal, authority: Authority, encrypted: PostgresServer, tmp_path:
        Path) -> None:
    url = f'{encrypted.create_database()}?sslmode=verify-full&sslrootcert='
    (tmp_path / 'other.pem').write_text(Authority('another one').certificate, encoding='ascii')
    with pytest.raises(psycopg2.OperationalError, match='certificate verify failed'):
        psycopg2.connect(f'{url}{tmp_path}/other.pem')
    machine.write(AUTHORITIES.lstrip('/'), authority.certificate)
    put_settings(aws, DATABASE_URL=url.removesuffix('&sslrootcert='), PORT=str(free_port()), PURGE_OLDER_THAN='30',
                 WORKERS='1')
    put_secrets(aws, VISITOR_KEY=KEY)
    for step in ('config', 'migrate', 'purge'):
        result = machine.run(step)
        assert result.returncode == 0, result.stdout
    with machine.start('application', 'start') as process:
        waited = machine.run('application', 'wait')
        ready = machine.run('ready')
        machine.run('application', 'stop')
        process.communicate(timeout=STEP_SECONDS)
    assert waited.returncode == ready.returncode == 0, waited.stdout + ready.stdout
    runs = [call for call in machine.calls('docker') if call[0] == 'run']
    assert len(runs) == 3
    for call in runs:
        assert f'--mount=type=bind,source={machine.root}{AUTHORITIES},target={AUTHORITIES},readonly' in call


def test_an_ami_without_authorities_refuses_to_verify_at_once(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    put_settings(aws, DATABASE_URL=f'postgresql://of@db/visitors?sslmode=verify-full&sslrootcert={AUTHORITIES}')
    put_secrets(aws, VISITOR_KEY=KEY)
    result = machine.run('config')
    assert result.returncode == 1
    assert last_line(result.stdout).endswith(f'sslrootcert={AUTHORITIES} is not on this instance; bake the AMI again')


class Rotated:
    def __init__(self, machine: FolderMachine, aws: EmbeddedRehearsal, server: PostgresServer, role: str) -> None:
        """Bring up a database whose application role has its name and its password in one secret."""
        self.machine, self.role, self._cloud = machine, role, aws
        self.url = server.create_database()
        self.port = free_port()
        database = self.url.rpartition('/')[2]
        put_settings(aws, DATABASE_URL=server.url(database, role), MIGRATION_DATABASE_URL=self.url,
                     PORT=str(self.port), WORKERS='1', THREADS='1')
        put_secrets(aws, VISITOR_KEY=KEY, DATABASE_PASSWORD=json.dumps({'username': role, 'password': 'first'}))
        for step in ('config', 'migrate'):
            result = machine.run(step)
            assert result.returncode == 0, result.stdout

    def keep(self, user: str, password: str) -> None:
        """Change the user and password in Secrets Manager."""
        self._cloud.client('secretsmanager').put_secret_value(
            SecretId='database_password', SecretString=json.dumps({'username': user, 'password': password}))

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve during the block."""
        with self.machine.start('application', 'start') as process:
            try:
                waited = self.machine.run('application', 'wait')
                assert waited.returncode == 0, waited.stdout
                yield
            finally:
                self.machine.run('application', 'stop')
                process.communicate(timeout=STEP_SECONDS)

    def visit(self) -> int:
        """Return the status of the answer to a visit."""
        return probe.get(self.port, '/', probe.BROWSER)[0]

    def disconnect(self, role: str) -> None:
        """End the connections of a role."""
        execute(self.url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")


def test_a_rotation_by_alternating_users_changes_the_name_with_the_password(
        machine: FolderMachine, aws: EmbeddedRehearsal, encrypted: PostgresServer) -> None:
    rotated = Rotated(machine, aws, encrypted, 'alternating')
    with rotated.serving():
        assert rotated.visit() == 200
        execute(rotated.url, "CREATE ROLE alternating_clone LOGIN PASSWORD 'second' IN ROLE alternating")
        rotated.keep('alternating_clone', 'second')
        result = machine.run('token')
        assert result.returncode == 0, result.stdout
        rotated.disconnect('alternating')
        eventually(lambda: rotated.visit() == 200, 'a visit is counted with the other user')
        assert value(rotated.url, "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'alternating_clone'")
    # A machine that boots now does not know the earlier name.
    for step in ('config', 'migrate'):
        assert machine.run(step).returncode == 0
    with rotated.serving():
        assert rotated.visit() == 200


@pytest.fixture
def near(aws: EmbeddedRehearsal) -> Iterator[FolderMachine]:
    """Give a machine in a folder with a short name, because the address of a socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix='near-') as folder:
        with machine_in(Path(folder), aws) as machine:
            yield machine


@contextmanager
def renewing(machine: FolderMachine, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Run the step token on each request, as the unit of the socket does."""
    entered = machine.enter(monkeypatch)
    requests: list[bytes] = []

    def listen(listener: socket.socket) -> None:
        while request := listener.recv(100):
            requests.append(request)
            password_renewal.run(entered)

    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        listener.bind(str(entered.requests / 'password'))
        thread = threading.Thread(target=listen, args=(listener,))
        thread.start()
        try:
            yield requests
        finally:
            listener.sendto(b'', str(entered.requests / 'password'))
            thread.join()


def test_a_rotated_password_is_asked_for_when_it_is_refused_and_visits_are_counted_again(
        near: FolderMachine, aws: EmbeddedRehearsal, encrypted: PostgresServer,
        monkeypatch: pytest.MonkeyPatch) -> None:
    rotated = Rotated(near, aws, encrypted, 'single')
    with rotated.serving(), renewing(near, monkeypatch) as requests:
        assert rotated.visit() == 200
        execute(rotated.url, "ALTER ROLE single PASSWORD 'second'")
        assert rotated.visit() == 200, 'an open connection goes on'
        rotated.keep('single', 'second')
        assert not requests
        rotated.disconnect('single')
        # The visit itself waits for the new password for two seconds, which may be too short for a busy machine.
        eventually(lambda: rotated.visit() == 200, 'a visit is counted with the new password')
        assert requests
        renewed = json.loads(near.secret('application', 'DATABASE_PASSWORD').read_text())
        assert renewed['password'] == 'second'  # pragma: allowlist secret
