"""Machines of the released AMI with normal user data: they migrate and serve, or report why not and turn off."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
import json
import re
import shlex
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import requests

from instance.checks import CONNECT_PROGRAM, METADATA_ADDRESSES
from instance.container import USER
from rehearsal.client import Rehearsal
from rehearsal.machines.ruleset import TABLE
from tests.support.containers.engine import counted, PORT
from tests.support.installation import Database, Installation, PROFILE
from tests.support.instances import Instance, launch
from tests.support.postgresql import execute, value
from tests.support.server import BROWSER, ROOT
from tests.support.waiting import eventually
from tests.support.workshop import BAKE_SECONDS, Workshop

SERVE_SECONDS, FAIL_SECONDS = 180, 300
pytestmark = [pytest.mark.ami, pytest.mark.timeout(BAKE_SECONDS + FAIL_SECONDS)]
HOOK = 'launch'
# An address at which no server listens.
NOWHERE = 'http://169.254.169.250:81'
FIRST_REVISION = 'e75588bf2531'  # pragma: allowlist secret
# A database at the application's first revision, with a column that makes the next one fail.
IN_THE_WAY = f"""
CREATE TABLE visitor (id serial PRIMARY KEY, ip varchar(40), visits integer);
CREATE UNIQUE INDEX ix_visitor_ip ON visitor (ip);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('{FIRST_REVISION}');
CREATE TABLE days (nothing text);
"""


class Group:
    def __init__(self, installation: Installation, ami: str, size: int) -> None:
        """Make an Auto Scaling group with a launch hook and a load balancer, which launches all machines at once."""
        cloud = self.cloud = installation.cloud
        self.name = f'group{installation.prefix.replace("/", "-")}'
        self.api = cloud.client('autoscaling')
        self.balancers = cloud.client('elbv2')
        self.balancer, target = self._make_load_balancer()
        cloud.client('ec2').create_launch_template(LaunchTemplateName=self.name, LaunchTemplateData={
            'ImageId': ami, 'InstanceType': 't3.small', 'IamInstanceProfile': {'Name': PROFILE},
            'UserData': encoded(installation.user_data(LIFECYCLE_HOOK=HOOK))})
        self.api.create_auto_scaling_group(
            AutoScalingGroupName=self.name, MinSize=0, MaxSize=size, DesiredCapacity=size, TargetGroupARNs=[target],
            LaunchTemplate={'LaunchTemplateName': self.name, 'Version': '1'}, AvailabilityZones=['us-east-1a'],
            LifecycleHookSpecificationList=[{
                'LifecycleHookName': HOOK, 'LifecycleTransition': 'autoscaling:EC2_INSTANCE_LAUNCHING',
                'HeartbeatTimeout': 300, 'DefaultResult': 'ABANDON'}])

    @property
    def states(self) -> dict[str, str]:
        """The lifecycle state of each of its instances."""
        (group,) = self.api.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])['AutoScalingGroups']
        return {each['InstanceId']: each['LifecycleState'] for each in group['Instances']}

    @property
    def activities(self) -> list[dict[str, Any]]:
        """The activities of the group, the newest first."""
        return list(self.api.describe_scaling_activities(AutoScalingGroupName=self.name)['Activities'])

    def remove(self) -> None:
        """Delete the group with its machines."""
        self.api.delete_auto_scaling_group(AutoScalingGroupName=self.name, ForceDelete=True)
        self.balancers.delete_load_balancer(LoadBalancerArn=self.balancer)

    def _make_load_balancer(self) -> tuple[str, str]:
        """Return the ARNs of a new load balancer and its target group."""
        name, ec2 = self.name[-32:].strip('-'), self.cloud.client('ec2')
        target = self.balancers.create_target_group(
            Name=name, Protocol='HTTP', Port=PORT, VpcId=ec2.describe_vpcs()['Vpcs'][0]['VpcId'],
            HealthCheckPath='/livez', HealthCheckIntervalSeconds=5,
            HealthCheckTimeoutSeconds=4)['TargetGroups'][0]['TargetGroupArn']
        balancer = self.balancers.create_load_balancer(
            Name=name, Subnets=[each['SubnetId'] for each in ec2.describe_subnets()['Subnets']],
        )['LoadBalancers'][0]['LoadBalancerArn']
        self.balancers.create_listener(LoadBalancerArn=balancer, Protocol='HTTP', Port=80,
                                       DefaultActions=[{'Type': 'forward', 'TargetGroupArn': target}])
        return balancer, target


class Machine(Instance):
    """A machine of the AMI, in which tests can run commands although it allows no login."""

    def root(self, command: str) -> str:
        """Return the output of a command of root."""
        shell = [sys.executable, '-m', 'rehearsal', 'shell', f'--name={self.cloud.settings.name}', self.name]
        result = subprocess.run([*shell, 'sh', '-c', command], cwd=ROOT, capture_output=True, text=True, timeout=120,
                                check=False)
        assert result.returncode == 0, f'{command}: {result.stdout}{result.stderr}\n{self.console}'
        return result.stdout.strip()

    def get(self, path: str) -> requests.Response:
        """Return the application's answer to a browser."""
        address = f'http://{self.described["PrivateIpAddress"]}:{PORT}'
        return requests.get(address + path, headers={'User-Agent': BROWSER}, timeout=10)


