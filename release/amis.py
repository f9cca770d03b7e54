"""The project's AMIs in EC2: find them by their tags, tag them, and remove them with their snapshots."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from release.aws import Aws
from release.errors import AwsFailed, NotReady

PROJECT = 'visitors'
BASE, APP = 'base', 'app'
# The account that publishes Debian's AMIs: https://wiki.debian.org/Cloud/AmazonEC2Image
DEBIAN = '136693071363'
SOURCE_NAME = 'debian-13-amd64-*'
TAG_LENGTH = 256
NO_SNAPSHOT = 'InvalidSnapshot.NotFound'
DEREGISTERED = 'deregistered'
ENGINE_TAG = 'Engine'
UNKNOWN_AMI = ('InvalidAMIID.NotFound', 'InvalidAMIID.Malformed', 'InvalidAMIID.Unavailable')


@dataclass(frozen=True)
class Ami:
    """One AMI, with the properties that a release reads."""

    id: str
    name: str
    state: str
    created: datetime
    imds: str
    snapshots: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """The stage of the bake that made it: base or app."""
        return self.tags.get('Stage', '')

    @property
    def input_hash(self) -> str:
        """The hash of all inputs of its bake."""
        return self.tags.get('InputHash', '')

    @property
    def version(self) -> str:
        """The version of the application in it."""
        return self.tags.get('Version', '')

    @property
    def engine(self) -> str:
        """The exact version of the container engine in it; the inputs pin the release line only."""
        return self.tags.get(ENGINE_TAG, '')

    @property
    def is_ours(self) -> bool:
        """Whether this project baked it."""
        return self.tags.get('Project') == PROJECT

    @property
    def is_committed(self) -> bool:
        """Whether its bake finished: ImdsSupport=v2.0 is the last thing that a bake sets, and so its commit mark."""
        return self.state == 'available' and self.imds == 'v2.0'

    @property
    def is_released(self) -> bool:
        """Whether it passed its self-test, so that instances may run it."""
        return self.is_committed and self.tags.get('Released') == 'true'


def find(aws: Aws, stage: str, input_hash: str) -> list[Ami]:
    """Return the AMIs of a stage that were baked from these inputs, the newest first."""
    return _ours(aws, Stage=stage, InputHash=input_hash)


def of_stage(aws: Aws, stage: str) -> list[Ami]:
    """Return all AMIs of a stage, the newest first."""
    return _ours(aws, Stage=stage)


def of_input_hash(aws: Aws, input_hash: str) -> list[Ami]:
    """Return the AMIs of both stages that were baked from these inputs, the newest first."""
    return _ours(aws, InputHash=input_hash)


def of_run(aws: Aws, run_id: str) -> list[Ami]:
    """Return the AMIs of a run, including those that it had no time to tag: their names hold the run's id too."""
    tagged = _described(aws, Owners=['self'], Filters=_filters(Run=run_id))
    named = _described(aws, Owners=['self'], Filters=[{'Name': 'name', 'Values': [f'{PROJECT}-*{run_id}*']}])
    return newest_first({ami.id: ami for ami in tagged + named}.values())


def of_project(aws: Aws) -> list[Ami]:
    """Return all AMIs of this project, the newest first."""
    return _ours(aws)


def of_account(aws: Aws) -> list[Ami]:
    """Return all AMIs of this account, those of other projects included, the newest first."""
    return _described(aws, Owners=['self'])


def get(aws: Aws, ami_id: str) -> Ami:
    """Return an AMI of this project by its id; raise NotReady if the region lacks it."""
    ami = registered(aws, ami_id)
    if not ami:
        raise NotReady(f'{ami_id}: the region {aws.region} has no such AMI, or these credentials cannot see it')
    return ami


def registered(aws: Aws, ami_id: str) -> Ami | None:
    """Return an AMI by its id, or None if it is not registered; raise NotReady if another project made it."""
    try:
        answer = _described(aws, ImageIds=[ami_id])
    except AwsFailed as error:
        if error.code not in UNKNOWN_AMI:
            raise
        return None
    ami = answer[0] if answer else None
    if ami and not ami.is_ours:
        raise NotReady(f'{ami_id} ({ami.name}) is no AMI of this project: it has no tag Project={PROJECT}')
    return ami if ami and ami.state != DEREGISTERED else None


