"""Clocks that tests set: programs that start under one see its time, whenever it is set."""

from datetime import datetime, timezone
from pathlib import Path

import pytest

PAUSES = Path(__file__).parent / 'sleeping'  # a module that replaces the pauses that libfaketime breaks


def library() -> str:
    """Return the file that fakes the calendar time of a program."""
    files = list(Path('/usr/lib').glob('*/faketime/libfaketime.so.1'))
    if not files:
        pytest.fail('no libfaketime: apt-get install faketime, or let `make test` do it', pytrace=False)
    return str(files[0])


def starting_at(moment: datetime) -> dict[str, str]:
    """Return an environment for a program whose clock is at a moment when this is called, and goes on from there."""
    seconds = int((moment - datetime.now(timezone.utc)).total_seconds())
    return {'FAKETIME': f'{seconds:+d}s', **calendar_alone()}


def calendar_alone() -> dict[str, str]:
    """Return an environment in which only the calendar time of a program is faked.

    Intervals pass as usual: with a faked monotonic clock, a thread that waits with a time limit would wait for ever.
    Files keep their times, by which gunicorn checks its workers.
    """
    return {'LD_PRELOAD': library(), 'FAKETIME_DONT_FAKE_MONOTONIC': '1', 'NO_FAKE_STAT': '1',
            'PYTHONPATH': str(PAUSES)}


class Clock:
    """The calendar time of programs that run with `variables`; it stands still until it is set."""

    def __init__(self, folder: Path, now: datetime | None = None) -> None:
        """Keep the time in a file of a folder; without a time it is the machine's."""
        self._file = folder / 'clock'
        self.set(now or datetime.now(timezone.utc))
        self.variables = {
            'FAKETIME_TIMESTAMP_FILE': str(self._file), 'FAKETIME_NO_CACHE': '1', 'TZ': 'UTC', **calendar_alone(),
        }

    def set(self, now: datetime) -> None:
        """Let it be a moment."""
        text = f'{now.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}'
        new = self._file.with_suffix('.new')
        new.write_text(text, encoding='ascii')
        new.chmod(0o644)
        new.replace(self._file)
