"""An image that was found broken goes for good, unless something still runs it or would start it.

A removal that fails goes on where it was when it is called again: before the image is deregistered its snapshots are
tagged with its id, by which they are found afterwards, and its files are kept under that id.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
import re
from typing import Any

from release import images
from release.artefacts import Store
from release.errors import NotReady, ReleaseError
from release.images import Image, PROJECT
from release.lock import Lock
from release.names import AMI
from release.run import Run
from release.uses import uses

TAG = 'Image'
# What EC2 itself writes into the description of a snapshot, for those that no removal has tagged.
MADE_FOR = re.compile(rf'\bfor (?:AMI )?(?P<ami>{AMI.pattern})(?![0-9a-z])')


@dataclass(frozen=True)
class Removed:
    """What is left of an image, and so is to be removed."""

    ami: str
    stage: str
    key: str
    version: str
    registered: bool
    snapshots: tuple[str, ...]
    files: tuple[str, ...]

    def __str__(self) -> str:
        """Return it as people read it."""
        what = ' '.join(filter(None, (self.stage, self.version)))
        parts = [f'{self.ami}{f", {what}" if what else ""}{f", key {self.key}" if self.key else ""}',
                 '' if self.registered else 'deregistered already', *self.snapshots, *self.files]
        return '\n  '.join(filter(None, parts))


def find(run: Run, store: Store, which: str) -> list[Removed]:
    """Return what there is of one image, or of all that have a key; raise NotReady where there is nothing."""
    if AMI.fullmatch(which):
        image = images.known(run.aws, which)
        found = {which: _described(image)} if image else {}
        snapshots = _snapshots(run, [which])
    else:
        found = {image.ami: _described(image) for image in images.of_key(run.aws, which)}
        snapshots = _snapshots(run, [], which)
    for ami, each in snapshots.items():
        if ami not in found and images.known(run.aws, ami):
            continue  # its tags say another key now
        before = found.get(ami) or _of_snapshot(ami, each[0])
        ids = dict.fromkeys([*before.snapshots, *(snapshot['SnapshotId'] for snapshot in each)])
        found[ami] = replace(before, snapshots=tuple(ids))
    if AMI.fullmatch(which) and not found and store.names(which):
        found[which] = Removed(which, '', '', '', False, (), ())
    if not found:
        region = f'the region {run.aws.region}'
        raise NotReady(f'{region} has no such image as {which}, and nothing is left of it' if AMI.fullmatch(which) else
                       f'no image in {region} has the key {which}, and nothing is left of one')
    return [replace(each, files=tuple(store.places(ami))) for ami, each in found.items()]


def refuse_what_is_used(run: Run, found: list[Removed]) -> None:
    """Raise NotReady, with each use, where an image is in use or may be."""
    amis = [each.ami for each in found if each.registered]
    used = uses(run.aws, amis) if amis else []
    if used:
        raise NotReady(f'in use, so nothing was removed: {"; ".join(map(str, used))}')


def purge(run: Run, store: Store, found: list[Removed]) -> None:
    """Remove all of it; raise an error that names what stays, when everything was tried."""
    refuse_what_is_used(run, found)
    kept: list[ReleaseError] = []
    for each in found:
        try:
            with run.progress.phase(f'remove {each.ami}'), _locked(run, each.key):
                _remove(run, store, each)
        except ReleaseError as error:
            kept.append(error)
    if kept:
        raise type(kept[0])('\n'.join(map(str, kept)))


@contextmanager
def _locked(run: Run, key: str) -> Iterator[None]:
    """Keep bakes of a key off within the block; files without an image have no key."""
    if not key:
        yield
        return
    lock = Lock(run.aws, key, run.run_id, run.who)
    holder = lock.take()
    if holder:
        raise NotReady(f'{holder.who} is baking the key {key}; purge it afterwards')
    try:
        yield
    finally:
        lock.give_back()


def _remove(run: Run, store: Store, what: Removed) -> None:
    if what.registered:
        if what.snapshots:
            run.aws.call('ec2', 'create_tags', Resources=list(what.snapshots), Tags=[{'Key': TAG, 'Value': what.ami}])
        images.deregister(run.aws, what.ami)
    kept = images.delete_snapshots(run.aws, what.snapshots)
    store.remove(what.ami)
    if kept:
        reasons = '; '.join(f'{snapshot} ({error})' for snapshot, error in kept.items())
        raise NotReady(f'{what.ami} is gone, but not all of its snapshots: {reasons}. Call the same again when '
                       'nothing uses them')


def _described(image: Image) -> Removed:
    return Removed(image.ami, image.stage, image.key, image.version, True, image.snapshots, ())


def _of_snapshot(ami: str, snapshot: dict[str, Any]) -> Removed:
    tags = _tags(snapshot)
    return Removed(ami, tags.get('Stage', ''), tags.get('InputHash', ''), tags.get('Version', ''), False, (), ())


def _snapshots(run: Run, amis: list[str], key: str = '') -> dict[str, list[dict[str, Any]]]:
    """Return this project's snapshots of some images, or of all of a key, by image."""
    filters = [{'Name': 'tag:Project', 'Values': [PROJECT]}]
    filters += [{'Name': 'tag:InputHash', 'Values': [key]}] if key else []
    found: dict[str, list[dict[str, Any]]] = {}
    for snapshot in run.aws.items('ec2', 'describe_snapshots', 'Snapshots', OwnerIds=['self'], Filters=filters):
        made_for = MADE_FOR.search(snapshot.get('Description', ''))
        ami = _tags(snapshot).get(TAG) or (made_for['ami'] if made_for else '')
        if ami and (ami in amis or not amis):
            found.setdefault(ami, []).append(snapshot)
    return found


def _tags(snapshot: dict[str, Any]) -> dict[str, str]:
    return {tag['Key']: tag['Value'] for tag in snapshot.get('Tags', [])}
