"""The journal of this machine, followed from behind the entry that was sent last."""

from collections.abc import Iterator
import os
from pathlib import Path
import select
import signal
import subprocess
import time
from types import FrameType, TracebackType

from instance.errors import StepFailed
from instance.events import Batch, Event, event_of

COMMAND = ('journalctl', '--follow', '--no-tail', '--all', '--quiet', '--output=json')
# How old an entry gets before it is sent, and how often is looked whether this process shall end.
LINGER_SECONDS, LOOK_SECONDS = 1.0, 0.2
# Once it shall end: for what the others write as they end, and for the last batch.
LAST_SECONDS, QUIET_SECONDS = 4.0, 1.0
READ_BYTES = 1 << 16


class Order:
    def __init__(self) -> None:
        """Notice when this process is told to end, instead of being ended."""
        self.at: float | None = None
        signal.signal(signal.SIGTERM, self._note)

    @property
    def is_given(self) -> bool:
        """Whether this process shall end."""
        return self.at is not None

    def is_quiet(self, heard: float) -> bool:
        """Return whether this process shall end and has not heard anything for a while since."""
        return self.at is not None and time.monotonic() - max(self.at, heard) > QUIET_SECONDS

    @property
    def is_overdue(self) -> bool:
        """Whether this process should have ended by now."""
        return self.at is not None and time.monotonic() - self.at > LAST_SECONDS

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.at = self.at or time.monotonic()


class Journal:
    def __init__(self, cursor: Path, order: Order) -> None:
        """Follow the journal from behind the entry that was sent last, or from its beginning."""
        self._cursor = cursor
        self._order = order
        self._rest = b''
        known = read_cursor(cursor)
        try:
            self._process = subprocess.Popen([*COMMAND, *([f'--after-cursor={known}'] if known else [])],
                                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            raise StepFailed(f'{COMMAND[0]} cannot be started: {error.strerror}') from None

    def __enter__(self) -> 'Journal':
        """Return the journal that is followed."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Follow it no more."""
        self._process.kill()
        self._process.communicate()

    def batches(self) -> Iterator[Batch]:
        """Give what is written, as soon as it is a second old or a batch is full; end when this process shall."""
        batch, since = Batch(), time.monotonic()
        for event in self._events():
            if event and not batch.takes(event):
                yield batch
                batch = Batch()
            if event:
                since = since if batch.events else time.monotonic()
                batch.add(event)
            if batch.events and time.monotonic() - since >= LINGER_SECONDS:
                yield batch
                batch = Batch()
        if batch.events:
            yield batch

    def _events(self) -> Iterator[Event | None]:
        """Give entries as they come, and nothing now and then where none comes."""
        heard = time.monotonic()
        while not self._order.is_overdue:
            lines = self._read()
            for line in lines:
                yield event_of(line)
            heard = time.monotonic() if lines else heard
            if self._order.is_quiet(heard):
                return
            yield None

    def _read(self) -> list[bytes]:
        """Return the lines that have come, at once or within a moment."""
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], LOOK_SECONDS)[0]:
            return []

        read = os.read(self._process.stdout.fileno(), READ_BYTES)
        if not read:
            self._give_up()
        *lines, self._rest = (self._rest + read).split(b'\n')
        return lines

    def _give_up(self) -> None:
        """Say why the journal cannot be followed; a cursor that leads nowhere shall not be in the way again."""
        _, errors = self._process.communicate()
        words = errors.decode(errors='replace').strip()
        if 'cursor' in words:
            self._cursor.unlink(missing_ok=True)
        raise StepFailed(f'{COMMAND[0]} ended with {self._process.returncode}: {words or "it said nothing"}')


def read_cursor(path: Path) -> str | None:
    """Return the cursor of the last entry that was sent, None where none was."""
    try:
        return path.read_text(encoding='utf-8').strip() or None
    except OSError:
        return None


def write_cursor(path: Path, cursor: str) -> None:
    """Remember the last entry that was sent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}')
    partial.write_text(cursor, encoding='utf-8')
    partial.replace(path)
