"""Step token: the application's database password is the one that the database accepts now."""

import json
import os
import stat
from urllib.parse import parse_qs, urlsplit

from botocore.session import Session
import pytest

from instance import password_renewal
from instance.aws import Patience
from instance.errors import StepFailed
from rehearsal.api.permissions.principals import instance_key
from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.settings import CREDENTIALS
from tests.support.machine_folder import FolderMachine, last_line
from tests.support.parameters import PASSWORD, put_secrets, put_settings, URL

HOST, USER = 'database.internal', 'visitors'


def with_token(machine: FolderMachine, aws: EmbeddedRehearsal, **settings: str) -> None:
    put_settings(aws, DATABASE_URL=URL, DATABASE_IAM_AUTHENTICATION='1', **settings)
    put_secrets(aws, VISITOR_KEY='k' * 32)
    result = machine.run('config')
    assert result.returncode == 0, result.stdout


def parts_of(token: str) -> tuple[str, dict[str, str]]:
    url = urlsplit(f'https://{token}')
    return f'{url.netloc}{url.path}', {name: values[0] for name, values in parse_qs(url.query).items()}


def test_a_token_is_the_one_of_the_sdk(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    with_token(machine, aws)
    address, signed = parts_of(machine.secret('application', 'DATABASE_PASSWORD').read_text())
    session = Session()
    session.set_credentials(CREDENTIALS['AWS_ACCESS_KEY_ID'], CREDENTIALS['AWS_SECRET_ACCESS_KEY'])
    own_address, own = parts_of(session.create_client('rds', aws.region).generate_db_auth_token(HOST, 5432, USER))
    assert address == own_address == f'{HOST}:5432/'
    assert signed['Action'] == 'connect'
    assert signed['DBUser'] == USER
    assert signed['X-Amz-Expires'] == '900'
    # Tokens of the same moment are equal.
    assert {name: value for name, value in signed.items() if name not in ('X-Amz-Date', 'X-Amz-Signature')} == {
        name: value for name, value in own.items() if name not in ('X-Amz-Date', 'X-Amz-Signature')}
    assert signed['X-Amz-Credential'].split('/')[2:] == [aws.region, 'rds-db', 'aws4_request']


def test_a_token_is_made_without_any_network(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    with_token(machine, aws)
    aws.stop()
    before = len(aws.faults.calls)
    result = machine.run('token', AWS_EC2_METADATA_SERVICE_ENDPOINT='http://127.0.0.1:9')
    assert result.returncode == 0, result.stdout
    assert last_line(result.stdout).endswith('a new token for visitors')
    assert len(aws.faults.calls) == before


def test_the_application_gets_a_file_and_not_the_switch(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    with_token(machine, aws)
    variables = machine.variables('application')
    assert variables['DATABASE_PASSWORD_FILE'] == '/run/visitors/secrets/application/DATABASE_PASSWORD'
    assert 'DATABASE_IAM_AUTHENTICATION' not in variables


def test_a_renewed_token_takes_the_place_of_the_one_before_at_once(
        machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    with_token(machine, aws)
    path = machine.secret('application', 'DATABASE_PASSWORD')
    with path.open(encoding='utf-8') as reader:
        path_before = os.fstat(reader.fileno()).st_ino
        assert machine.run('token', AWS_ACCESS_KEY_ID='another').returncode == 0
        # An open reader keeps reading the old token, never half of each.
        assert 'X-Amz-Credential=testing' in reader.read()
    assert path.stat().st_ino != path_before
    assert 'X-Amz-Credential=another' in path.read_text()
    assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (10001, 0o400)
    assert [file.name for file in path.parent.iterdir() if file.name.startswith('.')] == []


def test_the_role_of_the_instance_signs_a_token(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    with_token(machine, aws)
    machine.give_role('visitors')
    assert machine.run('token', AWS_ACCESS_KEY_ID='', AWS_SECRET_ACCESS_KEY='').returncode == 0
    _, signed = parts_of(machine.secret('application', 'DATABASE_PASSWORD').read_text())
    assert signed['X-Amz-Credential'].startswith(f'{instance_key(machine.instance)}/')
    assert signed['X-Amz-Security-Token'] == 'testing'


def test_without_credentials_the_token_at_hand_stays(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    with_token(machine, aws)
    before = machine.secret('application', 'DATABASE_PASSWORD').read_text()
    entered = machine.enter(monkeypatch)
    for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
        monkeypatch.setenv(name, '')
    monkeypatch.setattr('instance.aws.PATIENCE', Patience(seconds=0.3))
    with pytest.raises(StepFailed, match='token for the database: no credentials'):
        password_renewal.run(entered)
    assert machine.secret('application', 'DATABASE_PASSWORD').read_text() == before


def test_a_rotated_password_is_fetched(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    put_settings(aws, DATABASE_URL=URL)
    put_secrets(aws, VISITOR_KEY='k' * 32, DATABASE_PASSWORD=PASSWORD)
    assert machine.run('config').returncode == 0
    aws.client('secretsmanager').put_secret_value(
        SecretId='database_password', SecretString=json.dumps({'username': USER, 'password': 'rotated'}))
    result = machine.run('token')
    assert result.returncode == 0, result.stdout
    assert json.loads(machine.secret('application', 'DATABASE_PASSWORD').read_text()) == {
        'username': USER, 'password': 'rotated'}  # pragma: allowlist secret
    assert 'rotated' not in result.stdout + result.stderr


def test_a_database_without_a_password_has_nothing_to_renew(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    put_settings(aws, DATABASE_URL=URL)
    put_secrets(aws, VISITOR_KEY='k' * 32)
    assert machine.run('config').returncode == 0
    assert not (machine.root / 'run/visitors/password.json').exists(), 'the timer would run for nothing'
    result = machine.run('token')
    assert (result.returncode, last_line(result.stdout).partition(' s: ')[2]) == (
        0, 'nothing to renew: the application needs no password')
