"""The difference between two AMIs, from the artefacts beside each: packages, components of the bill, inputs.

The comparison and the deny list are pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
import json
from pathlib import Path
import re
from typing import Any

from release import amis, artefacts
from release.amis import Ami, APP, BASE
from release.artefacts import BILL, PACKAGES, Store
from release.aws import Aws
from release.errors import NotReady

ADDED, REMOVED, CHANGED = 'added', 'removed', 'changed'
# The parts of a difference, in the order in which they are shown.
PACKAGE, COMPONENT, CONFIGURATION, APPLICATION = 'package', 'component', 'configuration', 'application'
PARTS = (PACKAGE, COMPONENT, CONFIGURATION, APPLICATION)
# Inputs of the application; all others are the configuration of the AMI.
OF_APPLICATION = re.compile(r'image$|instance/')
BASE_INPUT = 'base'


@dataclass(frozen=True)
class Change:
    """One difference: what, and from which value to which. --json prints it by these names."""

    part: str
    name: str
    kind: str
    before: str = ''
    after: str = ''

    def __str__(self) -> str:
        """Return a line for people; a deny list matches the same line."""
        values = ' -> '.join(filter(None, (self.before, self.after)))
        return f'{self.title}{f" {values}" if values else ""}'

    @property
    def title(self) -> str:
        """The line without the values."""
        return f'{self.part} {self.kind} {self.name}'


@dataclass(frozen=True)
class Difference:
    """All changes from one AMI to another. --json prints it by these names."""

    before: str
    after: str
    versions: tuple[str, str]
    changes: tuple[Change, ...]
    refused: tuple[str, ...] = ()
    # Files that one of the AMIs lacks, so that their part is not compared.
    missing: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return lines for people."""
        before, after = (f'{ami} ({version or "no version"})' for ami, version in zip(
            (self.before, self.after), self.versions))
        lines = [f'from {before}', f'to   {after}']
        for part in PARTS:
            members = [change for change in self.changes if change.part == part]
            lines += [f'{part}: {len(members)} changed', *(f'  {_shown(change)}' for change in members)]
        lines += [f'not compared: {name}' for name in self.missing]
        return '\n'.join([*lines, *(f'refused: {each}' for each in self.refused)])

    @property
    def summary(self) -> str:
        """One line: the number of changes of each part."""
        counts = {part: sum(change.part == part for change in self.changes) for part in PARTS}
        text = ', '.join(f'{part}: {count}' for part, count in counts.items() if count) or 'no difference'
        return f'{text}; not compared: {", ".join(self.missing)}' if self.missing else text


def between(aws: Aws, store: Store, before: Ami, after: Ami) -> Difference:
    """Return the difference between two AMIs by the files in the store."""
    found, missing = compared(_application(before), _application(after)), []
    for name, read in ((PACKAGES, _packages), (BILL, _bill)):
        files = [store.get(ami.id, name) for ami in (before, after)]
        missing += [f'{name}, which {ami.id} lacks' for ami, file in zip((before, after), files) if file is None]
        if None not in files:
            found += compared(*(read(file or b'') for file in files))
    inputs = [_inputs(aws, store, ami) for ami in (before, after)]
    missing += [f'the inputs of {name}' for _, lacking in inputs for name in lacking]
    if not inputs[0][1] and not inputs[1][1]:
        found += compared(inputs[0][0], inputs[1][0])
    return Difference(before.id, after.id, (before.version, after.version),
                      tuple(sorted(found, key=lambda change: (PARTS.index(change.part), change.name))), (),
                      tuple(missing))


def compared(before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str]) -> list[Change]:
    """Return the changes between two sets of values, each by its part and its name."""
    return [Change(*key, _kind(key in before, key in after), before.get(key, ''), after.get(key, ''))
            for key in {**before, **after} if before.get(key) != after.get(key)]


def _kind(before: bool, after: bool) -> str:
    return CHANGED if before and after else ADDED if after else REMOVED


def refused(changes: Sequence[Change], patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the changes that a pattern of the deny list matches, each with its pattern."""
    return tuple(f'{change} (by {pattern!r})' for change in changes for pattern in patterns
                 if any(fnmatchcase(text, pattern) for text in (str(change), change.title)))


def deny_list(path: Path) -> list[str]:
    """Return the patterns in a file: one a line, without empty lines and comments."""
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NotReady(f'--deny {path}: {error}') from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith('#')]


def pair(aws: Aws, before: str, after: str) -> tuple[Ami, Ami]:
    """Return the two AMIs: by default the one that most instances of groups run, and the newest released one."""
    released = [ami for ami in amis.of_stage(aws, APP) if ami.is_released]
    if not before:
        running = [ami_id for ami_id in amis.in_groups(aws) if any(ami.id == ami_id for ami in released)]
        if not running:
            raise NotReady('no group runs an AMI of this project, so name both AMIs: release diff A B')
        before = running[0]
    if not after:
        if not released:
            raise NotReady('no AMI is released, so name both: release diff A B')
        after = released[0].id
    return by_name(aws, before), by_name(aws, after)


def by_name(aws: Aws, which: str) -> Ami:
    """Return the AMI of an id, or the newest released AMI of a version."""
    if which.startswith('ami-'):
        return amis.get(aws, which)
    for ami in amis.of_stage(aws, APP):
        if ami.version == which and ami.is_released:
            return ami
    raise NotReady(f'the region {aws.region} has no released AMI of the version {which}; `release list` lists them')


def _packages(content: bytes) -> dict[tuple[str, str], str]:
    rows = [line.split('\t') for line in content.decode().splitlines()]
    return {(PACKAGE, f'{part}/{name}'): version for part, name, version in rows}


def _bill(content: bytes) -> dict[tuple[str, str], str]:
    """Return the components that are not in the list of packages: source packages and systems."""
    return dict(_components(json.loads(content).get('components', [])))


def _components(components: Sequence[Mapping[str, Any]]) -> Iterator[tuple[tuple[str, str], str]]:
    for component in components:
        purl = str(component.get('purl', ''))
        if not purl or 'arch=source' in purl:
            yield (COMPONENT, f'{component.get("type", "")}/{component["name"]}'), str(component.get('version', ''))
        yield from _components(component.get('components', []))


def _inputs(aws: Aws, store: Store, ami: Ami) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Return the inputs of an AMI and of its base, and the names of the AMIs whose inputs are not stored."""
    own = artefacts.inputs_of(store, ami.id)
    if own is None:
        return {}, [ami.id]
    base_hash = own.pop(BASE_INPUT, '')
    bases = amis.find(aws, BASE, base_hash) if base_hash else []
    base = next((inputs for inputs in (artefacts.inputs_of(store, each.id) for each in bases) if inputs), None)
    missing = [f'the base of {ami.id}'] if base_hash and base is None else []
    return {(APPLICATION if OF_APPLICATION.match(name) else CONFIGURATION, name): str(value)
            for name, value in {**(base or {}), **own}.items()}, missing


def _application(ami: Ami) -> dict[tuple[str, str], str]:
    return {(APPLICATION, tag): ami.tags[name] for tag, name in (
        ('version', 'Version'), ('commit', 'Commit'), ('engine', 'Engine')) if ami.tags.get(name)}


def _shown(change: Change) -> str:
    values = ' -> '.join(filter(None, (change.before, change.after)))
    return f'{change.kind:8} {change.name}{f"  {values}" if len(values) < 100 else ""}'
