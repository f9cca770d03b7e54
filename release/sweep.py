"""The removal of the leftovers of dead bakes and self-tests, by the tag `Run` and by age; resources of others stay.

A run removes its own leftovers, or the next bake of the same inputs does. This verb removes the others: after a kill
without another bake of the same inputs, or after a clean-up that failed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
import re
from typing import Any

from release import amis, leftovers, lock, removal
from release.amis import PROJECT
from release.columns import in_columns, with_further
from release.ec2 import ALIVE
from release.errors import AwsFailed
from release.listing import age
from release.session import Session

# The ids that release/session.py makes; they begin with the moment of the run.
RUN_ID = re.compile(r'(?P<moment>\d{8}T\d{6}Z)-[0-9a-f]{6}')
MOMENT = '%Y%m%dT%H%M%SZ'
GROUP = 'aws:autoscaling:groupName'
HEAD = ('DECISION', 'RUN', 'AGE', 'WHY', 'RESOURCES')
SNAPSHOT, SNAPSHOT_OF_AMI = 'snapshot', 'snapshot of a removed AMI'
KEEP, SWEEP, LATER, SWEPT = 'keep', 'sweep', 'next run', 'swept'


@dataclass(frozen=True)
class Resource:
    """A resource with the tag Run."""

    kind: str
    id: str
    tags: Mapping[str, str]

    def __str__(self) -> str:
        """Return kind and id."""
        return f'{self.kind} {self.id}'


@dataclass
class Row:
    """A run that left something, and what happens to that. --json prints it by these names."""

    decision: str
    run: str
    age_seconds: int
    why: tuple[str, ...]
    resources: tuple[str, ...] = ()
    removed: list[str] = field(default_factory=list)


def decide(resources: Sequence[Resource], living: Mapping[str, str], now: datetime, oldest: timedelta,
           limit: int) -> list[Row]:
    """Return a row for each run with resources, the oldest first; at most `limit` runs are to be swept."""
    runs: dict[str, list[Resource]] = {}
    for resource in resources:
        runs.setdefault(resource.tags.get(leftovers.TAG, ''), []).append(resource)
    rows: list[Row] = []
    for run, members in sorted(runs.items()):
        match = RUN_ID.fullmatch(run)
        started = datetime.strptime(match['moment'], MOMENT).replace(tzinfo=timezone.utc) if match else now
        why = tuple(_objections(members, match is not None, living.get(run, ''), now - started < oldest))
        free = sum(row.decision == SWEEP for row in rows) < limit
        rows.append(Row(KEEP if why else SWEEP if free else LATER, run, max(0, int((now - started).total_seconds())),
                        why, tuple(map(str, members))))
    return rows


def _objections(members: Sequence[Resource], is_ours: bool, owner: str, is_young: bool) -> Iterator[str]:
    if not is_ours:
        yield 'no run of this tool has such an id'
    for member in members:
        if member.tags.get('Project') != PROJECT:
            yield f'the {member} has no tag Project={PROJECT}'
        if member.kind == SNAPSHOT_OF_AMI:
            yield f'the {member} is not swept: `release prune` decides about it'
        if member.tags.get(GROUP):
            yield f'the {member} belongs to the Auto Scaling group {member.tags[GROUP]}'
    if owner:
        yield f'{owner} is baking'
    if is_young:
        yield 'too young: the run may still be alive'


def sweep(session: Session, oldest: timedelta, limit: int, act: bool) -> list[Row]:
    """Return a row for each run that left something, after sweeping at most `limit` of them if `act` is true."""
    with session.progress.phase('find the leftovers of runs'):
        rows = decide(list(_resources(session)), lock.living(session.aws), datetime.now(timezone.utc), oldest, limit)
    left = []
    for row in rows if act else ():
        if row.decision == SWEEP:
            session.deadline.check('the next run to sweep')
            with session.progress.phase(f'sweep the run {row.run}'):
                cleanup = leftovers.remove(session.aws, row.run)
            row.decision, row.removed = SWEPT, cleanup.removed
            left += cleanup.left
    if left:
        raise AwsFailed(f'left behind, and costing money: {"; ".join(left)}')
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the rows in columns, with each resource in a line of its own."""
    if not rows:
        return 'no run left anything in the region'
    lines: list[tuple[str, ...]] = [HEAD]
    for row in rows:
        why = '; '.join(row.why) or 'dead'
        lines += with_further((row.decision, row.run, age(row.age_seconds), why, row.resources[0]), row.resources[1:])
    return in_columns(lines)


def _resources(session: Session) -> Iterator[Resource]:
    """Yield all resources with a tag Run that are no part of a committed AMI."""
    aws, tagged = session.aws, [{'Name': 'tag-key', 'Values': [leftovers.TAG]}]
    alive = [*tagged, {'Name': 'instance-state-name', 'Values': list(ALIVE)}]
    for reservation in aws.items('ec2', 'describe_instances', 'Reservations', Filters=alive):
        yield from (_read('instance', 'InstanceId', each) for each in reservation['Instances'])
    images = amis.of_account(aws)
    kept = {snapshot for ami in images for snapshot in ami.snapshots}
    yield from (Resource('AMI', ami.id, ami.tags) for ami in images
                if leftovers.TAG in ami.tags and not ami.is_committed)
    for kind, operation, key, name in (('volume', 'describe_volumes', 'Volumes', 'VolumeId'),
                                       ('security group', 'describe_security_groups', 'SecurityGroups', 'GroupId')):
        yield from (_read(kind, name, each) for each in aws.items('ec2', operation, key, Filters=tagged))
    pairs = aws.call('ec2', 'describe_key_pairs', Filters=tagged)['KeyPairs']
    yield from (_read('key pair', 'KeyName', each) for each in pairs)
    for each in aws.items('ec2', 'describe_snapshots', 'Snapshots', OwnerIds=['self'], Filters=tagged):
        if each['SnapshotId'] not in kept:
            yield _read(SNAPSHOT if not removal.ami_of(each) else SNAPSHOT_OF_AMI, 'SnapshotId', each)


def _read(kind: str, name: str, description: Mapping[str, Any]) -> Resource:
    return Resource(kind, description[name], amis.tags_of(description))
