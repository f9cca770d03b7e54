"""A rehearsal for the tests, and the machines in it: launched, asked over SSH, and waited for."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import re
import subprocess
from typing import Any
import uuid

from botocore.exceptions import ClientError
import pytest

from rehearsal.client import Rehearsal
from rehearsal.errors import RehearsalError
from rehearsal.settings import Settings
from tests.support.waiting import eventually

BOOT_SECONDS, END_SECONDS = 120, 120
SSH = ('ssh', '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=3', '-o', 'LogLevel=ERROR',
       '-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null')
NO_CONNECTION = 255


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line('markers', 'ami: boots machines of a rehearsal; needs root and a Docker engine')


@pytest.fixture(scope='session')
def rehearsal() -> Iterator[Rehearsal]:
    """Give a rehearsal with machines, one for the whole run; tests that break or end one bring up their own."""
    try:
        running = Rehearsal().__enter__()
    except RehearsalError as error:
        pytest.fail(f'NOTHING TESTED ON MACHINES: {error}', pytrace=False)
    admit_this_host(running)
    yield running
    running.__exit__(None, None, None)


@pytest.fixture(scope='module')
def api() -> Iterator[Rehearsal]:
    """Give a rehearsal without machines."""
    with Rehearsal(Settings(name=f'api-{uuid.uuid4().hex[:8]}', machines=False)) as running:
        yield running


@dataclass(frozen=True)
class Instance:
    """An instance of a rehearsal, and the key that opens its machine."""

    cloud: Rehearsal
    name: str
    key: Path | None = None

    @property
    def described(self) -> dict[str, Any]:
        """The API's description of it."""
        answer = self.cloud.client('ec2').describe_instances(InstanceIds=[self.name])
        return dict(answer['Reservations'][0]['Instances'][0])

    @property
    def state(self) -> str:
        """The state in the API."""
        return str(self.described['State']['Name'])

    @property
    def console(self) -> str:
        """The console of its machine, without colours."""
        return re.sub(r'\x1b\[[0-9;]*m', '', self.cloud.console(self.name))

    def run(self, command: str) -> str:
        """Return the output of a command over SSH, as soon as the server answers."""
        address = f'admin@{self.described["PrivateIpAddress"]}'
        command_line = [*SSH, '-i', str(self.key), address, command]

        def ended() -> subprocess.CompletedProcess[str] | None:
            result = subprocess.run(command_line, capture_output=True, text=True, timeout=300, check=False)
            return None if result.returncode == NO_CONNECTION else result

        answer = eventually(ended, lambda: f'SSH answers: {self.console}', BOOT_SECONDS)
        assert answer and answer.returncode == 0, f'{command}: {answer}'
        return answer.stdout.strip()

    def wait_until(self, state: str, seconds: float = END_SECONDS) -> None:
        """Return when the API reports this state."""
        eventually(lambda: self.state == state, f'{self.name} is {state}', seconds)

    def wait_for_console(self, text: str, seconds: float = BOOT_SECONDS) -> str:
        """Return the console when this text is on it."""
        eventually(lambda: text in self.console, f'{text!r} is on the console of {self.name}', seconds)
        return self.console

    def terminate(self) -> None:
        """Terminate it, and return when it is gone."""
        self.cloud.client('ec2').terminate_instances(InstanceIds=[self.name])
        self.wait_until('terminated')


def launch(cloud: Rehearsal, **options: Any) -> Instance:
    """Return a new instance of the source AMI, or of the given one, without a login."""
    usual = {'ImageId': cloud.facts['source_ami'], 'InstanceType': 't3.small', 'MinCount': 1, 'MaxCount': 1}
    answer = cloud.client('ec2').run_instances(**{**usual, **options})
    return Instance(cloud, answer['Instances'][0]['InstanceId'])


def admit_this_host(cloud: Rehearsal) -> None:
    """Let this host connect to every machine in the default security group."""
    ec2 = cloud.client('ec2')
    vpc = next(each['VpcId'] for each in ec2.describe_vpcs()['Vpcs'] if each['IsDefault'])
    (group,) = ec2.describe_security_groups(Filters=[
        {'Name': 'group-name', 'Values': ['default']}, {'Name': 'vpc-id', 'Values': [vpc]}])['SecurityGroups']
    permission = {'IpProtocol': '-1', 'IpRanges': [{'CidrIp': f'{cloud.gateway}/32'}]}
    try:
        ec2.authorize_security_group_ingress(GroupId=group['GroupId'], IpPermissions=[permission])
    except ClientError as error:
        assert error.response['Error']['Code'] == 'InvalidPermission.Duplicate', error


def launch_to_build_on(cloud: Rehearsal, folder: Path, **options: Any) -> Instance:
    """Return a new instance that can be logged in to, by a key pair of its own that is kept in a folder."""
    name = f'key-{uuid.uuid4().hex[:8]}'
    pair = cloud.client('ec2').create_key_pair(KeyName=name, KeyType='ed25519')
    key = folder / name
    key.touch(mode=0o600)
    key.write_text(pair['KeyMaterial'], encoding='ascii')
    admit_this_host(cloud)
    return Instance(cloud, launch(cloud, KeyName=name, **options).name, key)
