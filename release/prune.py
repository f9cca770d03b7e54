"""The removal of AMIs, template versions and snapshots that nothing needs: `retention.py` decides, this module acts.

Before each removal both opinions are asked once more: EC2's own list of references, and the reading of uses.py.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from release import amis, removal, retention
from release.amis import PROJECT
from release.artefacts import Store
from release.aws import Aws
from release.columns import in_columns, with_further
from release.errors import AwsFailed, NotReady, ReleaseError
from release.listing import age
from release.references import references
from release.retention import Account, AMI, Item, Orphan, VERSION, Version, Window
from release.session import Session
from release.uses import DEFAULT, FILTER_VALUES, LATEST, Reading, users_of_templates, uses, uses_by_parameters

PARAMETERS = '/visitors'
HEAD = ('DECISION', 'KIND', 'ID', 'CONTENT', 'AGE', 'WHY')
KEEP, REMOVE, LATER, REMOVED = 'keep', 'remove', 'next run', 'removed'


@dataclass(frozen=True)
class Row:
    """A resource and what happens to it. --json prints it by these names."""

    decision: str
    kind: str
    id: str
    content: str
    age_seconds: int
    why: tuple[str, ...]


def read(session: Session) -> Account:
    """Return the facts about the region; raise a ReleaseError if one of them cannot be read."""
    aws = session.aws
    ours = amis.of_project(aws)
    ids = [ami.id for ami in ours]
    versions = list(_versions(aws))
    return Account(
        now=datetime.now(timezone.utc), amis=ours, versions=versions,
        orphans=[Orphan(each['SnapshotId'], ami, each['StartTime'], amis.tags_of(each))
                 for ami, snapshots in removal.snapshots_of_project(aws).items() if ami not in ids
                 for each in snapshots],
        uses=[*(uses(aws, ids) if ids else ()), *uses_by_parameters(aws, PARAMETERS)],
        references=references(aws, ids),
        version_users=_version_users(aws, versions),
        shared={snapshot: other.id for other in amis.of_account(aws) if other.id not in ids
                for snapshot in other.snapshots},
        foreign=_existing(aws, {ami for version in versions for ami in version.amis} - set(ids)))


def prune(session: Session, store: Store, window: Window, limit: int, act: bool) -> list[Row]:
    """Return a row for each resource, after removing at most `limit` of them if `act` is true."""
    with session.progress.phase('read the AMIs, their users and the templates'):
        account = read(session)
    items = retention.decide(account, window)
    selected = retention.chosen(items, account.versions, limit)
    decisions = {item.id: KEEP if item.stays else LATER for item in items} | {item.id: REMOVE for item in selected}
    failures: list[ReleaseError] = []
    if act:
        removers = {AMI: _remove_ami, VERSION: _remove_version, retention.SNAPSHOT: _remove_snapshot}
        for item in selected:
            session.deadline.check('the next removal')
            try:
                with session.progress.phase(f'remove the {item.kind} {item.id}'):
                    removers[item.kind](session, store, item)
                decisions[item.id] = REMOVED
            except ReleaseError as error:
                session.progress.note(str(error))
                failures.append(error)
    if failures:
        raise type(failures[0])('\n'.join(map(str, failures)))
    ages = {item.id: int((account.now - item.created).total_seconds()) for item in items}
    return [Row(decisions[item.id], item.kind, item.id, item.content, ages[item.id], item.why) for item in items]


def table(rows: Sequence[Row]) -> str:
    """Return the rows in columns; further reasons of a row have lines of their own."""
    if not rows:
        return 'no AMI, template version or snapshot of this project in the region'
    lines: list[tuple[str, ...]] = [HEAD]
    for row in rows:
        first, *others = row.why or ('unused, and outside the rollback window',)
        lines += with_further((row.decision, row.kind, row.id, row.content, age(row.age_seconds), first), others)
    return in_columns(lines)


def summary(rows: Sequence[Row]) -> str:
    """Return one line with the number of resources for each decision."""
    counts = Counter(row.decision for row in rows)
    line = ', '.join(f'{each}: {counts[each]}' for each in (KEEP, REMOVE, LATER, REMOVED) if counts[each])
    return f'{line}; nothing was removed, --yes removes' if counts[REMOVE] else line or 'nothing to decide'


def _versions(aws: Aws) -> Iterator[Version]:
    """Yield all versions of this project's launch templates; one that names its AMI by an alias is unclear."""
    mine = [{'Name': 'tag:Project', 'Values': [PROJECT]}]
    for template in aws.items('ec2', 'describe_launch_templates', 'LaunchTemplates', Filters=mine):
        name = template['LaunchTemplateName']
        latest = template['LatestVersionNumber']
        for each in aws.items('ec2', 'describe_launch_template_versions', 'LaunchTemplateVersions',
                              LaunchTemplateId=template['LaunchTemplateId']):
            reading = Reading().read(each['LaunchTemplateData'])
            marks = [mark for mark, marked in (('default', each['DefaultVersion']),
                                               ('latest', each['VersionNumber'] == latest)) if marked]
            yield Version(template['LaunchTemplateId'], name, each['VersionNumber'], each['CreateTime'],
                          frozenset(reading.amis), ' and '.join(marks), not reading.aliases)


def _version_users(aws: Aws, versions: Iterable[Version]) -> dict[str, list[str]]:
    """Return the users of each version, also of those that name the template by its name, $Default or $Latest."""
    users: dict[str, list[str]] = {}
    named = users_of_templates(aws)
    for version in versions:
        aliases = [alias for alias, mark in ((DEFAULT, 'default'), (LATEST, 'latest')) if mark in version.mark]
        keys = {(template, number) for template in (version.template, version.name)
                for number in (str(version.number), *aliases)}
        users[version.id] = [f'{user} names it' for user, templates in named if keys & templates]
    return users


def _existing(aws: Aws, ami_ids: Iterable[str]) -> frozenset[str]:
    ids = sorted(ami_ids)
    return frozenset(image['ImageId'] for first in range(0, len(ids), FILTER_VALUES)
                     for image in aws.items('ec2', 'describe_images', 'Images', Filters=[
                         {'Name': 'image-id', 'Values': ids[first:first + FILTER_VALUES]}]))


def _remove_ami(session: Session, store: Store, item: Item) -> None:
    left = references(session.aws, [item.id]) or uses_by_parameters(session.aws, PARAMETERS)
    users = [each for each in left if each.ami == item.id]
    if users:
        raise NotReady(f'{item.id} is in use now, so it stays: {"; ".join(map(str, users))}')
    removal.remove(session, store, removal.find(session, store, item.id))


def _remove_version(session: Session, store: Store, item: Item) -> None:
    template, number = item.id.split(':')
    version = next((each for each in _versions(session.aws) if each.id == item.id), None)
    users = _version_users(session.aws, [version])[item.id] if version else []
    if users:
        raise NotReady(f'{item.id} is in use now, so it stays: {"; ".join(users)}')
    answer = session.aws.call('ec2', 'delete_launch_template_versions', LaunchTemplateId=template, Versions=[number])
    for refused in answer.get('UnsuccessfullyDeletedLaunchTemplateVersions', []):
        error = refused['ResponseError']
        raise AwsFailed(error.get('Message', ''), error.get('Code', ''), f'DeleteLaunchTemplateVersions {item.id}')


def _remove_snapshot(session: Session, store: Store, item: Item) -> None:
    for error in amis.delete_snapshots(session.aws, [item.id]).values():
        raise error
