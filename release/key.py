"""One short name for everything that goes into an image, and how two sets of it differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
import json

from release.images import TAG_LENGTH
from release.inputs import ANSIBLE
from release.names import KEY_LENGTH

# Counted up where the same inputs no longer make the same image, because the release tool itself does it otherwise.
FORMAT = 1
MARK_LENGTH = 8
ROLES = f'{ANSIBLE}/roles/'


@dataclass(frozen=True)
class Change:
    """One input that differs between two images."""

    name: str
    kind: str

    def __str__(self) -> str:
        """Return it as people read it."""
        return f'{self.kind:8} {self.name}'


def key_of(stage: str, inputs: Mapping[str, str]) -> str:
    """Return the key of a stage's inputs: the same for the same inputs, on every machine and at any time."""
    return _digest({'format': FORMAT, 'stage': stage, 'inputs': dict(inputs)})[:KEY_LENGTH]


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    """Return what differs between two sets of inputs, by name."""
    return [Change(name, _kind(name in before, name in after)) for name in sorted({*before, *after})
            if before.get(name) != after.get(name)]


def _kind(before: bool, after: bool) -> str:
    return 'changed' if before and after else 'new' if after else 'gone'


def marks(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return inputs by group, a role or a file each, short enough for the tags of an image."""
    groups: dict[str, dict[str, str]] = {}
    for name, value in inputs.items():
        groups.setdefault(group_of(name), {})[name] = value
    return {group: _digest(members)[:MARK_LENGTH] for group, members in sorted(groups.items())}


def group_of(name: str) -> str:
    """Return what an input is a part of, as people speak of it."""
    if name.startswith(ROLES):
        return 'role:' + name[len(ROLES):].partition('/')[0]
    folder, _, rest = name.partition('/')
    return folder if folder == 'instance' or not rest else name.rpartition('/')[2]


def as_tags(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the marks of inputs as the tags Inputs1, Inputs2 ... of an image."""
    lines = ['']
    for group, mark in marks(inputs).items():
        entry = f'{group}={mark}'
        if len(lines[-1]) + len(entry) + 1 > TAG_LENGTH:
            lines.append('')
        lines[-1] = f'{lines[-1]} {entry}'.strip()
    return {f'Inputs{number}': line for number, line in enumerate(lines, 1)}


def from_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the marks that an image's tags hold; none for an image that has no such tags."""
    return dict(_entries(tags))


def _entries(tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in tags.items():
        if name.startswith('Inputs'):
            for entry in value.split():
                group, _, mark = entry.rpartition('=')
                yield group, mark


def _digest(value: object) -> str:
    return sha256(json.dumps(value, sort_keys=True, separators=(',', ':')).encode()).hexdigest()
