"""Step config: settings and secrets come from Parameter Store and Secrets Manager, or a sentence names the bad one."""

from collections.abc import Mapping
import json
from pathlib import Path
import re
import stat
import subprocess
import sys
import tempfile
import time

import pytest

from instance import config
from instance.aws import Patience
from instance.errors import StepFailed
from instance.metadata import ROLE
from instance.parameters import account, file_of, plan
from instance.user_data import UserData
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.local_aws import operations
from tests.support.machine_folder import DEPLOY, FolderMachine, last_line, PREFIX, STEP_SECONDS
from tests.support.parameters import KEY, OWNER_PASSWORD, PASSWORD, put_secrets, put_settings, URL
from tests.support.sdks import SDKS
from tests.support.server import ROOT

FOLDERS = {**{role: Path('/run/visitors/secrets') / role for role in ('application', 'migration')},
           'requests': Path('/run/visitors/requests')}
APPLICATION_SECRET = {'DATABASE_PASSWORD': 'arn:password'}  # pragma: allowlist secret
SLOW = 2.1  # seconds, twice the SDK's own wait for the metadata service
LEAST_SETTINGS, LEAST_SECRETS = {'DATABASE_URL': URL}, {'VISITOR_KEY': 'arn:key'}


@pytest.fixture
def parameters(aws: EmbeddedRehearsal) -> EmbeddedRehearsal:
    """Give an AWS with the parameters and secrets of a whole installation."""
    put_settings(aws, DATABASE_URL=URL, TRUSTED_PROXIES='1', MIGRATION_DATABASE_URL=URL.replace('visitors@', 'own@'))
    put_secrets(aws, VISITOR_KEY=KEY, DATABASE_PASSWORD=PASSWORD,
                MIGRATION_DATABASE_PASSWORD=json.dumps({'username': 'own', 'password': OWNER_PASSWORD}))
    return aws


def test_config_ends_in_a_line_and_records_the_phases_before_it(
        machine: FolderMachine, parameters: EmbeddedRehearsal) -> None:
    before = time.monotonic()
    result = machine.run('config')
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split(':')[0] for line in lines] == ['visitors power-on', 'visitors network', 'visitors config']
    assert lines[0] == 'visitors power-on: 5.00 s: systemd runs'
    assert lines[1] == 'visitors network: 1.50 s: online'
    assert lines[2].endswith(' s: 12 variables, 3 secrets')
    boot = machine.boot
    assert [phase['phase'] for phase in boot['phases']] == ['power-on', 'network', 'config']
    assert boot['failure'] is None
    assert (boot['instance_id'], boot['deploy_id']) == (machine.instance, DEPLOY)
    assert before < boot['started'] < time.monotonic()


def test_the_application_gets_its_settings_and_nothing_of_the_migration(machine: FolderMachine,
                                                                        parameters: EmbeddedRehearsal) -> None:
    assert machine.run('config').returncode == 0
    variables = machine.variables('application')
    assert {name: variables[name] for name in ('DATABASE_URL', 'TRUSTED_PROXIES', 'DEPLOY_ID', 'INSTANCE_ID')} == {
        'DATABASE_URL': URL, 'TRUSTED_PROXIES': '1', 'DEPLOY_ID': DEPLOY, 'INSTANCE_ID': machine.instance}
    assert variables['DATABASE_PASSWORD_FILE'] == '/run/visitors/secrets/application/DATABASE_PASSWORD'
    assert 2 <= int(variables['WORKERS']) <= 8
    assert not [name for name in variables if name.startswith('MIGRATION_')]
    more = machine.variables('migration')
    assert more['MIGRATION_DATABASE_PASSWORD_FILE'] == (
        '/run/visitors/secrets/migration/MIGRATION_DATABASE_PASSWORD')  # pragma: allowlist secret
    assert more.keys() - variables.keys() == {'MIGRATION_DATABASE_URL', 'MIGRATION_DATABASE_PASSWORD_FILE'}


