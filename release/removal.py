"""The removal of a broken AMI with all that belongs to it, unless an instance runs it or something would start it.

A removal that failed continues when it is called again: the snapshots are tagged with the id of the AMI before it is
deregistered, and its files are stored under that id.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
import re
from typing import Any

from release import amis
from release.amis import Ami, PROJECT
from release.artefacts import Store
from release.aws import Aws
from release.errors import NotReady, ReleaseError
from release.lock import Lock
from release.options import AMI_ID
from release.session import Session
from release.uses import uses

TAG = 'Image'  # its name is kept, because earlier removals tagged snapshots with it
# EC2's own description of a snapshot names its AMI; it identifies snapshots that no removal has tagged.
MADE_FOR = re.compile(rf'\bfor (?:AMI )?(?P<ami>{AMI_ID.pattern})(?![0-9a-z])')


@dataclass(frozen=True)
class Remains:
    """The parts of an AMI that still exist, all of which a removal deletes. --json prints it by these names."""

    ami: str
    stage: str
    key: str
    version: str
    registered: bool
    snapshots: tuple[str, ...]
    files: tuple[str, ...]

    def __str__(self) -> str:
        """Return lines for people."""
        origin = ' '.join(filter(None, (self.stage, self.version)))
        input_hash = f', input hash {self.key}' if self.key else ''
        parts = [f'{self.ami}{f", {origin}" if origin else ""}{input_hash}',
                 '' if self.registered else 'deregistered already', *self.snapshots, *self.files]
        return '\n  '.join(filter(None, parts))


def find(session: Session, store: Store, which: str) -> list[Remains]:
    """Return the remains of one AMI, or of all with an input hash; raise NotReady without any."""
    is_ami = AMI_ID.fullmatch(which)
    if is_ami:
        ami = amis.registered(session.aws, which)
        remains = {which: _of_ami(ami)} if ami else {}
        snapshots = _snapshots(session, [which])
    else:
        remains = {ami.id: _of_ami(ami) for ami in amis.of_input_hash(session.aws, which)}
        snapshots = _snapshots(session, [], which)
    for ami_id, each in snapshots.items():
        if ami_id not in remains and amis.registered(session.aws, ami_id):
            continue  # its tags name another input hash now
        before = remains.get(ami_id) or _of_snapshot(ami_id, each[0])
        ids = dict.fromkeys([*before.snapshots, *(snapshot['SnapshotId'] for snapshot in each)])
        remains[ami_id] = replace(before, snapshots=tuple(ids))
    if is_ami and not remains and store.names(which):
        remains[which] = Remains(which, '', '', '', False, (), ())
    if not remains:
        region = f'the region {session.aws.region}'
        raise NotReady(f'{region} has no AMI {which}, and no remains of it' if is_ami else
                       f'{region} has no AMI with the input hash {which}, and no remains of one')
    return [replace(each, files=tuple(store.places(ami_id))) for ami_id, each in remains.items()]


def refuse_used(session: Session, remains: list[Remains]) -> None:
    """Raise NotReady, with each use, if an AMI is or may be in use."""
    registered = [each.ami for each in remains if each.registered]
    users = uses(session.aws, registered) if registered else []
    if users:
        raise NotReady(f'in use, so nothing was removed: {"; ".join(map(str, users))}')


def remove(session: Session, store: Store, remains: list[Remains]) -> None:
    """Remove all remains; after the last attempt raise an error that names the rest."""
    refuse_used(session, remains)
    failures: list[ReleaseError] = []
    for each in remains:
        try:
            with session.progress.phase(f'remove {each.ami}'), _locked(session, each.key):
                _remove(session, store, each)
        except ReleaseError as error:
            failures.append(error)
    if failures:
        raise type(failures[0])('\n'.join(map(str, failures)))


@contextmanager
def _locked(session: Session, input_hash: str) -> Iterator[None]:
    """Keep bakes of an input hash from running within the block; files without an AMI have no input hash."""
    if not input_hash:
        yield
        return
    lock = Lock(session.aws, input_hash, session.run_id, session.caller)
    holder = lock.take()
    if holder:
        raise NotReady(f'{holder.owner} is baking the input hash {input_hash}; remove it afterwards')
    try:
        yield
    finally:
        lock.release()


def _remove(session: Session, store: Store, remains: Remains) -> None:
    aws = session.aws
    if remains.registered:
        if remains.snapshots:
            aws.call('ec2', 'create_tags', Resources=list(remains.snapshots),
                     Tags=[{'Key': TAG, 'Value': remains.ami}])
        amis.deregister(aws, remains.ami)
    failures = amis.delete_snapshots(aws, remains.snapshots)
    store.remove(remains.ami)
    if failures:
        reasons = '; '.join(f'{snapshot} ({error})' for snapshot, error in failures.items())
        raise NotReady(f'{remains.ami} is deregistered, but snapshots of it are left: {reasons}. Repeat the call when '
                       'nothing uses them')


def _of_ami(ami: Ami) -> Remains:
    return Remains(ami.id, ami.stage, ami.input_hash, ami.version, True, ami.snapshots, ())


def _of_snapshot(ami_id: str, snapshot: dict[str, Any]) -> Remains:
    tags = amis.tags_of(snapshot)
    return Remains(ami_id, tags.get('Stage', ''), tags.get('InputHash', ''), tags.get('Version', ''), False, (), ())


def _snapshots(session: Session, ami_ids: list[str], input_hash: str = '') -> dict[str, list[dict[str, Any]]]:
    """Return this project's snapshots of the given AMIs, or of an input hash, grouped by AMI."""
    snapshots = snapshots_of_project(session.aws, input_hash)
    return {ami_id: each for ami_id, each in snapshots.items() if ami_id in ami_ids or not ami_ids}


def snapshots_of_project(aws: Aws, input_hash: str = '') -> dict[str, list[dict[str, Any]]]:
    """Return this project's snapshots that name their AMI, of one input hash or of all, grouped by AMI."""
    filters = [{'Name': 'tag:Project', 'Values': [PROJECT]}]
    filters += [{'Name': 'tag:InputHash', 'Values': [input_hash]}] if input_hash else []
    groups: dict[str, list[dict[str, Any]]] = {}
    for snapshot in aws.items('ec2', 'describe_snapshots', 'Snapshots', OwnerIds=['self'], Filters=filters):
        ami_id = ami_of(snapshot)
        if ami_id:
            groups.setdefault(ami_id, []).append(snapshot)
    return groups


def ami_of(snapshot: dict[str, Any]) -> str:
    """Return the id of the AMI that a snapshot was made for, by its tag or EC2's description; empty if unknown."""
    made_for = MADE_FOR.search(snapshot.get('Description', ''))
    return amis.tags_of(snapshot).get(TAG) or (made_for['ami'] if made_for else '')