def newest_source(aws: Aws) -> Ami:
    """Return Debian's newest AMI, which every bake starts from."""
    sources = _described(aws, Owners=[DEBIAN], Filters=[
        {'Name': 'name', 'Values': [SOURCE_NAME]}, {'Name': 'state', 'Values': ['available']},
        {'Name': 'root-device-type', 'Values': ['ebs']}, {'Name': 'virtualization-type', 'Values': ['hvm']}])
    if not sources:
        raise NotReady(f'the region {aws.region} has no AMI {SOURCE_NAME} of Debian (account {DEBIAN}); is it the '
                       'right region?')
    return sources[0]


def in_groups(aws: Aws) -> list[str]:
    """Return the ids of the AMIs that instances of Auto Scaling groups run, the most used first."""
    reservations = aws.items('ec2', 'describe_instances', 'Reservations', Filters=[
        {'Name': 'tag-key', 'Values': ['aws:autoscaling:groupName']},
        {'Name': 'instance-state-name', 'Values': ['running']}])
    used = [instance['ImageId'] for reservation in reservations for instance in reservation['Instances']]
    return sorted(set(used), key=lambda ami_id: (-used.count(ami_id), ami_id))


def require_imdsv2(aws: Aws, ami_id: str) -> None:
    """Make IMDSv2 mandatory on every instance of an AMI, which cannot be reverted; this commits the bake."""
    aws.call('ec2', 'modify_image_attribute', ImageId=ami_id, ImdsSupport={'Value': 'v2.0'})
    imds = get(aws, ami_id).imds
    if imds != 'v2.0':
        raise AwsFailed(f'{ami_id}: ImdsSupport was set to v2.0 and reads {imds!r}')


def tag(aws: Aws, ami_id: str, **tags: str) -> None:
    """Set tags of an AMI."""
    aws.call('ec2', 'create_tags', Resources=[ami_id],
             Tags=[{'Key': key, 'Value': value[:TAG_LENGTH]} for key, value in tags.items()])


def deregister(aws: Aws, ami_id: str) -> None:
    """Deregister an AMI, unless that was done before."""
    try:
        aws.call('ec2', 'deregister_image', ImageId=ami_id, DeleteAssociatedSnapshots=True)
    except AwsFailed as error:
        if error.code not in UNKNOWN_AMI:
            raise


def delete_snapshots(aws: Aws, snapshots: Iterable[str]) -> dict[str, AwsFailed]:
    """Delete snapshots, and return those that AWS refuses to delete, each with its reason."""
    failures = {}
    for snapshot in snapshots:
        try:
            aws.call('ec2', 'delete_snapshot', SnapshotId=snapshot)
        except AwsFailed as error:
            if error.code != NO_SNAPSHOT:  # deleted together with its AMI, or by hand
                failures[snapshot] = error
    return failures


def remove(aws: Aws, ami: Ami) -> None:
    """Deregister an AMI and delete its snapshots."""
    deregister(aws, ami.id)
    for error in delete_snapshots(aws, ami.snapshots).values():
        raise error


def newest_first(amis: Iterable[Ami]) -> list[Ami]:
    """Return AMIs by age, and by id if they were made in the same second."""
    return sorted(amis, key=lambda ami: (ami.created, ami.id), reverse=True)


def read(description: Mapping[str, Any]) -> Ami:
    """Return the AMI that an entry of DescribeImages describes."""
    disks = [mapping.get('Ebs', {}) for mapping in description.get('BlockDeviceMappings', [])]
    return Ami(
        id=description['ImageId'],
        name=description.get('Name', ''),
        state=description['State'],
        created=datetime.fromisoformat(description['CreationDate'].replace('Z', '+00:00')),
        imds=description.get('ImdsSupport', ''),
        snapshots=tuple(disk['SnapshotId'] for disk in disks if 'SnapshotId' in disk),
        tags=tags_of(description),
    )


def tags_of(description: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of any resource of EC2."""
    return {tag['Key']: tag['Value'] for tag in description.get('Tags', [])}


def _ours(aws: Aws, **tags: str) -> list[Ami]:
    return _described(aws, Owners=['self'], Filters=_filters(Project=PROJECT, **tags))


def _described(aws: Aws, **which: Any) -> list[Ami]:
    return newest_first(map(read, aws.items('ec2', 'describe_images', 'Images', **which)))


def _filters(**tags: str) -> list[dict[str, Any]]:
    return [{'Name': f'tag:{key}', 'Values': [value]} for key, value in tags.items()]