def test_only_the_user_of_the_containers_can_read_a_secret(
        machine: FolderMachine, parameters: EmbeddedRehearsal) -> None:
    assert machine.run('config').returncode == 0
    files = {path: path.stat() for path in (machine.root / 'run/visitors/secrets').rglob('*') if path.is_file()}
    assert {path.name for path in files} == {'VISITOR_KEY', 'DATABASE_PASSWORD', 'MIGRATION_DATABASE_PASSWORD'}
    for path, status in files.items():
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (10001, 10001, 0o400), path
        for folder in (path.parent, path.parent.parent):
            assert folder.stat().st_uid == 0
            assert not folder.stat().st_mode & 0o067, f'{folder} can be listed or changed by others than root'
    requests = (machine.root / 'run/visitors/requests').stat()
    assert (requests.st_uid, requests.st_gid, stat.S_IMODE(requests.st_mode)) == (0, 10001, 0o710)
    assert machine.secret('application', 'VISITOR_KEY').read_text() == KEY
    assert json.loads(machine.secret('migration', 'MIGRATION_DATABASE_PASSWORD').read_text()) == {
        'username': 'own', 'password': OWNER_PASSWORD}


def test_only_the_user_of_the_containers_reads_its_files(machine: FolderMachine,
                                                         parameters: EmbeddedRehearsal) -> None:
    assert machine.run('config').returncode == 0
    for folder in machine.root.parents:
        if Path(tempfile.gettempdir()) in folder.parents:
            folder.chmod(0o755)  # pytest's own folders are closed; a machine's root is not
    path = str(machine.secret('application', 'VISITOR_KEY'))

    def read_as(user: int) -> int:
        return subprocess.run(['setpriv', f'--reuid={user}', f'--regid={user}', '--clear-groups', 'cat', path],
                              capture_output=True, check=False).returncode

    assert read_as(10001) == 0
    assert read_as(65534) != 0


def test_no_secret_is_anywhere_but_in_its_file(machine: FolderMachine, parameters: EmbeddedRehearsal) -> None:
    result = machine.run('config')
    assert result.returncode == 0
    secrets = machine.root / 'run/visitors/secrets'
    for path in machine.root.rglob('*'):
        if path.is_file() and secrets not in path.parents:
            for value in (KEY, PASSWORD, OWNER_PASSWORD):
                assert value not in path.read_text(encoding='utf-8'), path
    for value in (KEY, PASSWORD, OWNER_PASSWORD):
        assert value not in result.stdout + result.stderr + str(machine.calls('systemctl'))


def test_parameters_come_in_pages(machine: FolderMachine, parameters: EmbeddedRehearsal) -> None:
    put_settings(parameters, **{f'SETTING_{number}': str(number) for number in range(25)})
    assert machine.run('config').returncode == 0
    assert machine.variables('application')['SETTING_24'] == '24'


@pytest.mark.parametrize(('settings', 'secrets', 'missing'), [
    ({}, {'VISITOR_KEY': KEY}, f'{PREFIX}/settings/DATABASE_URL'),
    ({'DATABASE_URL': URL}, {}, f'{PREFIX}/secrets/VISITOR_KEY'),
    ({}, {}, f'{PREFIX}/settings/DATABASE_URL, {PREFIX}/secrets/VISITOR_KEY'),
])
def test_a_missing_parameter_fails_and_is_named(
        machine: FolderMachine, aws: EmbeddedRehearsal, settings: dict[str, str], secrets: dict[str, str], missing:
        str) -> None:
    put_settings(aws, **settings)
    put_secrets(aws, **secrets)
    result = machine.run('config')
    assert result.returncode == 1
    assert last_line(result.stdout).endswith(f'FAILED (1): missing in the Parameter Store: {missing}')
    assert machine.boot['failure'] == {'phase': 'config', 'code': 1,
                                       'reason': f'missing in the Parameter Store: {missing}'}


