"""The list of this project's AMIs, with the uses of each."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from release import amis
from release.amis import Ami
from release.aws import Aws
from release.columns import in_columns, with_further
from release.uses import uses

HEAD = ('AMI', 'STAGE', 'VERSION', 'COMMIT', 'INPUT HASH', 'AGE', 'RELEASED', 'USED BY')
COMMIT_LENGTH = 8
UNITS = ((86400, 'd'), (3600, 'h'), (60, 'min'), (1, 's'))
NOTHING = '-'


@dataclass(frozen=True)
class Entry:
    """One AMI and its uses. --json prints it by these names; `key` is the input hash."""

    ami: str
    stage: str
    version: str
    commit: str
    key: str
    state: str
    created: datetime
    age_seconds: int
    released: bool
    verified: str
    runs: tuple[str, ...]
    starts: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it for programs."""
        return {**asdict(self), 'created': f'{self.created:%Y-%m-%dT%H:%M:%SZ}'}


def entries(aws: Aws) -> list[Entry]:
    """Return an entry for each AMI of this project, the newest first."""
    ours = amis.of_project(aws)
    users = uses(aws, [ami.id for ami in ours]) if ours else []
    now = datetime.now(timezone.utc)
    return [_entry(ami, now, tuple(use.user for use in users if use.is_of(ami.id) and use.runs),
                   tuple(f'{use.user}{f" ({use.doubt})" if use.doubt else ""}' for use in users
                         if use.is_of(ami.id) and not use.runs)) for ami in ours]


def table(entries: Sequence[Entry]) -> str:
    """Return the entries as lines in columns; further uses of an AMI have lines of their own."""
    if not entries:
        return 'no AMI of this project in the region'
    rows: list[tuple[str, ...]] = [HEAD]
    for entry in entries:
        users = [use.removeprefix('the ') for use in (*entry.runs, *entry.starts)] or [NOTHING]
        rows += with_further((entry.ami, entry.stage or NOTHING, entry.version or NOTHING,
                              entry.commit[:COMMIT_LENGTH] or NOTHING, entry.key or NOTHING, age(entry.age_seconds),
                              'yes' if entry.released else 'no', users[0]), users[1:])
    return in_columns(rows)


def age(seconds: int) -> str:
    """Return an age in its largest whole unit."""
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= size), UNITS[-1])
    return f'{max(0, seconds) // size} {unit}'


def _entry(ami: Ami, now: datetime, runs: tuple[str, ...], starts: tuple[str, ...]) -> Entry:
    return Entry(ami.id, ami.stage, ami.version, ami.tags.get('Commit', ''), ami.input_hash, ami.state, ami.created,
                 int((now - ami.created).total_seconds()), ami.is_released, ami.tags.get('Verified', ''), runs, starts)