def encoded(text: str) -> str:
    """Return a text in the encoding of launch templates."""
    return b64encode(text.encode()).decode()


@pytest.fixture(scope='module')
def installation(database: Database) -> Installation:
    """Give an installation that forgets visitors after thirty days."""
    site = database.install()
    site.put_parameter('settings/PURGE_OLDER_THAN', '30')
    return site


@pytest.fixture(scope='module')
def three(installation: Installation, released: str) -> Iterator[list[Machine]]:
    """Give three machines that were launched at once for an empty database, when their group has them in service."""
    group = Group(installation, released, 3)
    try:
        eventually(lambda: list(group.states.values()) == ['InService'] * 3, 'three are in service', SERVE_SECONDS)
        yield [Machine(installation.cloud, name) for name in group.states]
    finally:
        for name in re.findall('i-[0-9a-f]{17}', json.dumps(group.activities, default=str)):
            print(Machine(installation.cloud, name).console)
        group.remove()


def test_one_of_three_machines_migrates_the_schema(three: list[Machine], installation: Installation) -> None:
    eventually(lambda: len(installation.logged('visitors ready: ')) == len(three), 'all have a line in the log')
    assert len(installation.logged('leading: attempt 1 of deploy')) == 1
    assert value(installation.database, 'SELECT count(*) FROM migration_attempt') == 1
    assert {event['logStreamName'] for event in installation.logged('the schema fits')} == {
        machine.name for machine in three}


def test_all_of_them_serve_the_version_that_was_baked(three: list[Machine], workshop: Workshop, released: str) -> None:
    version = workshop.tags(released)['Version']
    assert [machine.get('/version').json()['version'] for machine in three] == [version] * 3
    assert [machine.get('/readyz').status_code for machine in three] == [200] * 3


def test_all_of_them_prove_themselves_to_their_group_and_its_balancer(three: list[Machine]) -> None:
    for machine in three:
        assert re.search('visitors ready: .* serves; .*: hook completed, healthy in 1 target group', machine.console)


def test_they_count_together(three: list[Machine]) -> None:
    visits = [counted(machine.get('/'))[0] for machine in three]
    assert visits == [visits[0], visits[0] + 1, visits[0] + 2]


def test_the_application_reaches_no_metadata_service_and_root_does(three: list[Machine]) -> None:
    program = shlex.quote(CONNECT_PROGRAM)
    addresses = ' '.join(METADATA_ADDRESSES)
    user = three[0].root('docker exec visitors python -c "import os; print(os.getuid())"')
    assert user == str(USER)
    assert three[0].root(f'docker exec visitors python -c {program} {addresses}') == ''
    assert three[0].root(f'python3 -c {program} {addresses}') == METADATA_ADDRESSES[0]


def test_the_engine_adds_neither_a_bridge_nor_rules_of_a_firewall(three: list[Machine]) -> None:
    assert 'docker0' not in three[0].root('ip -brief link')
    # The other table is the rehearsal's, which takes the place of AWS's security groups.
    assert sorted(three[0].root('nft list tables').splitlines()) == ['table inet metadata', f'table {TABLE}']


def test_kernel_settings_stay_off_the_kernel_of_the_host(three: list[Machine]) -> None:
    assert three[0].root('systemctl show --property=ConditionResult --value systemd-sysctl.service') == 'no'


def test_an_instance_has_no_account_for_a_login(three: list[Machine]) -> None:
    assert three[0].root("awk -F: '$3 >= 1000 && $3 < 65534 {print $1}' /etc/passwd") == ''