def test_a_secret_that_does_not_exist_is_named(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    put_settings(aws, DATABASE_URL=URL)
    arn = f'arn:aws:secretsmanager:{aws.region}:{aws.account}:secret:nothing'
    aws.client('ssm').put_parameter(Name=f'{PREFIX}/secrets/VISITOR_KEY', Value=arn, Type='String')
    result = machine.run('config')
    assert result.returncode == 1
    assert (f'the secret that parameter {PREFIX}/secrets/VISITOR_KEY names: ResourceNotFoundException' in
            last_line(result.stdout))


def test_a_secret_in_the_place_of_its_name_is_not_shown(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    put_settings(aws, DATABASE_URL=URL)
    aws.client('ssm').put_parameter(Name=f'{PREFIX}/secrets/VISITOR_KEY', Value=KEY, Type='String')
    aws.faults.refuse('GetSecretValue', status=400, code='AccessDeniedException',
                      message=f'no right to read {KEY} for you')
    result = machine.run('config')
    assert result.returncode == 1
    assert (f'the secret that parameter {PREFIX}/secrets/VISITOR_KEY names: AccessDeniedException: no right to read '
            'its value for you') in last_line(result.stdout)
    assert KEY not in result.stdout + result.stderr + json.dumps(machine.boot)


def test_an_encrypted_setting_is_refused(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    aws.client('ssm').put_parameter(Name=f'{PREFIX}/settings/DATABASE_URL', Value=URL, Type='SecureString')
    result = machine.run('config')
    assert result.returncode == 1
    assert f'parameter {PREFIX}/settings/DATABASE_URL is a SecureString; use a String' in last_line(result.stdout)


def test_a_deleted_parameter_is_deleted_on_the_machine(machine: FolderMachine,
                                                       parameters: EmbeddedRehearsal) -> None:
    assert machine.run('config').returncode == 0
    parameters.client('ssm').delete_parameter(Name=f'{PREFIX}/secrets/DATABASE_PASSWORD')
    assert machine.run('config').returncode == 0
    assert 'DATABASE_PASSWORD_FILE' not in machine.variables('application')
    assert not machine.secret('application', 'DATABASE_PASSWORD').exists()


def test_an_api_that_is_unavailable_for_a_moment_costs_no_machine(
        machine: FolderMachine, parameters: EmbeddedRehearsal) -> None:
    parameters.stop()
    with machine.start('config') as process:
        time.sleep(2)
        parameters.start()
        stdout, _ = process.communicate(timeout=STEP_SECONDS)
    assert process.returncode == 0, stdout


@pytest.mark.parametrize(('code', 'says'), [
    ('InvalidSignatureException', 'the clock of this instance shows 20'),
    ('RequestTimeTooSkewed', 'the clock of this instance shows 20'),
    ('AccessDeniedException', 'AccessDeniedException: not for you'),
])
def test_the_reason_of_a_refusal_is_printed(
        machine: FolderMachine, aws: EmbeddedRehearsal, code: str, says: str) -> None:
    aws.faults.refuse('GetParametersByPath', status=400, code=code, message='not for you')
    result = machine.run('config')
    assert result.returncode == 1
    assert f'parameters under {PREFIX}/settings: {code}: not for you' in last_line(result.stdout)
    assert says in last_line(result.stdout)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the patience of a machine to a moment."""
    monkeypatch.setattr('instance.aws.PATIENCE', Patience(seconds=0.3))
    monkeypatch.setattr('instance.metadata.PATIENCE_SECONDS', 0.3)


def reason_without_keys(machine: FolderMachine, monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """Return the failure of config on a machine without keys other than those of its role."""
    entered = machine.enter(monkeypatch)
    for name, value in {'AWS_ACCESS_KEY_ID': '', 'AWS_SECRET_ACCESS_KEY': '', **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StepFailed) as failure:
        config.run(entered)
    return failure.value.message


def test_a_missing_role_has_a_message_of_its_own(machine: FolderMachine, monkeypatch: pytest.MonkeyPatch,
                                                 impatient: None) -> None:
    assert reason_without_keys(machine, monkeypatch) == (
        f'parameters under {PREFIX}/settings: no credentials; this instance needs an instance profile with a role')


def test_a_metadata_service_that_fails_is_not_taken_for_a_missing_role(
        machine: FolderMachine, monkeypatch: pytest.MonkeyPatch, impatient: None) -> None:
    machine.give_role('visitors')
    machine.metadata.faults.refuse(f'GET /{ROLE}visitors', status=500)
    assert reason_without_keys(machine, monkeypatch) == (
        f'parameters under {PREFIX}/settings: no credentials: the metadata service names the role visitors but '
        'returns none of its credentials')
    machine.metadata.faults.refuse(f'GET /{ROLE}', status=503)
    assert reason_without_keys(machine, monkeypatch) == (
        f'parameters under {PREFIX}/settings: no credentials: the metadata service at {machine.metadata.endpoint} '
        f'answers 503 under {ROLE}')


@pytest.mark.parametrize('trouble', [503, 404, 401, SLOW], ids=str)
def test_a_metadata_service_in_trouble_for_a_moment_costs_no_machine(
        machine: FolderMachine, parameters: EmbeddedRehearsal, trouble: float,
        monkeypatch: pytest.MonkeyPatch) -> None:
    machine.give_role('visitors')
    faults = machine.metadata.faults
    requests = ('PUT /latest/api/token', 'GET /latest/meta-data/instance-id', f'GET /{ROLE}', f'GET /{ROLE}visitors')
    if trouble == SLOW:
        # A slow answer takes its time from this test as well; there one request is enough.
        faults.stall(f'GET /{ROLE}', seconds=SLOW, times=1)
    else:
        faults.refuse(*requests, status=int(trouble), times=1)
    entered = machine.enter(monkeypatch)
    for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
        monkeypatch.setenv(name, '')
    monkeypatch.setattr('instance.aws.FIRST_PAUSE', 0.05)
    monkeypatch.setattr('instance.metadata.FIRST_PAUSE', 0.05)
    assert config.run(entered).endswith(' variables, 3 secrets')
    assert {call.operation for call in faults.calls} >= set(requests)
    assert trouble == SLOW or set(faults.refused) == set(requests), 'nothing went wrong'


@pytest.mark.parametrize(('status', 'code'), [(503, 'ServiceUnavailable'), (500, 'InternalFailure'),
                                              (429, 'TooManyRequestsException'), (400, 'ThrottlingException')])
def test_an_api_in_trouble_is_asked_again_for_seconds_and_not_for_a_number_of_times(
        machine: FolderMachine, parameters: EmbeddedRehearsal, status: int, code: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('instance.aws.FIRST_PAUSE', 0.01)
    monkeypatch.setattr('instance.aws.LONGEST_PAUSE', 0.01)
    parameters.faults.refuse('GetSecretValue', status=status, code=code, times=40)
    assert config.run(machine.enter(monkeypatch)).endswith(' variables, 3 secrets')
    assert operations(parameters).count('GetSecretValue') > 40


def test_the_time_that_a_call_may_take_has_an_end(machine: FolderMachine, aws: EmbeddedRehearsal, impatient: None,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    aws.faults.refuse('GetParametersByPath', message='not now')
    with pytest.raises(StepFailed, match=f'parameters under {PREFIX}/settings: ServiceUnavailable: not now'):
        config.run(machine.enter(monkeypatch))


@pytest.mark.parametrize(('name', 'value', 'says'), [
    ('AWS_WEB_IDENTITY_TOKEN_FILE', '/tmp', 'Is a directory'),
    ('AWS_WEB_IDENTITY_TOKEN_FILE', '/nowhere', 'No such file or directory'),
    ('AWS_PROFILE', 'nowhere', 'The config profile (nowhere) could not be found'),
    ('AWS_ENDPOINT_URL', 'nowhere', 'Invalid endpoint: nowhere'),
    ('AWS_METADATA_SERVICE_TIMEOUT', 'long', "invalid literal for int() with base 10: 'long'"),
])
def test_a_setting_of_the_sdk_that_leads_nowhere_is_one_line(
        machine: FolderMachine, monkeypatch: pytest.MonkeyPatch, impatient: None, name: str, value: str,
        says: str) -> None:
    role = {'AWS_ROLE_ARN': 'arn:aws:iam::123456789012:role/visitors'} if 'IDENTITY' in name else {}
    machine.add_sdk_settings(**{name: value, **role})
    reason = reason_without_keys(machine, monkeypatch)
    assert reason.startswith(f'parameters under {PREFIX}/settings: ')
    assert says in reason


def test_the_role_of_the_instance_signs(machine: FolderMachine, parameters: EmbeddedRehearsal) -> None:
    machine.give_role('visitors')
    result = machine.run('config', AWS_ACCESS_KEY_ID='', AWS_SECRET_ACCESS_KEY='')
    assert result.returncode == 0, result.stdout
    assert machine.metadata.faults.calls[0].operation == 'PUT /latest/api/token', 'an instance requires a token'


def test_an_unavailable_metadata_service_is_named(machine: FolderMachine, impatient: None,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    reason = reason_without_keys(machine, monkeypatch, AWS_EC2_METADATA_SERVICE_ENDPOINT='http://127.0.0.1:9')
    assert reason.startswith('the metadata service at http://127.0.0.1:9 cannot be reached: ')
    assert 'refused' in reason


def test_without_user_data_the_file_that_is_missing_is_named(machine: FolderMachine) -> None:
    (machine.root / 'etc/visitors/instance.env').unlink()
    result = machine.run('config')
    assert result.returncode == 1
    assert 'etc/visitors/instance.env: No such file or directory; the user data writes it' in last_line(result.stdout)


def test_a_self_test_needs_no_network_and_no_role(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    machine.write('etc/visitors/instance.env', 'SELFTEST=1\n')
    aws.stop()
    result = machine.run('config', AWS_EC2_METADATA_SERVICE_ENDPOINT='http://127.0.0.1:9', AWS_ACCESS_KEY_ID='')
    assert result.returncode == 0, result.stdout
    assert last_line(result.stdout).endswith('self-test: an embedded database and a generated key')
    assert machine.variables('application')['DATABASE_URL'] == 'sqlite:////app/data/visitors.sqlite3'
    assert len(machine.secret('application', 'VISITOR_KEY').read_text()) == 64
    data = (machine.root / 'run/visitors/data').stat()
    assert (data.st_uid, stat.S_IMODE(data.st_mode)) == (10001, 0o700)
    assert not aws.faults.calls


def test_a_network_that_never_came_is_recorded(machine: FolderMachine) -> None:
    machine.write('etc/visitors/instance.env', 'SELFTEST=1\n')
    machine.answer_systemctl({'': {'UserspaceTimestampMonotonic': '1000'},
                             'network-online.target': {'ActiveEnterTimestampMonotonic': '0'}})
    assert machine.run('config').returncode == 0
    assert machine.boot['phases'][1]['outcome'] == 'not online'


def test_in_a_container_the_power_came_on_with_systemd(machine: FolderMachine) -> None:
    machine.write('run/systemd/container', 'docker')
    machine.write('etc/visitors/instance.env', 'SELFTEST=1\n')
    assert machine.run('config').returncode == 0
    assert machine.boot['power_on'] == 5.0
    assert machine.boot['phases'][0]['seconds'] == 0.0


@pytest.mark.parametrize('url', [
    'postgres://visitors@db/visitors', 'postgresql+psycopg2://vis%2Fitors@[2001:db8::1]:6432/visitors',
    f'{URL}?sslmode=require&options=-csearch_path%3Dstats', 'postgresql:///visitors?host=/run/postgresql',
    'sqlite:////var/lib/visitors.sqlite3', 'postgresql://visitors@db/passwords',
])
def test_an_address_of_either_form_is_taken_as_it_is(url: str) -> None:
    result = plan(PREFIX, {'DATABASE_URL': url}, LEAST_SECRETS, {}, FOLDERS)
    assert result.variables['application']['DATABASE_URL'] == url


def test_ordinary_text_has_no_control_character() -> None:
    result = plan(PREFIX, {**LEAST_SETTINGS, 'USER_NAME': 'Zoë O’Néill 李 \u00a0\u200f'}, LEAST_SECRETS, {}, FOLDERS)
    assert result.variables['application']['USER_NAME'] == 'Zoë O’Néill 李 \u00a0\u200f'


def plan_of(settings: Mapping[str, str], secrets: Mapping[str, str] = LEAST_SECRETS) -> object:
    return plan(PREFIX, {**LEAST_SETTINGS, **settings}, secrets, {}, FOLDERS)


@pytest.mark.parametrize(('settings', 'says'), [
    ({'VISITOR_KEY': KEY}, f'parameter {PREFIX}/settings/VISITOR_KEY would show a secret; put it into Secrets'),
    ({'DATABASE_PASSWORD': PASSWORD}, 'would show a secret'),
    ({'DATABASE_URL': f'postgresql://v:{PASSWORD}@db/visitors'}, f'its name into {PREFIX}/secrets/DATABASE_PASSWORD'),
    ({'DATABASE_URL': f'postgresql://visitors@db/visitors?password={PASSWORD}'}, 'holds a password'),
    ({'DATABASE_URL': f'postgresql://visitors:{PASSWORD}@[db/visitors'}, 'holds a password'),
    ({'DATABASE_URL': f'postgresql://visitors:{PASSWORD}?x@db/visitors'}, 'holds a password'),
    ({'DATABASE_URL': f'postgresql://visitors:{PASSWORD}#x@db/visitors'}, 'holds a password'),
    ({'DATABASE_URL': f'postgresql://visitors@db/visitors?sslkey=/x&sslpassword={PASSWORD}'}, 'holds a password'),
    ({'DATABASE_URL': f'host=db user=visitors password={PASSWORD}'}, 'holds a password'),
    ({'DATABASE_URL': f'host=db user=visitors word={PASSWORD}'}, 'is not of the form postgresql://'),
    ({'MIGRATION_DATABASE_URL': f'postgresql://{PASSWORD}'}, 'which begins with postgresql://, is not of the form'),
    ({'DATABASE_URL': f'mysql://visitors@db/{PASSWORD}'}, 'which begins with mysql://, is not of the form'),
    ({'DATABASE_URL': PASSWORD}, f'its name into {PREFIX}/secrets/DATABASE_PASSWORD'),
    ({'DATABASE_URL': f'{URL}?{PASSWORD}'}, 'has another name after the ? than application_name, '),
    ({'DATABASE_URL': f'{URL}?passfile=/x'}, 'has another name after the ? than application_name, '),
    ({'DATABASE_URL': f'{URL}?sslmode=verify-full'}, 'is not on this instance; bake the AMI again'),
    ({'DATABASE_URL': f'{URL}?sslmode=verify-ca&sslrootcert=/etc/ssl/x'}, 'has no sslrootcert that'),
    ({'DATABASE_URL': f'{URL}?sslrootcert=/etc/visitors/database-ca.pem'}, 'is not on this instance; bake the AMI'),
    ({'INSTANCE_ID': 'i-1'}, 'is set by each machine itself; delete it'),
    ({'DATABASE_PASSWORD_FILE': '/etc/shadow'}, 'is set by each machine itself; delete it'),
    *(({'USER_NAME': f'ab{separator}c=d'}, f'USER_NAME has the control character U+{code} at position 3; delete')
      for separator, code in (('\n', '000A'), ('\r', '000D'), ('\v', '000B'), ('\x1c', '001C'), ('\x85', '0085'),
                              ('\u2028', '2028'), ('\u2029', '2029'), ('\0', '0000'))),
    *(({'PORT': port}, f'settings/PORT is {port}; use a number from 1024 to 65535')
      for port in ('http', '80', '0', '65536', '-8000', '8000 ', '\u0668\u0660\u0660\u0660')),
    ({'user_name': 'a'}, 'a name has capital letters, digits and _ only'),
    ({'DATABASE_IAM_AUTHENTICATION': 'yes'}, 'is yes; use 1 or 0'),
    ({'PURGE_OLDER_THAN': 'a month'}, 'is a month; use a number of days'),
    ({'PURGE_OLDER_THAN': '29'}, 'is 29; use a number of days, 30 to 36500'),
    ({'PURGE_OLDER_THAN': '36501'}, 'is 36501; use a number of days, 30 to 36500'),
])
def test_a_bad_parameter_is_named_and_no_secret_is_shown(settings: dict[str, str], says: str) -> None:
    with pytest.raises(StepFailed) as failure:
        plan_of(settings)
    assert says in failure.value.message
    assert PREFIX in failure.value.message
    assert PASSWORD not in failure.value.message
    assert KEY not in failure.value.message


def test_a_password_and_a_token_exclude_each_other() -> None:
    with pytest.raises(StepFailed, match='are both set; keep one of them'):
        plan_of({'DATABASE_IAM_AUTHENTICATION': '1'}, {**LEAST_SECRETS, **APPLICATION_SECRET})


@pytest.mark.parametrize(('text', 'password'), [
    ('plain', 'plain'), ('12345', '12345'), ('"quoted"', '"quoted"'), ('{x', '{x'), (f'{{"a":{"[" * 9000}', None),
    ('{"password": "in it"}', 'in it'),  # pragma: allowlist secret
    ('{"password": "x", "username": "of", "engine": "postgres"}', '{"username": "of", "password": "x"}'),
])
def test_a_secret_is_a_text_or_an_object_with_a_password(text: str, password: str | None) -> None:
    assert file_of('DATABASE_PASSWORD', text, 'a secret') == (password or text)


def test_the_name_of_a_role_belongs_to_its_password_and_to_no_other_secret() -> None:
    assert file_of('VISITOR_KEY', '{"password": "x", "username": "of"}', 'a secret') == 'x'


@pytest.mark.parametrize(('text', 'lacks'), [
    *((text, 'without a text called password')
      for text in ('{}', '{"password": ""}', '{"password": 1}', '{"passwort": "x"}')),
    *((f'{{"password": "x", "username": {name}}}', 'whose username is not a text') for name in ('""', '1')),
])
def test_an_object_without_a_password_is_refused_by_its_name_alone(text: str, lacks: str) -> None:
    with pytest.raises(StepFailed) as failure:
        file_of('DATABASE_PASSWORD', text, 'the secret of x')
    assert failure.value.message == f'the secret of x: the secret is a JSON object {lacks}'


@pytest.mark.parametrize(('url', 'where'), [
    ('postgresql://visitors@db.internal/visitors', ('db.internal', 5432, 'visitors')),
    ('postgresql+psycopg2://vis%2Fitors@db:6432/visitors', ('db', 6432, 'vis/itors')),
])
def test_the_account_is_the_one_of_the_url(url: str, where: tuple[str, int, str]) -> None:
    database = account(url, 'x')
    assert (database.host, database.port, database.user) == where


@pytest.mark.parametrize('url', ['sqlite:////x', 'postgresql:///visitors', 'postgresql://db/visitors'])
def test_a_url_without_an_account_takes_no_token(url: str) -> None:
    with pytest.raises(StepFailed, match='a token needs postgresql://USER@HOST:PORT/NAME'):
        account(url, 'x')


@pytest.mark.parametrize(('text', 'says'), [
    ('PARAMETER_PREFIX=visitors', 'PARAMETER_PREFIX=visitors: use a value like /visitors/production'),
    ('PARAMETER_PREFIX=/a/', 'PARAMETER_PREFIX=/a/: use'),
    ('PARAMETER_PREFIX=/a\nAWS_REGION=eu', 'DEPLOY_ID=: use a value like 7/ami-'),
    ('PARAMETER_PREFIX=/a\nDEPLOY_ID=1', 'AWS_REGION=: use'),
    ('LIFECYLE_HOOK=x', 'unknown name LIFECYLE_HOOK; use PARAMETER_PREFIX'),
    ('SELFTEST=yes', 'SELFTEST=yes: use 1, or omit it'),
    ('HTTPS_PROXY=http://proxy:3128', 'and AWS_*; an instance needs VPC endpoints or NAT, it uses no proxy'),
    ('# what\n\nno sentence', 'line 3 is not NAME=VALUE'),
    *((f'SELFTEST=1\nDEPLOY_ID=7{separator}8', f'DEPLOY_ID has the control character U+{code}; delete it')
      for separator, code in (('\v', '000B'), ('\x1c', '001C'), ('\x85', '0085'), ('\u2028', '2028'))),
])
def test_bad_user_data_is_named(text: str, says: str) -> None:
    with pytest.raises(StepFailed, match=re.escape(says)):
        UserData.from_text(text)


def test_the_variables_of_the_sdk_are_passed_on() -> None:
    settings = UserData.from_text('SELFTEST=1\nAWS_ENDPOINT_URL=http://10.0.0.1:5000\nAWS_RETRY_MODE=\n')
    assert settings.sdk == {'AWS_ENDPOINT_URL': 'http://10.0.0.1:5000'}
    assert settings.selftest


def test_logs_go_to_a_group_of_the_prefix_by_default() -> None:
    text = '\n'.join(('PARAMETER_PREFIX=/visitors/a', 'AWS_REGION=x', 'DEPLOY_ID=1', ''))
    assert UserData.from_text(text).log_group == '/visitors/a'
    assert UserData.from_text(f'{text}LOG_GROUP=other\n').log_group == 'other'


def test_the_legible_part_of_bad_user_data_is_used_for_the_report() -> None:
    legible = UserData.legible('PARAMETER_PREFIX=/a\nLIFECYLE_HOOK=x\nnonsense\nAWS_REGION=r\nLIFECYCLE_HOOK=launch\n')
    assert (legible.parameter_prefix, legible.region, legible.lifecycle_hook) == ('/a', 'r', 'launch')


MEASURE = """
from functools import partial
import json
import botocore
from instance import aws, deadline
from instance.user_data import UserData
now = [0.0]
aws.Deadline = partial(deadline.Deadline, clock=lambda: now[0])
aws.time.sleep = lambda seconds: now.__setitem__(0, now[0] + seconds)
try:
    aws.Aws(UserData(region='eu-central-1')).parameters('/a')
except aws.AwsFailed as error:
    print(json.dumps([botocore.__version__, round(now[0]), error.message]))
"""


@pytest.mark.parametrize('version', SDKS)
def test_the_patience_is_a_minute_with_the_sdk_of_the_ami_and_with_this_one(
        machine: FolderMachine, aws: EmbeddedRehearsal, version: str) -> None:
    aws.faults.refuse('GetParametersByPath', message='not now')
    older = SDKS[version]
    path = f'{older}:{ROOT}' if older else str(ROOT)
    result = subprocess.run([sys.executable, '-c', MEASURE], capture_output=True, text=True, check=True, cwd='/',
                            env={**machine.environment, 'PYTHONPATH': path, 'AWS_ENDPOINT_URL': aws.endpoint})
    used, seconds, reason = json.loads(result.stdout)
    assert used.startswith(f'{version}.')
    assert (seconds, reason) == (60, 'parameters under /a: ServiceUnavailable: not now')
    assert len(aws.faults.calls) > 12, 'the SDK itself gives up earlier'
