"""The machine images of this project, and what uses each."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from release import images
from release.aws import Aws
from release.images import Image
from release.uses import uses

HEAD = ('AMI', 'STAGE', 'VERSION', 'COMMIT', 'KEY', 'AGE', 'RELEASED', 'USED BY')
COMMIT_LENGTH = 8
UNITS = ((86400, 'd'), (3600, 'h'), (60, 'min'), (1, 's'))
NOTHING = '-'


@dataclass(frozen=True)
class Entry:
    """One image, and the uses of it."""

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
    """Return the images of this project, the newest first."""
    found = images.of_project(aws)
    used = uses(aws, [image.ami for image in found]) if found else []
    now = datetime.now(timezone.utc)
    return [_entry(image, now, tuple(use.user for use in used if use.is_of(image.ami) and use.runs),
                   tuple(f'{use.user}{f" ({use.doubt})" if use.doubt else ""}' for use in used
                         if use.is_of(image.ami) and not use.runs)) for image in found]


def table(entries: Sequence[Entry]) -> str:
    """Return them as lines in columns; further uses of an image stand in lines of their own."""
    if not entries:
        return 'no image of this project in the region'
    rows: list[tuple[str, ...]] = [HEAD]
    for entry in entries:
        users = [use.removeprefix('the ') for use in (*entry.runs, *entry.starts)] or [NOTHING]
        rows.append((entry.ami, entry.stage or NOTHING, entry.version or NOTHING,
                     entry.commit[:COMMIT_LENGTH] or NOTHING, entry.key or NOTHING, age(entry.age_seconds),
                     'yes' if entry.released else 'no', users[0]))
        rows += [(*[''] * (len(HEAD) - 1), user) for user in users[1:]]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join('  '.join(f'{cell:<{width}}' for cell, width in zip(row, widths)).rstrip() for row in rows)


def age(seconds: int) -> str:
    """Return an age in its largest whole unit."""
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= size), UNITS[-1])
    return f'{max(0, seconds) // size} {unit}'


def _entry(image: Image, now: datetime, runs: tuple[str, ...], starts: tuple[str, ...]) -> Entry:
    return Entry(image.ami, image.stage, image.version, image.tags.get('Commit', ''), image.key, image.state,
                 image.created, int((now - image.created).total_seconds()), image.is_released,
                 image.tags.get('Verified', ''), runs, starts)