def test_an_engine_that_is_restarted_or_killed_interrupts_no_visit_and_turns_nothing_off(three: list[Machine]) -> None:
    machine = three[0]
    began = 'docker inspect --format={{.State.StartedAt}} visitors'
    started = machine.root(began)
    statuses: list[int] = []
    is_over = threading.Event()

    def visit() -> None:
        while not is_over.is_set():
            statuses.append(machine.get('/').status_code)

    with ThreadPoolExecutor(2) as threads:
        visiting = [threads.submit(visit) for _ in range(2)]
        try:
            machine.root('systemctl reset-failed docker.service; for number in 1 2 3 4 5 6; do '
                         'systemctl reset-failed docker.service; systemctl restart docker.service; done')
            machine.root('kill -9 $(pidof dockerd)')
            # `|| true`: while the engine is down the command fails, which `root` does not accept. Its output decides.
            eventually(lambda: machine.root(f'{began} || true') == started, 'the engine has its container again')
        finally:
            is_over.set()
        for each in visiting:
            each.result()
    assert len(statuses) > 20 and set(statuses) == {200}
    assert machine.root('systemctl show --property=NRestarts --value visitors.service') == '0'


def test_the_record_of_a_boot_holds_each_phase(three: list[Machine]) -> None:
    record = json.loads(three[0].root('cat /run/visitors/boot.json'))
    assert [each['phase'] for each in record['phases']] == [
        'power-on', 'network', 'config', 'migrate', 'application', 'ready']
    assert all(each['seconds'] >= 0 for each in record['phases'])
    assert record['failure'] is None


def test_secrets_are_in_their_folders_and_nowhere_else(three: list[Machine], installation: Installation) -> None:
    machine = three[0]
    for name, secret in installation.secrets.items():
        word = shlex.quote(secret)
        # `|| true`: grep also fails if a file disappears during the search. The listed file proves that it searched.
        files = machine.root(f'grep --recursive --files-with-matches --fixed-strings {word} /run/visitors /etc /home '
                             '/root /opt /srv /usr/local /var --exclude-dir=overlay2 2> /dev/null || true')
        role = 'migration' if name.startswith('MIGRATION') else 'application'
        assert files.split() == [f'/run/visitors/secrets/{role}/{name}']
        # A process may end meanwhile, so cat may fail; the variable of the steps proves that it printed environments.
        environments = machine.root("cat /proc/[0-9]*/environ 2> /dev/null | tr '\\0' '\\n'")
        assert 'PYTHONPATH=/usr/lib/visitors' in environments.splitlines() and secret not in environments
        for command in ('docker inspect visitors', 'journalctl --no-pager', 'docker image history --no-trunc '
                        '$(docker image ls --quiet)'):
            assert secret not in machine.root(command)
        assert secret not in machine.console
        assert not installation.logged(secret)


def test_only_root_and_the_application_can_read_secrets(three: list[Machine]) -> None:
    listing = three[0].root('stat --format="%F %a %u %g" /run/visitors/secrets/*/* /run/visitors/secrets/*')
    assert set(listing.splitlines()) == {'regular file 400 10001 10001', 'directory 710 0 10001'}


def test_one_of_several_purges_at_once_forgets_visitors(three: list[Machine], installation: Installation) -> None:
    execute(installation.database, 'INSERT INTO visitors (id, last_day) VALUES (gen_random_uuid(), current_date - 90)')
    for machine in three:
        assert machine.root('systemctl is-active visitors-purge.timer visitors-token.timer') == 'active\nactive'
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda machine: machine.root('systemctl start visitors-purge.service'), three))
    old = 'SELECT count(*) FROM visitors WHERE last_day < current_date - 30'
    assert value(installation.database, old) == 0
    assert three[0].root('docker exec visitors flask check-counts')


def test_no_unit_has_failed(three: list[Machine]) -> None:
    for machine in three:
        assert machine.root('systemctl --failed --no-legend') == ''


@pytest.fixture(scope='module')
def with_token(database: Database, released: str) -> Iterator[tuple[Machine, Installation]]:
    """Give a machine whose application signs in with a token, and its installation."""
    site = database.install()
    execute(database.server.url('postgres'), 'CREATE ROLE rds_iam')
    execute(database.server.url('postgres'), f'GRANT rds_iam TO {site.owner} WITH ADMIN OPTION')
    url = site.database.replace('owner@', 'with_token@')
    site.put_parameter('settings/DATABASE_URL', url)
    site.put_parameter('settings/DATABASE_IAM_AUTHENTICATION', '1')
    site.delete_parameter('secrets/DATABASE_PASSWORD')
    machine = Machine(site.cloud, launch(site.cloud, ImageId=released, UserData=site.user_data(),
                                         IamInstanceProfile={'Name': PROFILE}).name)
    machine.wait_for_console('visitors ready: ', SERVE_SECONDS)
    yield machine, site
    machine.terminate()


def test_a_token_is_signed_for_the_database_and_renewed(with_token: tuple[Machine, Installation]) -> None:
    machine, installation = with_token
    assert machine.get('/readyz').status_code == 200
    path = '/run/visitors/secrets/application/DATABASE_PASSWORD'
    token = machine.root(f'cat {path}')
    address = installation.database.partition('@')[2].partition('/')[0]
    assert token.startswith(f'{address}/?Action=connect&DBUser=with_token&X-Amz-Algorithm=AWS4-HMAC-SHA256')
    time.sleep(1.1)  # a token is signed by the second
    machine.root('systemctl start visitors-token.service')
    assert machine.root(f'cat {path}') != token


