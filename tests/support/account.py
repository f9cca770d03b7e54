"""A rehearsal without machines, as the tests of releases need it: their queries and their events."""

from datetime import datetime, timedelta, timezone
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ssm.models import ssm_backends
import pytest

from rehearsal.api.source_ami import NO_IMAGE, register, SourceAmi
from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.settings import Settings
from tests.support import resources
from tests.support.local_aws import SIZE
from tests.support.waiting import eventually

REGION = Settings.region
SOURCE_AMI = NO_IMAGE.ami
# Debian publishes new images beside those before.
OLDER = SourceAmi(ami='ami-0debian13older', name='debian-13-amd64-20250901-0001',
                  created=datetime(2025, 9, 1, tzinfo=timezone.utc), image='')
PASSED = 'SELFTEST PASSED {Version}\n'


class Account:
    """An account of the rehearsal's, which has nothing but Debian's images at first."""

    def __init__(self, rehearsal: EmbeddedRehearsal) -> None:
        """Take the rehearsal that the account is on."""
        self.rehearsal = rehearsal
        self.refused: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        """The settings that point the SDKs, and the template, to it; a test may remove the region."""
        sdk = {name: value for name, value in self.rehearsal.environment.items() if name != 'AWS_DEFAULT_REGION'}
        return {**sdk, 'AWS_POLL_DELAY_SECONDS': '1', 'CHECKPOINT_DISABLE': '1',
                'PKR_VAR_ec2_endpoint': self.rehearsal.endpoint}

    def client(self, service: str) -> Any:
        """Return a client for the tests' own questions."""
        return self.rehearsal.client(service)

    def reset(self) -> None:
        """Forget everything but Debian's images; self-tests pass."""
        self.rehearsal.reset()
        self.refused = []
        register(ec2_backends[self.rehearsal.account][REGION], OLDER)
        self.say(PASSED)

    def say(self, console: str) -> None:
        """Show a text on the console of each instance; a tag's name in braces stands for that tag of its AMI."""
        self.rehearsal.say(console)

    def keep_new_amis(self, state: str) -> None:
        """Keep each new AMI in a state."""
        self.rehearsal.records.state_of_new_amis = state

    def refuse(self, *operations: str, times: int, status: int = 503, code: str = 'Unavailable') -> None:
        """Refuse the next calls of these operations, of every one if none is named, so many times each."""
        self.rehearsal.faults.refuse(*operations, times=times, status=status, code=code)

    def recover(self) -> None:
        """Stop refusing, and keep the refused operations in `refused`."""
        self.refused += [name.rpartition(':')[2] for name in self.rehearsal.faults.refused]
        self.rehearsal.faults.clear()

    def refresh(self, group: str, status: str, wanted: dict[str, Any]) -> None:
        """Show an instance refresh of a group, which the rehearsal cannot start."""
        refresh = {'InstanceRefreshId': 'r', 'AutoScalingGroupName': group, 'Status': status,
                   'DesiredConfiguration': wanted}
        self.rehearsal.faults.answer('DescribeInstanceRefreshes', result={'InstanceRefreshes': [refresh]})

    def keep_snapshot_of(self, ami: str) -> None:
        """Keep the snapshot of an AMI when that is deregistered, as AWS does where another AMI uses the snapshot."""
        backend = ec2_backends[self.rehearsal.account][REGION]
        # The rehearsal deletes the snapshot of an AMI that it knows; this one is unknown by then.
        self.rehearsal.faults.watch('DeregisterImage', act=lambda _call: backend.deregister_image(ami))

    def add_ami(self, name: str, days: float = 0, **tags: str) -> str:
        """Return the id of a new released AMI of this project, so many days old, with its snapshot."""
        ec2 = self.client('ec2')
        tags = {'Project': 'visitors', 'Stage': 'app', 'Released': 'true', 'Version': name, 'Run': 'some', **tags}
        specifications = [{'ResourceType': kind, 'Tags': [{'Key': key, 'Value': value} for key, value in tags.items()]}
                          for kind in ('image', 'snapshot')]
        instance = ec2.run_instances(ImageId=SOURCE_AMI, InstanceType=SIZE, MinCount=1, MaxCount=1)['Instances'][0]
        ami = ec2.create_image(InstanceId=instance['InstanceId'], Name=f'visitors-{name}',
                               TagSpecifications=specifications)['ImageId']
        ec2.terminate_instances(InstanceIds=[instance['InstanceId']])
        ec2.modify_image_attribute(ImageId=ami, ImdsSupport={'Value': 'v2.0'})
        record = ec2_backends[self.rehearsal.account][REGION].amis[ami]
        created = datetime.now(timezone.utc) - timedelta(days=days)
        record.creation_date = record.ebs_snapshot.start_time = created
        return str(ami)

    def add_template(self, name: str, *amis: str, days: float = 0) -> str:
        """Return the id of a new launch template of this project with a version for each AMI."""
        ec2 = self.client('ec2')
        tags = [{'ResourceType': 'launch-template', 'Tags': [{'Key': 'Project', 'Value': 'visitors'}]}]
        made = ec2.create_launch_template(LaunchTemplateName=name, TagSpecifications=tags, LaunchTemplateData={
            'ImageId': amis[0], 'InstanceType': SIZE})
        template = str(made['LaunchTemplate']['LaunchTemplateId'])
        for ami in amis[1:]:
            ec2.create_launch_template_version(LaunchTemplateId=template, SourceVersion='1',
                                               LaunchTemplateData={'ImageId': ami})
        for version in ec2_backends[self.rehearsal.account][REGION].launch_templates[template].versions:
            version.create_time -= timedelta(days=days)
        return template

    def age_parameters(self, seconds: float) -> None:
        """Let every parameter have been written so many seconds earlier."""
        for versions in list(ssm_backends[self.rehearsal.account][REGION]._parameters.values()):
            for version in versions:
                version.last_modified_date -= timedelta(seconds=seconds)

    def images(self, **tags: str) -> list[dict[str, Any]]:
        """Return the images of this project that have these tags, the oldest first."""
        filters = [{'Name': f'tag:{key}', 'Values': [value]} for key, value in {'Project': 'visitors', **tags}.items()]
        images = self.client('ec2').describe_images(Owners=['self'], Filters=filters)['Images']
        return sorted(images, key=lambda image: str(image['CreationDate']))

    def instances(self) -> list[dict[str, Any]]:
        """Return all instances that there ever were."""
        return resources.instances(self.client('ec2'))

    def run_in_a_group(self, ami: str) -> str:
        """Return the name of an Auto Scaling group that runs an image."""
        template = self.client('ec2').create_launch_template(
            LaunchTemplateName=f'of-{ami}', LaunchTemplateData={'ImageId': ami, 'InstanceType': SIZE})
        identity = template['LaunchTemplate']['LaunchTemplateId']
        name, groups = f'group-of-{ami}', self.client('autoscaling')
        groups.create_auto_scaling_group(
            AutoScalingGroupName=name, MinSize=1, MaxSize=1, AvailabilityZones=[f'{REGION}a'],
            LaunchTemplate={'LaunchTemplateId': identity, 'Version': '1'})
        eventually(lambda: [each['LifecycleState'] for each in
                            groups.describe_auto_scaling_instances()['AutoScalingInstances']] == ['InService'],
                   f'{name} has an instance in service')
        return name

    def leftovers(self) -> dict[str, list[str]]:
        """Return everything that costs money or is in the way, besides AMIs of this project and their snapshots."""
        amis = self.client('ec2').describe_images(Owners=['self'])['Images']
        parameters = self.client('ssm').get_parameters_by_path(Path='/', Recursive=True)['Parameters']
        kinds = {'unfinished AMIs': [ami['ImageId'] for ami in amis if ami.get('ImdsSupport') != 'v2.0'],
                 'locks': [parameter['Name'] for parameter in parameters]}
        return {**resources.leftovers(self.client('ec2')), **{kind: names for kind, names in kinds.items() if names}}


@pytest.fixture(scope='session')
def shared_account(embedded: EmbeddedRehearsal) -> Account:
    """Give an account whose resources are those of the tests before; a module that shares it resets it."""
    return Account(embedded)


@pytest.fixture
def account(shared_account: Account) -> Account:
    """Give an account in which nothing has been done yet."""
    shared_account.reset()
    return shared_account
