"""Machine images as EC2 knows them: found by their tags, marked, and removed with all that belongs to them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from release.aws import Aws
from release.errors import AwsFailed, NotReady

PROJECT = 'visitors'
BASE, APP = 'base', 'app'
# The account that Debian publishes its images from: https://wiki.debian.org/Cloud/AmazonEC2Image
DEBIAN = '136693071363'
SOURCE_NAME = 'debian-13-amd64-*'
TAG_LENGTH = 256
NO_SNAPSHOT = 'InvalidSnapshot.NotFound'
DEREGISTERED = 'deregistered'
ENGINE_TAG = 'Engine'
UNKNOWN_IMAGE = ('InvalidAMIID.NotFound', 'InvalidAMIID.Malformed', 'InvalidAMIID.Unavailable')


@dataclass(frozen=True)
class Image:
    """One machine image, as far as a release has to know it."""

    ami: str
    name: str
    state: str
    created: datetime
    imds: str
    snapshots: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """Which stage it is of: base or app."""
        return self.tags.get('Stage', '')

    @property
    def key(self) -> str:
        """The hash of all that went into it."""
        return self.tags.get('InputHash', '')

    @property
    def version(self) -> str:
        """The version of the application in it."""
        return self.tags.get('Version', '')

    @property
    def engine(self) -> str:
        """The exact version of the container engine in it, which its inputs name by the release line only."""
        return self.tags.get(ENGINE_TAG, '')

    @property
    def is_ours(self) -> bool:
        """Whether this project has baked it."""
        return self.tags.get('Project') == PROJECT

    @property
    def is_complete(self) -> bool:
        """Whether its bake came to its end: to demand tokens of the metadata service is what a bake does last."""
        return self.state == 'available' and self.imds == 'v2.0'

    @property
    def is_released(self) -> bool:
        """Whether it has passed its self-test, and so may run."""
        return self.is_complete and self.tags.get('Released') == 'true'


def find(aws: Aws, stage: str, key: str) -> list[Image]:
    """Return the images of a stage that were baked from these inputs, the newest first."""
    return _ours(aws, Stage=stage, InputHash=key)


def of_stage(aws: Aws, stage: str) -> list[Image]:
    """Return all images of a stage, the newest first."""
    return _ours(aws, Stage=stage)


def of_key(aws: Aws, key: str) -> list[Image]:
    """Return the images of either stage that were baked from these inputs, the newest first."""
    return _ours(aws, InputHash=key)


def of_run(aws: Aws, run_id: str) -> list[Image]:
    """Return what a bake has made, also if it had no time to tag it: the run is in the name as well."""
    tagged = _described(aws, Owners=['self'], Filters=_filters(Run=run_id))
    named = _described(aws, Owners=['self'], Filters=[{'Name': 'name', 'Values': [f'{PROJECT}-*{run_id}*']}])
    return newest_first({image.ami: image for image in tagged + named}.values())


def of_project(aws: Aws) -> list[Image]:
    """Return all images of this project, the newest first."""
    return _ours(aws)


def get(aws: Aws, ami: str) -> Image:
    """Return one image by its id; raise NotReady where the region has none of this project's by it."""
    found = known(aws, ami)
    if not found:
        raise NotReady(f'{ami}: the region {aws.region} has no such image, or not for these credentials')
    return found


def known(aws: Aws, ami: str) -> Image | None:
    """Return one image by its id, if it is registered; raise NotReady where it is none of this project's."""
    try:
        found = _described(aws, ImageIds=[ami])
    except AwsFailed as error:
        if error.reason not in UNKNOWN_IMAGE:
            raise
        return None
    if found and not found[0].is_ours:
        raise NotReady(f'{ami} ({found[0].name}) is no image of this project: it has no tag Project={PROJECT}')
    return found[0] if found and found[0].state != DEREGISTERED else None