def test_the_role_may_sign_in_with_a_token_and_has_no_password(with_token: tuple[Machine, Installation]) -> None:
    _, installation = with_token
    assert value(installation.database, "SELECT pg_has_role('with_token', 'rds_iam', 'member')") is True
    assert value(installation.database, "SELECT rolpassword FROM pg_authid WHERE rolname = 'with_token'") is None


def test_a_machine_that_is_restarted_serves_again(with_token: tuple[Machine, Installation]) -> None:
    machine, installation = with_token
    machine.cloud.client('ec2').reboot_instances(InstanceIds=[machine.name])
    eventually(lambda: machine.console.count('visitors ready: ') == 2, 'it is ready once more', SERVE_SECONDS)
    assert machine.get('/readyz').status_code == 200
    assert machine.root('systemctl --failed --no-legend') == ''
    eventually(lambda: len(installation.logged('visitors ready: ')) == 2, 'both boots are in the log')


def without_a_parameter(installation: Installation) -> dict[str, str]:
    """Delete a parameter."""
    installation.delete_parameter('settings/DATABASE_URL')
    return {}


def with_a_wrong_password(installation: Installation) -> dict[str, str]:
    """Store another password than the database's."""
    installation.put_secret('MIGRATION_DATABASE_PASSWORD', 'another one')
    return {}


def with_no_api(_installation: Installation) -> dict[str, str]:
    """Set an endpoint of AWS at which no server listens."""
    return {'AWS_ENDPOINT_URL': NOWHERE}


# Faults of an installation, and the last line of a machine's console for each.
WRONG: dict[str, tuple[Callable[[Installation], dict[str, str]], str]] = {
    'an absent parameter': (
        without_a_parameter, 'FAILED in config: missing in the Parameter Store: /visitors/.*/settings/DATABASE_URL'),
    'a wrong password': (
        with_a_wrong_password, 'FAILED in migrate: .*password authentication failed.*'),
    'an unavailable API': (with_no_api, f'FAILED in config: .*{re.escape(NOWHERE)}'),
}


@pytest.fixture(scope='module')
def hopeless(database: Database, released: str) -> Iterator[dict[str, Machine]]:
    """Give a machine for each fault; they fail at the same time."""
    machines = {}
    for name, (spoil, _) in WRONG.items():
        site = database.install()
        user_data = site.user_data(**spoil(site))
        machines[name] = Machine(site.cloud, launch(site.cloud, ImageId=released, UserData=user_data,
                                                    IamInstanceProfile={'Name': PROFILE}).name)
    yield machines
    for machine in machines.values():
        machine.terminate()


@pytest.mark.parametrize('name', WRONG)
def test_a_machine_that_cannot_serve_prints_why_and_turns_itself_off(hopeless: dict[str, Machine], name: str) -> None:
    machine = hopeless[name]
    machine.wait_until('stopped', FAIL_SECONDS)
    assert re.search(f'visitors {WRONG[name][1]}.*; turning off', machine.console), machine.console


def test_a_failed_migration_is_reported_to_the_group_and_counted(database: Database, released: str) -> None:
    site = database.install()
    database.execute_as_owner(site, IN_THE_WAY)
    group = Group(site, released, 1)
    try:
        eventually(lambda: bool(group.states), 'a machine is launched')
        machine = Machine(site.cloud, next(iter(group.states)))
        machine.wait_for_console('turning off', SERVE_SECONDS)
        eventually(lambda: 'ABANDON' in json.dumps(group.activities, default=str), 'the group has the result ABANDON')
        group.api.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=0)
        machine.wait_until('terminated')
    finally:
        group.remove()
    assert re.search('visitors FAILED in migrate: the migration of this deploy has failed: .*"?days"? already exists',
                     machine.console), machine.console
    assert metrics(site.cloud, 'MigrationFailed') == [[], [{'Name': 'DeployId', 'Value': f'deploy{site.prefix}'}]]
    assert value(site.database, 'SELECT version_num FROM alembic_version') == FIRST_REVISION
    assert value(site.database, 'SELECT count(*) FROM days') == 0, 'the obstacle is unchanged'


def metrics(cloud: Rehearsal, name: str) -> list[list[dict[str, str]]]:
    """Return the dimensions of a metric."""
    listing = cloud.client('cloudwatch').list_metrics(Namespace='Visitors', MetricName=name)['Metrics']
    return sorted((metric['Dimensions'] for metric in listing), key=len)
