"""The unfinished resources of a bake or a verification: find them by the tag Run, and remove them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from release import amis
from release.aws import Aws
from release.ec2 import ALIVE, state_of, UNKNOWN
from release.errors import AwsFailed, ReleaseError, TimedOut
from release.waiting import Deadline

Answer = TypeVar('Answer')
TAG = 'Run'
TEMPORARY = 'packer_'  # the prefix of the names that Packer makes up for its own resources
TERMINATE_SECONDS = 300.0
# How long each removal is retried while AWS is unavailable; a resource that stays costs money.
INSIST_SECONDS = 120.0
INSIST_PAUSE_SECONDS = 2.0
UNUSED_SECONDS = 60.0
GONE = ('terminated', UNKNOWN)
IN_USE = ('DependencyViolation', 'InvalidGroup.InUse', 'VolumeInUse')
ABSENT = ('InvalidGroup.NotFound', 'InvalidKeyPair.NotFound', 'InvalidVolume.NotFound', 'InvalidSnapshot.NotFound',
          'InvalidInstanceID.NotFound', 'InvalidAMIID.Unavailable', 'InvalidAMIID.NotFound')


@dataclass
class Cleanup:
    """The outcome of a clean-up: the removed resources, and those that are left, with the reasons."""

    removed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    gave_up: bool = False


def remove(aws: Aws, run_id: str, untagged: Iterable[str] = ()) -> Cleanup:
    """Remove a run's unfinished resources, by tag, and by name those of Packer 1.6, which does not tag them all."""
    resources = _Resources(aws.once, run_id, untagged)
    cleanup = Cleanup()
    for kind, find, delete in resources.kinds():
        try:
            names = _insisted(find, f'a list of {kind}s', cleanup)
        except ReleaseError as error:
            cleanup.left.append(f'all {kind}s of the run {run_id} ({error})')
            continue
        for name in names:
            _remove(f'{kind} {name}', partial(delete, name), cleanup)
    return cleanup


def _remove(name: str, delete: Callable[[], object], cleanup: Cleanup) -> None:
    try:
        _insisted(lambda: (delete(),), f'the removal of {name}', cleanup)
    except ReleaseError as error:
        if not isinstance(error, AwsFailed) or error.code not in ABSENT:
            cleanup.left.append(f'{name} ({error})')
    else:
        cleanup.removed.append(name)


def _insisted(act: Callable[[], Answer], what: str, cleanup: Cleanup) -> Answer:
    """Return the result of an act, retried while AWS is unavailable; after one time-out each act is tried once."""
    try:
        return Deadline(0.0 if cleanup.gave_up else INSIST_SECONDS).until(act, what, INSIST_PAUSE_SECONDS)
    except TimedOut:
        cleanup.gave_up = True
        raise


class _Resources:
    """The unfinished resources of one run."""

    def __init__(self, aws: Aws, run_id: str, untagged: Iterable[str]) -> None:
        """Prepare the search; it starts with `kinds`."""
        self._aws = aws
        self._run_id = run_id
        self._names = {key_pair_name(run_id), *untagged}
        self._tagged = [{'Name': f'tag:{TAG}', 'Values': [run_id]}]

    def kinds(self) -> list[tuple[str, Callable[[], list[str]], Callable[[str], object]]]:
        """Return each kind with its search and its removal, in the order in which AWS lets them go."""
        return [
            ('instance', self._instances, self._terminate),
            ('AMI', self._amis, self._deregister),
            ('volume', self._volumes, partial(self._delete, 'delete_volume', 'VolumeId')),
            ('key pair', self._key_pairs, partial(self._delete, 'delete_key_pair', 'KeyName')),
            ('snapshot', self._snapshots, partial(self._delete, 'delete_snapshot', 'SnapshotId')),
            ('security group', self._groups, partial(self._delete, 'delete_security_group', 'GroupId')),
        ]

    def _instances(self) -> list[str]:
        alive = [*self._tagged, {'Name': 'instance-state-name', 'Values': list(ALIVE)}]
        instances = [instance for reservation in self._items('describe_instances', 'Reservations', Filters=alive)
                     for instance in reservation['Instances']]
        for instance in instances:  # a terminated instance no longer names the resources that Packer made for it
            self._names.update(_temporary(instance))
        return [instance['InstanceId'] for instance in instances]

    def _terminate(self, instance: str) -> None:
        self._aws.call('ec2', 'terminate_instances', InstanceIds=[instance])
        Deadline(TERMINATE_SECONDS).until(lambda: state_of(self._aws, instance) in GONE or None,
                                          f'the termination of instance {instance}', every=2.0)

    def _amis(self) -> list[str]:
        return [ami.id for ami in amis.of_run(self._aws, self._run_id) if not ami.is_committed]

    def _deregister(self, ami_id: str) -> None:
        for ami in amis.of_run(self._aws, self._run_id):
            if ami.id == ami_id:
                amis.remove(self._aws, ami)

    def _volumes(self) -> list[str]:
        return [volume['VolumeId'] for volume in self._items('describe_volumes', 'Volumes', Filters=self._tagged)]

    def _key_pairs(self) -> list[str]:
        pairs = self._items('describe_key_pairs', 'KeyPairs')
        return [pair['KeyName'] for pair in pairs if self._is_own(pair, 'KeyName')]

    def _groups(self) -> list[str]:
        groups = self._items('describe_security_groups', 'SecurityGroups')
        return [group['GroupId'] for group in groups if self._is_own(group, 'GroupName')]

    def _snapshots(self) -> list[str]:
        kept = {snapshot for ami in amis.of_run(self._aws, self._run_id) for snapshot in ami.snapshots}
        snapshots = self._items('describe_snapshots', 'Snapshots', OwnerIds=['self'], Filters=self._tagged)
        return [snapshot['SnapshotId'] for snapshot in snapshots if snapshot['SnapshotId'] not in kept]

    def _delete(self, operation: str, parameter: str, name: str) -> None:
        """Delete a resource as soon as its last user, which may still be ending, is gone."""
        Deadline(UNUSED_SECONDS).until(lambda: self._deleted(operation, parameter, name), f'the last use of {name}',
                                       every=2.0)

    def _deleted(self, operation: str, parameter: str, name: str) -> bool | None:
        try:
            self._aws.call('ec2', operation, **{parameter: name})
        except AwsFailed as error:
            if error.code in IN_USE:
                return None
            raise
        return True

    def _is_own(self, resource: dict[str, Any], name: str) -> bool:
        return resource.get(name) in self._names or amis.tags_of(resource).get(TAG) == self._run_id

    def _items(self, operation: str, key: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        if operation == 'describe_key_pairs':  # it has no pages
            return iter(self._aws.call('ec2', operation, **parameters)[key])
        return self._aws.items('ec2', operation, key, **parameters)


def key_pair_name(run_id: str) -> str:
    """Return the name of the key pair that Packer makes for a run."""
    return f'packer-{run_id}'


def _temporary(instance: dict[str, Any]) -> list[str]:
    """Return the names of Packer's own resources at an instance; a group may stand at its interfaces only."""
    interfaces = instance.get('NetworkInterfaces', [])
    groups = [group for part in interfaces for group in part.get('Groups', [])] + instance.get('SecurityGroups', [])
    names = [group['GroupName'] for group in groups]
    names.append(instance.get('KeyName', ''))
    return [name for name in names if name.startswith(TEMPORARY)]
