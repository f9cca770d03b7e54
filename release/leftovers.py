"""Everything that a bake or a verification has made and not finished, found by its run and removed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from release import images
from release.aws import Aws
from release.errors import AwsFailed, ReleaseError, TimedOut
from release.waiting import Deadline

Answer = TypeVar('Answer')
TAG = 'Run'
TEMPORARY = 'packer_'  # how Packer begins the names of what it makes for itself
TERMINATE_SECONDS = 300.0
# How long each removal is tried while AWS is unavailable; what stays costs money.
INSIST_SECONDS = 120.0
INSIST_PAUSE_SECONDS = 2.0
GROUP_SECONDS = 60.0
ALIVE = ('pending', 'running', 'stopping', 'stopped')
UNKNOWN = 'unknown'
GONE = ('terminated', UNKNOWN)
IN_USE = ('DependencyViolation', 'InvalidGroup.InUse', 'VolumeInUse')
ABSENT = ('InvalidGroup.NotFound', 'InvalidKeyPair.NotFound', 'InvalidVolume.NotFound', 'InvalidSnapshot.NotFound',
          'InvalidInstanceID.NotFound', 'InvalidAMIID.Unavailable', 'InvalidAMIID.NotFound')


@dataclass
class Removal:
    """What was removed of a run, and what could not be, with the reason."""

    removed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    gave_up: bool = False


def key_pair_name(run_id: str) -> str:
    """Return the name of the key pair that Packer makes for a run."""
    return f'packer-{run_id}'


def remove(aws: Aws, run_id: str, names: Iterable[str] = ()) -> Removal:
    """Remove what a run has not finished, by its tag, and by the names of what could not be tagged."""
    sweep = _Sweep(aws.once, run_id, names)
    removal = Removal()
    for kind, find, delete in sweep.kinds():
        try:
            found = _insisted(find, f'a list of {kind}s', removal)
        except ReleaseError as error:
            removal.left.append(f'all {kind}s of the run {run_id} ({error})')
            continue
        for name in found:
            _remove(f'{kind} {name}', partial(delete, name), removal)
    return removal


def _remove(what: str, delete: Callable[[], object], removal: Removal) -> None:
    try:
        _insisted(lambda: (delete(),), f'the removal of {what}', removal)
    except ReleaseError as error:
        if not isinstance(error, AwsFailed) or error.reason not in ABSENT:
            removal.left.append(f'{what} ({error})')
    else:
        removal.removed.append(what)


def _insisted(act: Callable[[], Answer], what: str, removal: Removal) -> Answer:
    """Return what an act returns, tried while AWS is unavailable; once that was too long, the rest is tried once."""
    try:
        return Deadline(0.0 if removal.gave_up else INSIST_SECONDS).until(act, what, INSIST_PAUSE_SECONDS)
    except TimedOut:
        removal.gave_up = True
        raise


class _Sweep:
    def __init__(self, aws: Aws, run_id: str, names: Iterable[str]) -> None:
        """Find the parts of a run."""
        self._aws = aws
        self._run_id = run_id
        self._names = {key_pair_name(run_id), *names}
        self._tagged = [{'Name': f'tag:{TAG}', 'Values': [run_id]}]

    def kinds(self) -> list[tuple[str, Callable[[], list[str]], Callable[[str], object]]]:
        """Return kinds of parts, how each is found and how one is removed, in the order in which they can go."""
        return [
            ('instance', self._instances, self._terminate),
            ('image', self._images, self._deregister),
            ('volume', self._volumes, partial(self._delete, 'delete_volume', 'VolumeId')),
            ('key pair', self._key_pairs, partial(self._delete, 'delete_key_pair', 'KeyName')),
            ('snapshot', self._snapshots, partial(self._delete, 'delete_snapshot', 'SnapshotId')),
            ('security group', self._groups, partial(self._delete, 'delete_security_group', 'GroupId')),
        ]

    def _instances(self) -> list[str]:
        alive = [*self._tagged, {'Name': 'instance-state-name', 'Values': list(ALIVE)}]
        found = [instance for reservation in self._items('describe_instances', 'Reservations', Filters=alive)
                 for instance in reservation['Instances']]
        for instance in found:  # only now do they tell what Packer has made for them
            self._names.update(_temporary(instance))
        return [instance['InstanceId'] for instance in found]

    def _terminate(self, instance: str) -> None:
        self._aws.call('ec2', 'terminate_instances', InstanceIds=[instance])
        Deadline(TERMINATE_SECONDS).until(lambda: state_of(self._aws, instance) in GONE or None,
                                          f'the end of instance {instance}', every=2.0)

    def _images(self) -> list[str]:
        return [image.ami for image in images.of_run(self._aws, self._run_id) if not image.is_complete]

    def _deregister(self, ami: str) -> None:
        for image in images.of_run(self._aws, self._run_id):
            if image.ami == ami:
                images.remove(self._aws, image)

    def _volumes(self) -> list[str]:
        return [volume['VolumeId'] for volume in self._items('describe_volumes', 'Volumes', Filters=self._tagged)]

    def _key_pairs(self) -> list[str]:
        pairs = self._items('describe_key_pairs', 'KeyPairs')
        return [pair['KeyName'] for pair in pairs if self._is_own(pair, 'KeyName')]

    def _groups(self) -> list[str]:
        groups = self._items('describe_security_groups', 'SecurityGroups')
        return [group['GroupId'] for group in groups if self._is_own(group, 'GroupName')]

    def _snapshots(self) -> list[str]:
        kept = {snapshot for image in images.of_run(self._aws, self._run_id) for snapshot in image.snapshots}
        found = self._items('describe_snapshots', 'Snapshots', OwnerIds=['self'], Filters=self._tagged)
        return [snapshot['SnapshotId'] for snapshot in found if snapshot['SnapshotId'] not in kept]

    def _delete(self, operation: str, parameter: str, name: str) -> None:
        """Delete something as soon as nothing that is just ending uses it."""
        Deadline(GROUP_SECONDS).until(lambda: self._deleted(operation, parameter, name), f'until {name} is not in use',
                                      every=2.0)

    def _deleted(self, operation: str, parameter: str, name: str) -> bool | None:
        try:
            self._aws.call('ec2', operation, **{parameter: name})
        except AwsFailed as error:
            if error.reason in IN_USE:
                return None
            raise
        return True

    def _is_own(self, thing: dict[str, Any], name: str) -> bool:
        tags = {tag['Key']: tag['Value'] for tag in thing.get('Tags', [])}
        return thing.get(name) in self._names or tags.get(TAG) == self._run_id

    def _items(self, operation: str, key: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        if operation == 'describe_key_pairs':  # it answers all of them at once
            return iter(self._aws.call('ec2', operation, **parameters)[key])
        return self._aws.items('ec2', operation, key, **parameters)


def _temporary(instance: dict[str, Any]) -> list[str]:
    names = [group['GroupName'] for group in instance.get('SecurityGroups', [])] + [instance.get('KeyName', '')]
    return [name for name in names if name.startswith(TEMPORARY)]


def state_of(aws: Aws, instance: str) -> str:
    """Return an instance's state; it is unknown where EC2 does not know it any more, or not yet."""
    try:
        answer = aws.call('ec2', 'describe_instances', InstanceIds=[instance])
    except AwsFailed as error:
        if error.reason == 'InvalidInstanceID.NotFound':
            return UNKNOWN
        raise
    states = [each['State']['Name'] for reservation in answer['Reservations'] for each in reservation['Instances']]
    return str(states[0]) if states else UNKNOWN
