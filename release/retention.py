"""The decision which AMIs, template versions and snapshots stay: all that is, or may be, needed.

The decision is pure. A resource stays if something uses it, if a tag protects it, or if it is in the rollback window.
Whatever a kept resource needs stays, too: the AMI of a kept version, and a version for a kept AMI.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from release.amis import Ami, APP
from release.references import Reference, TEMPLATE
from release.uses import Use

AMI, VERSION, SNAPSHOT = 'AMI', 'template version', 'snapshot'
PROTECTED = 'Keep'  # a tag with any value but `false`


@dataclass(frozen=True)
class Window:
    """The rollback window: how many releases stay before each AMI in use, and for how long everything stays."""

    count: int
    age: timedelta


@dataclass(frozen=True)
class Version:
    """A version of a launch template of this project, with the AMIs that it names."""

    template: str
    name: str
    number: int
    created: datetime
    amis: frozenset[str]
    mark: str = ''  # default or latest, which a launch without a number takes
    is_clear: bool = True  # not if the version names its AMI by an alias that cannot be resolved

    @property
    def id(self) -> str:
        """The template and the number."""
        return f'{self.template}:{self.number}'


@dataclass(frozen=True)
class Orphan:
    """A snapshot of this project whose AMI is deregistered."""

    id: str
    ami: str
    created: datetime
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Account:
    """The facts about a region: its resources of this project, and their users."""

    now: datetime
    amis: Sequence[Ami]
    versions: Sequence[Version] = ()
    orphans: Sequence[Orphan] = ()
    uses: Sequence[Use] = ()
    references: Sequence[Reference] = ()
    # The users of template versions, and the snapshots of all AMIs of this account that are not of this project.
    version_users: Mapping[str, Sequence[str]] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)
    # AMIs that versions name and that exist, but are not of this project.
    foreign: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Item:
    """A resource and the reasons to keep it; without a reason it can be removed."""

    kind: str
    id: str
    content: str
    created: datetime
    why: tuple[str, ...]

    @property
    def stays(self) -> bool:
        """Whether it must not be removed."""
        return bool(self.why)


def decide(account: Account, window: Window) -> list[Item]:
    """Return all AMIs, template versions and orphaned snapshots with the reasons to keep them, the oldest first."""
    return _Decision(account, window).items()


def chosen(items: Sequence[Item], versions: Sequence[Version], limit: int) -> list[Item]:
    """Return at most `limit` resources to remove, the oldest first, and no AMI before all versions that name it."""
    removable = {item.id: item for item in items if not item.stays}
    result: dict[str, Item] = {}
    for item in removable.values():
        named_by = [version.id for version in versions if item.kind == AMI and item.id in version.amis]
        for each in [*named_by, item.id]:
            if each in removable and len(result) < limit:
                result[each] = removable[each]
    return list(result.values())


class _Decision:
    """The reasons to keep each resource of an account."""

    def __init__(self, account: Account, window: Window) -> None:
        """Collect the reasons that need no other decision, then those that follow from them."""
        self._account = account
        self._window = window
        self._amis: dict[str, list[str]] = {ami.id: list(self._of_ami(ami)) for ami in account.amis}
        self._versions: dict[str, list[str]] = {each.id: list(self._of_version(each)) for each in account.versions}
        self._keep_before_used()
        while self._follow():
            pass

    def items(self) -> list[Item]:
        """Return an item for each resource."""
        amis = [Item(AMI, ami.id, ' '.join(filter(None, (ami.stage, ami.version))), ami.created,
                     tuple(self._amis[ami.id])) for ami in self._account.amis]
        versions = [Item(VERSION, each.id, f'{each.name}, {", ".join(sorted(each.amis)) or "no AMI"}', each.created,
                         tuple(self._versions[each.id])) for each in self._account.versions]
        orphans = [Item(SNAPSHOT, each.id, f'of {each.ami}', each.created, tuple(self._of_orphan(each)))
                   for each in self._account.orphans]
        return sorted([*amis, *versions, *orphans], key=lambda item: (item.created, item.id))

    def _of_ami(self, ami: Ami) -> Iterator[str]:
        yield from dict.fromkeys(str(use) for use in self._account.uses if use.is_of(ami.id))
        yield from (str(each) for each in self._account.references if each.ami == ami.id and not self._is_read(each))
        yield from self._by_tag_and_age(ami.tags, ami.created)
        if not ami.is_committed:
            yield 'its bake has not finished; `release sweep` removes leftovers of dead bakes'
        yield from (f'{self._account.shared[snapshot]} shares the snapshot {snapshot}' for snapshot in ami.snapshots
                    if snapshot in self._account.shared)
        if ami.id in [each.id for each in self._releases(ami.stage)[:self._window.count]]:
            yield f'one of the {self._window.count} newest'

    def _is_read(self, reference: Reference) -> bool:
        """Return whether the reference is a template whose versions are judged one by one."""
        return reference.kind == TEMPLATE and any(
            version.template == reference.name and reference.ami in version.amis for version in self._account.versions)

    def _releases(self, stage: str) -> list[Ami]:
        """Return the AMIs of a stage that could be used, the newest first; a base has no release."""
        return [ami for ami in sorted(self._account.amis, key=lambda ami: (ami.created, ami.id), reverse=True)
                if ami.stage == stage and (ami.is_released if stage == APP else ami.is_committed)]

    def _keep_before_used(self) -> None:
        """Keep the releases before each AMI in use: newer AMIs, which are no way back, must not count."""
        releases = self._releases(APP)
        used = [ami for ami in self._account.amis if any(use.ami == ami.id for use in self._account.uses)]
        for ami in used:
            earlier = [each for each in releases if (each.created, each.id) < (ami.created, ami.id)]
            for each in earlier[:self._window.count]:
                self._add(self._amis[each.id], f'one of the {self._window.count} before {ami.id}, which is in use')

    def _of_version(self, version: Version) -> Iterator[str]:
        yield from self._account.version_users.get(version.id, ())
        if version.mark:
            yield f'the {version.mark} version'
        if not version.is_clear:
            yield 'its AMI is unclear'
        foreign = sorted(version.amis & self._account.foreign)
        yield from (f'names {ami}, which is not of this project' for ami in foreign)
        if not version.amis:
            yield 'names no AMI'
        yield from self._by_tag_and_age({}, version.created)
        newest = sorted((each.number for each in self._account.versions if each.template == version.template),
                        reverse=True)
        if version.number in newest[:self._window.count]:
            yield f'one of the {self._window.count} newest'

    def _of_orphan(self, orphan: Orphan) -> Iterator[str]:
        yield from self._by_tag_and_age(orphan.tags, orphan.created)
        users = {snapshot: ami.id for ami in self._account.amis for snapshot in ami.snapshots}
        user = users.get(orphan.id) or self._account.shared.get(orphan.id)
        if user:
            yield f'a snapshot of {user} too'

    def _by_tag_and_age(self, tags: Mapping[str, str], created: datetime) -> Iterator[str]:
        if tags.get(PROTECTED, 'false').lower() != 'false':
            yield f'the tag {PROTECTED}={tags[PROTECTED]}'
        if self._account.now - created < self._window.age:
            yield f'younger than {self._window.age.days} days'

    def _follow(self) -> bool:
        """Add the reasons that follow from the kept resources; return whether one was new."""
        new = False
        for version in self._account.versions:
            if self._versions[version.id]:
                for ami in version.amis & self._amis.keys():
                    new |= self._add(self._amis[ami], f'version {version.number} of {version.name} names it')
        for kept in [ami for ami in self._account.amis if self._amis[ami.id]]:
            for version in self._newest_versions(kept.id):
                new |= self._add(self._versions[version.id], f'the newest version with {kept.id}, which stays')
            for other in self._account.amis:
                if other.id != kept.id and {*other.snapshots} & {*kept.snapshots}:
                    new |= self._add(self._amis[other.id], f'shares a snapshot with {kept.id}, which stays')
        return new

    def _newest_versions(self, ami: str) -> list[Version]:
        newest: dict[str, Version] = {}
        for version in sorted(self._account.versions, key=lambda each: each.number):
            if ami in version.amis:
                newest[version.template] = version
        return list(newest.values())

    @staticmethod
    def _add(reasons: list[str], reason: str) -> bool:
        if reason in reasons:
            return False
        reasons.append(reason)
        return True