def newest_source(aws: Aws) -> Image:
    """Return Debian's newest image, which every bake begins with."""
    found = _described(aws, Owners=[DEBIAN], Filters=[
        {'Name': 'name', 'Values': [SOURCE_NAME]}, {'Name': 'state', 'Values': ['available']},
        {'Name': 'root-device-type', 'Values': ['ebs']}, {'Name': 'virtualization-type', 'Values': ['hvm']}])
    if not found:
        raise NotReady(f'the region {aws.region} has no image {SOURCE_NAME} of Debian (account {DEBIAN}); is it the '
                       'right region?')
    return found[0]


def in_groups(aws: Aws) -> list[str]:
    """Return the ids of the images that instances of Auto Scaling groups run, the most used first."""
    running = aws.items('ec2', 'describe_instances', 'Reservations', Filters=[
        {'Name': 'tag-key', 'Values': ['aws:autoscaling:groupName']},
        {'Name': 'instance-state-name', 'Values': ['running']}])
    used = [instance['ImageId'] for reservation in running for instance in reservation['Instances']]
    return sorted(set(used), key=lambda ami: (-used.count(ami), ami))


def demand_tokens(aws: Aws, ami: str) -> None:
    """Let the metadata service of every instance of an image demand tokens; this cannot be taken back."""
    aws.call('ec2', 'modify_image_attribute', ImageId=ami, ImdsSupport={'Value': 'v2.0'})
    read = get(aws, ami).imds
    if read != 'v2.0':
        raise AwsFailed(f'{ami}: ImdsSupport was set to v2.0 and reads {read!r}')


def tag(aws: Aws, ami: str, **tags: str) -> None:
    """Set tags of an image."""
    aws.call('ec2', 'create_tags', Resources=[ami],
             Tags=[{'Key': key, 'Value': value[:TAG_LENGTH]} for key, value in tags.items()])


def deregister(aws: Aws, ami: str) -> None:
    """Deregister an image; one that is gone already is none to complain of."""
    try:
        aws.call('ec2', 'deregister_image', ImageId=ami, DeleteAssociatedSnapshots=True)
    except AwsFailed as error:
        if error.reason not in UNKNOWN_IMAGE:
            raise


def delete_snapshots(aws: Aws, snapshots: Iterable[str]) -> dict[str, AwsFailed]:
    """Delete snapshots, and return those that could not be deleted, each with its reason."""
    kept = {}
    for snapshot in snapshots:
        try:
            aws.call('ec2', 'delete_snapshot', SnapshotId=snapshot)
        except AwsFailed as error:
            if error.reason != NO_SNAPSHOT:  # it went with its image, or by hand
                kept[snapshot] = error
    return kept


def remove(aws: Aws, image: Image) -> None:
    """Deregister an image and delete its snapshots."""
    deregister(aws, image.ami)
    for error in delete_snapshots(aws, image.snapshots).values():
        raise error


def newest_first(images: Iterable[Image]) -> list[Image]:
    """Return images by age; by id where two were made in the same second."""
    return sorted(images, key=lambda image: (image.created, image.ami), reverse=True)


def read(description: Mapping[str, Any]) -> Image:
    """Return an image from what DescribeImages says of it."""
    disks = [mapping.get('Ebs', {}) for mapping in description.get('BlockDeviceMappings', [])]
    return Image(
        ami=description['ImageId'],
        name=description.get('Name', ''),
        state=description['State'],
        created=datetime.fromisoformat(description['CreationDate'].replace('Z', '+00:00')),
        imds=description.get('ImdsSupport', ''),
        snapshots=tuple(disk['SnapshotId'] for disk in disks if 'SnapshotId' in disk),
        tags={tag['Key']: tag['Value'] for tag in description.get('Tags', [])},
    )


def _ours(aws: Aws, **tags: str) -> list[Image]:
    return _described(aws, Owners=['self'], Filters=_filters(Project=PROJECT, **tags))


def _described(aws: Aws, **which: Any) -> list[Image]:
    return newest_first(map(read, aws.items('ec2', 'describe_images', 'Images', **which)))


def _filters(**tags: str) -> list[dict[str, Any]]:
    return [{'Name': f'tag:{key}', 'Values': [value]} for key, value in tags.items()]
