"""The input hash, which identifies an AMI by everything that went into it, and its marks in an AMI's tags."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
import json
from pathlib import Path

from release.amis import APP, BASE, TAG_LENGTH
from release.inputs import ANSIBLE, app_inputs, base_inputs

# Increased when the release tool itself makes another AMI of the same inputs.
FORMAT = 1
LENGTH = 16
MARK_LENGTH = 8
ROLES = f'{ANSIBLE}/roles/'


@dataclass(frozen=True)
class Stage:
    """One stage of a bake: its name, its inputs and their hash."""

    name: str
    inputs: Mapping[str, str]
    input_hash: str


def stages(root: Path, environ: Mapping[str, str], source_ami: str, image_id: str) -> tuple[Stage, Stage]:
    """Return the base and the application stage of a checkout."""
    base = _stage(BASE, base_inputs(root, source_ami, environ))
    return base, _stage(APP, app_inputs(root, base.input_hash, image_id))


def _stage(name: str, inputs: Mapping[str, str]) -> Stage:
    return Stage(name, inputs, hash_of(name, inputs))


def hash_of(stage: str, inputs: Mapping[str, str]) -> str:
    """Return the hash of a stage's inputs: the same for the same inputs, on every machine and at any time."""
    return _digest({'format': FORMAT, 'stage': stage, 'inputs': dict(inputs)})[:LENGTH]


def marks(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return a short hash for each group of inputs, a role or a file, because tags cannot hold all inputs."""
    groups: dict[str, dict[str, str]] = {}
    for name, value in inputs.items():
        groups.setdefault(group_of(name), {})[name] = value
    return {group: _digest(members)[:MARK_LENGTH] for group, members in sorted(groups.items())}


def group_of(name: str) -> str:
    """Return the group of an input: its role, the folder instance, or else the name of the file."""
    if name.startswith(ROLES):
        return 'role:' + name[len(ROLES):].partition('/')[0]
    folder, _, rest = name.partition('/')
    return folder if folder == 'instance' or not rest else name.rpartition('/')[2]


def as_tags(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the marks of inputs as the tags Inputs1, Inputs2 ... of an AMI."""
    lines = ['']
    for group, mark in marks(inputs).items():
        entry = f'{group}={mark}'
        if len(lines[-1]) + len(entry) + 1 > TAG_LENGTH:
            lines.append('')
        lines[-1] = f'{lines[-1]} {entry}'.strip()
    return {f'Inputs{number}': line for number, line in enumerate(lines, 1)}


def from_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the marks in an AMI's tags; empty for an AMI without such tags."""
    return dict(_entries(tags))


def _entries(tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in tags.items():
        if name.startswith('Inputs'):
            for entry in value.split():
                group, _, mark = entry.rpartition('=')
                yield group, mark


def _digest(value: object) -> str:
    return sha256(json.dumps(value, sort_keys=True, separators=(',', ':')).encode()).hexdigest()
