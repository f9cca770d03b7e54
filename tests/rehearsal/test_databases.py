"""Databases with real servers: logins, states, parameters, failover, snapshots, and the end of all of them."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cache
import json
import os
from pathlib import Path
import signal
from typing import Any
from unittest import mock

import boto3
from botocore.exceptions import ClientError
import psutil
import psycopg2
import pytest

from rehearsal.client import Rehearsal
from rehearsal.databases.configuration import has_pending, in_force, Parameter
from rehearsal.databases.ldap import parse_bind
from rehearsal.databases.tokens import refusal, Secret
from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.settings import Settings
from tests.support.postgresql import free_port
from tests.support.waiting import eventually

REGION = Settings.region
NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
MASTER, DATABASE, LOGIN, PLAIN = 'visitors_owner', 'visitors', 'visitors_app', 'plain'
# Longer than PAM could pass on, as the session tokens of a role are.
SESSION = 'FwoGZXIvYXdzE' + 'x' * 3000


@cache
def client(rehearsal: Rehearsal, service: str) -> Any:
    """Return a client, which takes a second to make."""
    return rehearsal.client(service)


@dataclass(frozen=True)
class Database:
    """A database of a rehearsal, with the connections that a program makes to it."""

    rehearsal: Rehearsal
    name: str
    created: dict[str, Any] = field(default_factory=dict)

    @property
    def rds(self) -> Any:
        """The client of RDS."""
        return client(self.rehearsal, 'rds')

    def described(self) -> dict[str, Any]:
        """Return the description of the database."""
        (description,) = self.rds.describe_db_instances(DBInstanceIdentifier=self.name)['DBInstances']
        return dict(description)

    def is_available(self) -> bool:
        """Return whether the database is available."""
        return bool(self.described()['DBInstanceStatus'] == 'available')

    def wait(self) -> 'Database':
        """Wait until the database is available."""
        eventually(self.is_available, f'{self.name} is available', seconds=120)
        return self

    def master(self) -> tuple[str, str]:
        """Return name and password of the master, from the secret."""
        arn = self.described()['MasterUserSecret']['SecretArn']
        secret = json.loads(client(self.rehearsal, 'secretsmanager').get_secret_value(SecretId=arn)['SecretString'])
        assert sorted(secret) == ['password', 'username']
        return secret['username'], secret['password']

    def connect(self, user: str, password: str, **options: Any) -> Any:
        """Return a connection that verifies the certificate of the server."""
        endpoint = self.described()['Endpoint']
        settings = {'sslmode': 'verify-full', 'sslrootcert': self.rehearsal.facts['authority'], 'connect_timeout': 20,
                    'dbname': DATABASE, **options}
        return psycopg2.connect(host=endpoint['Address'], hostaddr='127.0.0.1', port=endpoint['Port'], user=user,
                                password=password, **settings)

    def query(self, statement: str, database: str = DATABASE) -> Any:
        """Return the only value of a statement of the master."""
        with closing(self.connect(*self.master(), dbname=database)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None

    def token(self, user: str, age: timedelta = timedelta(), **changes: Any) -> str:
        """Return a token for a user; `changes` replaces credentials, host, port or region."""
        endpoint = self.described()['Endpoint']
        place = {'DBHostname': endpoint['Address'], 'Port': endpoint['Port'],
                 **{name: changes.pop(name) for name in ('DBHostname', 'Port') if name in changes}}
        credentials = {'aws_access_key_id': 'testing', 'aws_secret_access_key': 'testing',
                       'region_name': REGION, **changes}
        moment = datetime.now(timezone.utc) - age
        with mock.patch('botocore.auth.get_current_datetime', lambda *_, **__: moment.replace(tzinfo=None)):
            return str(boto3.client('rds', **credentials).generate_db_auth_token(DBUsername=user, **place))

    def events(self) -> list[str]:
        """Return the messages of the events of the database."""
        return [event['Message'] for event in self.rds.describe_events(
            SourceIdentifier=self.name, SourceType='db-instance')['Events']]


def create(rehearsal: Rehearsal, name: str, **options: Any) -> Database:
    """Return a new database, which may not be available yet."""
    arguments = {'DBInstanceClass': 'db.t4g.micro', 'Engine': 'postgres', 'EngineVersion': '17', 'DBName': DATABASE,
                 'MasterUsername': MASTER, 'ManageMasterUserPassword': True, 'Port': free_port(), **options}
    created = client(rehearsal, 'rds').create_db_instance(DBInstanceIdentifier=name, **arguments)['DBInstance']
    return Database(rehearsal, name, created)


@pytest.fixture(scope='module')
def rehearsal() -> Iterator[Rehearsal]:
    """Give a rehearsal without machines, whose databases have servers on the loopback."""
    name = f'db{os.getpid()}'
    with Rehearsal(Settings(name=name, machines=False, database_address='127.0.0.1', pace=60)) as running:
        yield running
        assert running.gaps() == []


@pytest.fixture(scope='module')
def database(rehearsal: Rehearsal) -> Database:
    """Give an available database with a login for tokens and one for a password."""
    made = create(rehearsal, 'logins', EnableIAMDatabaseAuthentication=True).wait()
    made.query(f"CREATE ROLE {LOGIN} LOGIN PASSWORD 'wrong way'")  # pragma: allowlist secret
    made.query(f'GRANT rds_iam TO {LOGIN}')
    made.query(f"CREATE ROLE {PLAIN} LOGIN PASSWORD 'right way'")  # pragma: allowlist secret
    return made


def test_a_database_has_no_endpoint_until_it_is_available_and_then_verifies_by_name(rehearsal: Rehearsal) -> None:
    made = create(rehearsal, 'fresh')
    assert (made.created['DBInstanceStatus'], 'Endpoint' in made.created) == ('creating', False)
    assert made.wait().query('SELECT current_user') == MASTER
    assert made.query('SELECT rolsuper FROM pg_roles WHERE rolname = current_user') is False


def test_a_token_logs_in(database: Database) -> None:
    with closing(database.connect(LOGIN, database.token(LOGIN))) as connection:
        assert connection.info.user == LOGIN and connection.info.ssl_in_use


def test_a_token_of_temporary_credentials_logs_in_with_their_long_session_token(database: Database) -> None:
    token = database.token(LOGIN, aws_session_token=SESSION)
    assert len(token) > 3000
    database.connect(LOGIN, token).close()


def test_a_token_of_a_role_logs_in_by_a_policy_and_not_with_another_session_token(database: Database) -> None:
    # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.IAMPolicy.html
    iam, account = client(database.rehearsal, 'iam'), '123456789012'
    trust = {'Statement': [{'Effect': 'Allow', 'Action': 'sts:AssumeRole', 'Principal': {'AWS': account}}]}
    iam.create_role(RoleName='instance', AssumeRolePolicyDocument=json.dumps(trust))
    role = client(database.rehearsal, 'sts').assume_role(
        RoleArn=f'arn:aws:iam::{account}:role/instance', RoleSessionName='test')['Credentials']
    keys = {'aws_access_key_id': role['AccessKeyId'], 'aws_secret_access_key': role['SecretAccessKey']}
    token = database.token(LOGIN, **keys, aws_session_token=role['SessionToken'])
    for user in (PLAIN, LOGIN):
        refused(lambda: database.connect(LOGIN, token))
        user_arn = f'arn:aws:rds-db:{REGION}:{account}:dbuser:{database.described()["DbiResourceId"]}/{user}'
        iam.put_role_policy(RoleName='instance', PolicyName='sign-in', PolicyDocument=json.dumps({
            'Version': '2012-10-17',
            'Statement': [{'Effect': 'Allow', 'Action': 'rds-db:connect', 'Resource': user_arn}]}))
    database.connect(LOGIN, token).close()
    refused(lambda: database.connect(LOGIN, database.token(LOGIN, **keys, aws_session_token='other')))


def test_a_login_for_a_password_takes_its_password(database: Database) -> None:
    database.connect(PLAIN, 'right way').close()


def refused(act: Callable[[], Any], reason: str = 'authentication failed') -> None:
    """Check that a connection is refused for a reason."""
    with pytest.raises(psycopg2.OperationalError, match=reason):
        act().close()


@pytest.mark.parametrize(('user', 'token'), [
    pytest.param(LOGIN, lambda database: database.token(LOGIN)[:-1] + 'x', id='tampered'),
    pytest.param(LOGIN, lambda database: database.token(PLAIN), id='other-user'),
    pytest.param(LOGIN, lambda database: database.token(LOGIN, DBHostname='other.example.com'), id='other-host'),
    pytest.param(LOGIN, lambda database: database.token(LOGIN, Port=1), id='other-port'),
    pytest.param(LOGIN, lambda database: database.token(LOGIN, region_name='eu-west-1'), id='wrong-region'),
    pytest.param(LOGIN, lambda database: database.token(LOGIN, age=timedelta(minutes=16)), id='16-minutes-old'),
    pytest.param(LOGIN, lambda database: 'wrong way', id='password-instead-of-token'),
    pytest.param(MASTER, lambda database: database.token(MASTER), id='master-with-token'),
    pytest.param(PLAIN, lambda database: database.token(PLAIN), id='user-without-rds_iam'),
    pytest.param(LOGIN, lambda database: database.token(LOGIN, aws_secret_access_key='other'), id='wrong-key'),
    pytest.param(LOGIN, lambda database: database.token(LOGIN, aws_access_key_id='AKIAOTHER'), id='unknown-key'),
])
def test_a_login_is_refused_with(database: Database, user: str, token: Callable[[Database], str]) -> None:
    refused(lambda: database.connect(user, token(database)))


@pytest.mark.parametrize('user', [LOGIN, PLAIN, MASTER])
def test_a_login_without_tls_is_refused(database: Database, user: str) -> None:
    refused(lambda: database.connect(user, database.token(user), sslmode='disable', sslrootcert=''),
            'pg_hba.conf rejects connection')


def test_a_token_is_refused_while_iam_authentication_is_disabled(database: Database) -> None:
    database.rds.modify_db_instance(DBInstanceIdentifier=database.name, EnableIAMDatabaseAuthentication=False,
                                    ApplyImmediately=True)
    database.wait()
    refused(lambda: database.connect(LOGIN, database.token(LOGIN)))
    database.rds.modify_db_instance(DBInstanceIdentifier=database.name, EnableIAMDatabaseAuthentication=True,
                                    ApplyImmediately=True)
    database.wait().connect(LOGIN, database.token(LOGIN)).close()


@pytest.mark.parametrize('rotate', [
    pytest.param(lambda database: client(database.rehearsal, 'secretsmanager').rotate_secret(
        SecretId=database.described()['MasterUserSecret']['SecretArn']), id='RotateSecret'),
    pytest.param(lambda database: database.rds.modify_db_instance(
        DBInstanceIdentifier=database.name, RotateMasterUserPassword=True, ApplyImmediately=True),
        id='ModifyDBInstance'),
])
def test_a_rotation_changes_the_password_in_the_database_and_in_the_secret(
        database: Database, rotate: Callable[[Database], Any]) -> None:
    user, before = database.master()
    rotate(database)
    eventually(lambda: database.master()[1] != before, 'the secret has a new password', seconds=60)
    refused(lambda: database.connect(user, before))
    database.wait().connect(*database.master()).close()


def test_a_password_that_the_client_chooses_is_changed_by_the_client(rehearsal: Rehearsal) -> None:
    made = create(rehearsal, 'chosen', ManageMasterUserPassword=False, MasterUserPassword='first-one').wait()
    made.connect(MASTER, 'first-one').close()
    made.rds.modify_db_instance(DBInstanceIdentifier='chosen', ApplyImmediately=True,
                                MasterUserPassword='second-one')  # pragma: allowlist secret
    made.wait().connect(MASTER, 'second-one').close()
    refused(lambda: made.connect(MASTER, 'first-one'))


def test_parameters_take_effect_at_once_or_after_a_reboot_and_a_reset_removes_them(rehearsal: Rehearsal) -> None:
    rds = client(rehearsal, 'rds')
    rds.create_db_parameter_group(DBParameterGroupName='own', DBParameterGroupFamily='postgres17', Description='own')
    change(rds, log_min_duration_statement='500', **{'rds.force_ssl': '0'}, unknown_to_postgresql='1')
    made = create(rehearsal, 'parameters', DBParameterGroupName='own').wait()
    assert made.query('SHOW log_min_duration_statement') == '500ms'
    made.connect(*made.master(), sslmode='disable', sslrootcert='').close()

    change(rds, log_min_duration_statement='700', max_connections='37')
    eventually(lambda: made.query('SHOW log_min_duration_statement') == '700ms', 'a dynamic one is there', seconds=60)
    assert (made.query('SHOW max_connections'), status_of_group(made)) == ('100', 'pending-reboot')
    rds.reboot_db_instance(DBInstanceIdentifier='parameters')
    assert made.wait().query('SHOW max_connections') == '37'
    assert status_of_group(made) == 'in-sync'

    rds.create_db_parameter_group(DBParameterGroupName='next', DBParameterGroupFamily='postgres17', Description='next')
    rds.modify_db_instance(DBInstanceIdentifier='parameters', DBParameterGroupName='next', ApplyImmediately=True)
    assert made.wait().query('SHOW log_min_duration_statement') == '700ms', 'another group waits for a reboot'
    assert status_of_group(made) == 'pending-reboot'
    rds.modify_db_instance(DBInstanceIdentifier='parameters', DBParameterGroupName='own', ApplyImmediately=True)
    assert status_of_group(made.wait()) == 'in-sync'

    rds.reset_db_parameter_group(DBParameterGroupName='own', Parameters=[
        {'ParameterName': 'rds.force_ssl', 'ApplyMethod': 'immediate'}])
    refused(lambda: eventually_refused(made), 'pg_hba.conf rejects connection')
    rds.reset_db_parameter_group(DBParameterGroupName='own', ResetAllParameters=True)
    assert rds.describe_db_parameters(DBParameterGroupName='own')['Parameters'] == []
    with pytest.raises(ClientError, match='InvalidParameterCombination'):
        rds.reset_db_parameter_group(DBParameterGroupName='own')


def change(rds: Any, **values: str) -> None:
    """Change parameters of the group, each as early as PostgreSQL can."""
    rds.modify_db_parameter_group(DBParameterGroupName='own', Parameters=[
        {'ParameterName': name, 'ParameterValue': value,
         'ApplyMethod': 'pending-reboot' if name == 'max_connections' else 'immediate'}
        for name, value in values.items()])


def status_of_group(database: Database) -> str:
    """Return the status of the parameter group of a database."""
    (group,) = database.described()['DBParameterGroups']
    return str(group['ParameterApplyStatus'])


def eventually_refused(database: Database) -> Any:
    """Connect without TLS until that is refused."""
    def connects() -> bool:
        database.connect(*database.master(), sslmode='disable', sslrootcert='').close()
        return False

    eventually(connects, 'a connection without TLS is refused', seconds=60)


def test_a_failover_ends_connections_swaps_the_zones_and_loses_no_commit(rehearsal: Rehearsal) -> None:
    made = create(rehearsal, 'failover', MultiAZ=True).wait()
    made.query('CREATE TABLE kept AS SELECT 42 AS number')
    before = made.described()
    with closing(made.connect(*made.master())) as connection:
        made.rds.reboot_db_instance(DBInstanceIdentifier='failover', ForceFailover=True)
        assert made.described()['DBInstanceStatus'] == 'rebooting'
        with pytest.raises(ClientError, match='InvalidDBInstanceState'):
            made.rds.reboot_db_instance(DBInstanceIdentifier='failover')
        made.wait()
        with pytest.raises(psycopg2.OperationalError):
            connection.cursor().execute('SELECT 1')
    assert made.query('SELECT number FROM kept') == 42
    after = made.described()
    zones = [before['AvailabilityZone'], before['SecondaryAvailabilityZone']]
    assert [after['SecondaryAvailabilityZone'], after['AvailabilityZone']] == zones
    assert 'Multi-AZ instance failover completed' in made.events()


def test_a_failover_without_a_standby_is_refused(database: Database) -> None:
    with pytest.raises(ClientError, match='InvalidParameterCombination'):
        database.rds.reboot_db_instance(DBInstanceIdentifier=database.name, ForceFailover=True)


def test_a_server_that_is_killed_starts_again(database: Database) -> None:
    (process,) = servers_below(Path(database.rehearsal.facts['authority']).parent, database)
    process.kill()
    process.wait(60)
    eventually(lambda: 'DB instance restarted' in database.events(), 'the server starts again', seconds=60)
    database.wait().connect(*database.master()).close()


def servers_below(folder: Path, database: Database | None = None) -> list[psutil.Process]:
    """Return the processes of the servers whose data is below a folder, by default of all databases."""
    port = str(database.described()['Endpoint']['Port']) if database else ''
    files = [file.read_text(encoding='ascii').splitlines() for file in folder.glob('databases/*/data/postmaster.pid')]
    return [psutil.Process(int(lines[0])) for lines in files if not port or lines[3] == port]


def test_metrics_count_the_clients_and_the_free_storage(database: Database) -> None:
    def newest(name: str) -> float:
        now = datetime.now(timezone.utc)
        points = client(database.rehearsal, 'cloudwatch').get_metric_statistics(
            Namespace='AWS/RDS', MetricName=name, Statistics=['Maximum'], Period=1, EndTime=now + timedelta(minutes=1),
            Dimensions=[{'Name': 'DBInstanceIdentifier', 'Value': database.name}],
            StartTime=now - timedelta(minutes=9))['Datapoints']
        return float(max(points, key=lambda point: point['Timestamp'], default={'Maximum': -1})['Maximum'])

    with closing(database.connect(*database.master())), closing(database.connect(PLAIN, 'right way')):
        eventually(lambda: newest('DatabaseConnections') == 2, 'two clients are counted')
    eventually(lambda: newest('DatabaseConnections') == 0, 'no client is counted')
    assert 19 * 1024 ** 3 < newest('FreeStorageSpace') < 20 * 1024 ** 3


def test_a_stopped_database_keeps_its_data_and_allows_no_change(rehearsal: Rehearsal) -> None:
    made = create(rehearsal, 'stopping').wait()
    made.query('CREATE TABLE kept AS SELECT 7 AS number')
    made.rds.stop_db_instance(DBInstanceIdentifier='stopping')
    eventually(lambda: made.described()['DBInstanceStatus'] == 'stopped', 'it is stopped', seconds=60)
    with pytest.raises(ClientError, match='InvalidDBInstanceState'):
        made.rds.modify_db_instance(DBInstanceIdentifier='stopping', BackupRetentionPeriod=3)
    with pytest.raises(ClientError, match='InvalidRequestException'):
        client(rehearsal, 'secretsmanager').rotate_secret(
            SecretId=made.described()['MasterUserSecret']['SecretArn'])
    made.rds.start_db_instance(DBInstanceIdentifier='stopping')
    assert made.wait().query('SELECT number FROM kept') == 7


def test_the_final_snapshot_holds_the_data_and_a_restored_database_has_it(rehearsal: Rehearsal) -> None:
    made, rds = create(rehearsal, 'first').wait(), client(rehearsal, 'rds')
    made.query('CREATE TABLE kept AS SELECT 1 AS number')
    rds.create_db_snapshot(DBInstanceIdentifier='first', DBSnapshotIdentifier='early')
    made.wait().query('UPDATE kept SET number = 2')
    with pytest.raises(ClientError, match='FinalDBSnapshotIdentifier is required'):
        rds.delete_db_instance(DBInstanceIdentifier='first')
    rds.delete_db_instance(DBInstanceIdentifier='first', FinalDBSnapshotIdentifier='final')
    eventually(lambda: 'first' not in names_of(rds), 'the database is gone', seconds=60)

    for snapshot, number in (('early', 1), ('final', 2)):
        rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier=snapshot, DBSnapshotIdentifier=snapshot,
                                                 Port=free_port())
        assert Database(rehearsal, snapshot).wait().query('SELECT number FROM kept') == number


def test_a_deleted_database_leaves_neither_process_nor_data_nor_secret(rehearsal: Rehearsal) -> None:
    made, rds = create(rehearsal, 'deleted').wait(), client(rehearsal, 'rds')
    folder, secret = Path(rehearsal.facts['authority']).parent, made.described()['MasterUserSecret']['SecretArn']
    (process,) = servers_below(folder, made)
    count = len(list(folder.glob('databases/*/data')))
    rds.delete_db_instance(DBInstanceIdentifier='deleted', SkipFinalSnapshot=True)
    eventually(lambda: 'deleted' not in names_of(rds), 'the database is gone', seconds=60)
    assert not process.is_running()
    assert len(list(folder.glob('databases/*/data'))) == count - 1
    with pytest.raises(ClientError, match='ResourceNotFoundException'):
        client(rehearsal, 'secretsmanager').get_secret_value(SecretId=secret)


def names_of(rds: Any) -> list[str]:
    """Return the names of all databases."""
    return [each['DBInstanceIdentifier'] for each in rds.describe_db_instances()['DBInstances']]


def test_two_databases_cannot_share_an_address_and_a_port(rehearsal: Rehearsal, database: Database) -> None:
    with pytest.raises(ClientError, match='choose another port'):
        create(rehearsal, 'second', Port=database.described()['Endpoint']['Port'])
    assert 'second' not in names_of(client(rehearsal, 'rds'))


def test_what_a_server_cannot_do_is_a_gap_and_no_pretence() -> None:
    with Rehearsal(Settings(name=f'gap{os.getpid()}', machines=False, database_address='127.0.0.1')) as running:
        with pytest.raises(ClientError, match='InvalidAction'):
            create(running, 'other', Engine='mysql', EngineVersion='8.0')
        assert running.gaps() == ['rds:CreateDBInstance']


def test_nothing_is_left_of_a_rehearsal_whose_server_was_killed() -> None:
    running = Rehearsal(Settings(name=f'killed{os.getpid()}', machines=False, database_address='127.0.0.1'))
    running.up()
    create(running, 'orphan').wait()
    folder = Path(running.facts['authority']).parent
    (server,) = servers_below(folder)
    os.kill(running.facts['pid'], signal.SIGKILL)
    eventually(lambda: not running.is_up, 'the server of the rehearsal is gone', seconds=60)
    assert server.is_running(), 'this test proves nothing: the database ended by itself'
    running.down()
    assert not server.is_running()
    assert not folder.exists()


def test_the_servers_user_is_not_root(database: Database) -> None:
    (process,) = servers_below(Path(database.rehearsal.facts['authority']).parent, database)
    assert process.uids().real != 0


def test_without_servers_a_database_is_a_record_that_is_available_at_once(aws: EmbeddedRehearsal) -> None:
    rds, secrets = aws.client('rds'), aws.client('secretsmanager')
    arguments = {'DBInstanceClass': 'db.t4g.micro', 'Engine': 'postgres', 'MasterUsername': MASTER,
                 'ManageMasterUserPassword': True}
    made = [rds.create_db_instance(DBInstanceIdentifier=name, **arguments)['DBInstance'] for name in ('one', 'two')]
    assert {each['DBInstanceStatus'] for each in made} == {'available'}
    first, second = (each['Endpoint']['Address'].split('.')[1] for each in made)
    assert first == second != 'aaaaaaaaaa', 'the id is that of the account in the region'

    arns = [each['MasterUserSecret']['SecretArn'] for each in made]
    contents = [json.loads(secrets.get_secret_value(SecretId=arn)['SecretString']) for arn in arns]
    assert [each['username'] for each in contents] == [MASTER, MASTER]
    assert len({each['password'] for each in contents}) == 2, 'each password is random'
    answer = secrets.rotate_secret(SecretId=arns[0])
    current = secrets.get_secret_value(SecretId=arns[0])
    assert current['VersionId'] == answer['VersionId']
    assert json.loads(current['SecretString'])['password'] != contents[0]['password']
    previous = secrets.get_secret_value(SecretId=arns[0], VersionStage='AWSPREVIOUS')
    assert json.loads(previous['SecretString']) == contents[0]

    rds.reboot_db_instance(DBInstanceIdentifier='one')
    for refused_options in ({}, {'SkipFinalSnapshot': True, 'FinalDBSnapshotIdentifier': 'final'}):
        with pytest.raises(ClientError, match='InvalidParameterCombination'):
            rds.delete_db_instance(DBInstanceIdentifier='one', **refused_options)
    rds.delete_db_instance(DBInstanceIdentifier='one', FinalDBSnapshotIdentifier='final')
    assert names_of(rds) == ['two']
    (snapshot,) = rds.describe_db_snapshots(DBSnapshotIdentifier='final')['DBSnapshots']
    assert snapshot['DBInstanceIdentifier'] == 'one'


@pytest.mark.parametrize('options', [
    {'MasterUsername': 'rdsadmin'}, {'MasterUsername': 'pg_owner'}, {'MasterUsername': '1st'},
    {'ManageMasterUserPassword': False}])
def test_a_database_without_a_usable_master_is_refused(rehearsal: Rehearsal, options: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match='InvalidParameterValue'):
        create(rehearsal, 'refused', **options)
    assert 'refused' not in names_of(client(rehearsal, 'rds'))


@pytest.mark.parametrize(('age', 'is_valid'), [
    (timedelta(minutes=15), True), (timedelta(minutes=15, seconds=1), False),
    (timedelta(minutes=-5), True), (timedelta(minutes=-5, seconds=-1), False)])
def test_a_token_is_valid_for_a_quarter_of_an_hour(age: timedelta, is_valid: bool) -> None:
    client = boto3.client('rds', REGION, aws_access_key_id='key', aws_secret_access_key='secret')
    with mock.patch('botocore.auth.get_current_datetime', lambda *_, **__: NOW.replace(tzinfo=None)):
        token = client.generate_db_auth_token('db.example.com', 5432, 'app')
    reason = refusal(token, 'app', 'db.example.com:5432', REGION, {'key': Secret('secret')}.get, NOW + age)
    assert (reason is None) is is_valid, reason


@pytest.mark.parametrize('token', ['', 'secret', 'db.example.com:5432/?Action=connect', 'x/?X-Amz-Credential=a/b'])
def test_a_password_is_no_token(token: str) -> None:
    assert 'not a token' in (refusal(token, 'app', 'db.example.com:5432', REGION, lambda _: None, NOW) or '')


CONTEXTS = {'max_connections': 'postmaster', 'work_mem': 'user'}


@pytest.mark.parametrize(('name', 'is_immediate', 'is_there'), [
    ('max_connections', True, False), ('work_mem', True, True), ('work_mem', False, False),
    ('rds.force_ssl', True, True)])
def test_only_a_dynamic_parameter_that_is_wanted_at_once_needs_no_reboot(name: str, is_immediate: bool,
                                                                         is_there: bool) -> None:
    wanted = {name: Parameter('64', is_immediate)}
    current = in_force(wanted, {}, [name], CONTEXTS)
    assert (current == wanted) is is_there
    assert has_pending(wanted, current) is not is_there
    assert in_force({}, wanted, [], CONTEXTS) == wanted, 'only changed parameters change'


@pytest.mark.parametrize('message', [b'', b'\x02\x01\x01\x63\x00', b'\x02\x01\x01\x60\x02\x02\x00', b'\x30\x00'])
def test_any_other_message_of_ldap_is_refused(message: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse_bind(message)
