"""The journal of this instance, read from the entry after the last one that was sent."""

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
# The age at which an entry is sent, and the interval of the checks for a stop.
LINGER_SECONDS, POLL_SECONDS = 1.0, 0.2
# After SIGTERM: the time for the other units' last entries and the last batch, and the silence that ends it earlier.
LAST_SECONDS, QUIET_SECONDS = 4.0, 1.0
READ_BYTES = 1 << 16


class Stop:
    """The request to end this process, which SIGTERM makes."""

    def __init__(self) -> None:
        """Replace the handler of SIGTERM."""
        self._at: float | None = None
        signal.signal(signal.SIGTERM, self._note)

    @property
    def is_requested(self) -> bool:
        """Whether SIGTERM has come."""
        return self._at is not None

    def is_quiet(self, last_entry: float) -> bool:
        """Return whether SIGTERM has come and no entry since, for a while."""
        return self._at is not None and time.monotonic() - max(self._at, last_entry) > QUIET_SECONDS

    @property
    def is_overdue(self) -> bool:
        """Whether the time after SIGTERM is over."""
        return self._at is not None and time.monotonic() - self._at > LAST_SECONDS

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._at = self._at or time.monotonic()


class Journal:
    """The output of a journalctl that follows the journal."""

    def __init__(self, cursor_file: Path, stop: Stop) -> None:
        """Start journalctl after the last entry that was sent, or at the beginning of the journal."""
        self._cursor_file = cursor_file
        self._stop = stop
        self._rest = b''
        cursor = read_cursor(cursor_file)
        try:
            self._process = subprocess.Popen([*COMMAND, *([f'--after-cursor={cursor}'] if cursor else [])],
                                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            raise StepFailed(f'{COMMAND[0]} cannot be started: {error.strerror}') from None

    def __enter__(self) -> 'Journal':
        """Return this journal."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """End journalctl."""
        self._process.kill()
        self._process.communicate()

    def batches(self) -> Iterator[Batch]:
        """Yield batches, each as soon as its oldest entry is a second old or it is full; end after SIGTERM."""
        batch, since = Batch(), time.monotonic()
        for event in self._events():
            if event and not batch.has_room_for(event):
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
        """Yield entries as they come, and None from time to time while none comes."""
        last_entry = time.monotonic()
        while not self._stop.is_overdue:
            lines = self._read()
            for line in lines:
                yield event_of(line)
            last_entry = time.monotonic() if lines else last_entry
            if self._stop.is_quiet(last_entry):
                return
            yield None

    def _read(self) -> list[bytes]:
        """Return the complete lines of journalctl's output, after a short wait at most."""
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], POLL_SECONDS)[0]:
            return []

        chunk = os.read(self._process.stdout.fileno(), READ_BYTES)
        if not chunk:
            self._fail()
        *lines, self._rest = (self._rest + chunk).split(b'\n')
        return lines

    def _fail(self) -> None:
        """Raise StepFailed with journalctl's error; an invalid cursor is removed, so that the next start succeeds."""
        _, stderr = self._process.communicate()
        message = stderr.decode(errors='replace').strip()
        if 'cursor' in message:
            self._cursor_file.unlink(missing_ok=True)
        raise StepFailed(f'{COMMAND[0]} ended with {self._process.returncode}: {message or "no output"}')


def read_cursor(path: Path) -> str | None:
    """Return the cursor of the last entry that was sent, None if none was."""
    try:
        return path.read_text(encoding='utf-8').strip() or None
    except OSError:
        return None


def write_cursor(path: Path, cursor: str) -> None:
    """Store the cursor of the last entry that was sent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}')
    partial.write_text(cursor, encoding='utf-8')
    partial.replace(path)
