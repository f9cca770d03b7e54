"""Ctrl-C and the signals of a CI that cancels a job, as one exception that comes once and never in the middle."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import signal
from types import FrameType

from release.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    def __init__(self, tell: Callable[[str], None]) -> None:
        """Turn the first signal into Interrupted; tell whoever sends another one that it was heard."""
        self._tell = tell
        self._received: int | None = None
        self._deferrals = 0

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals within the block."""
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the block end before a signal interrupts: for calls that make something that has to be removed again."""
        already = self._received
        self._deferrals += 1
        try:
            yield
        finally:
            self._deferrals -= 1
        if self._received is not None and already is None and not self._deferrals:
            raise Interrupted(self._received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            # Whoever cleans up must not be interrupted in it, however impatient the one who waits is.
            self._tell('still cleaning up; what would stay otherwise costs money')
            return
        self._received = number
        if not self._deferrals:
            raise Interrupted(number)
