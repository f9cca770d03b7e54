"""Ctrl-C and the signals of a CI that cancels a job: noted at once, answered where nothing can be left half-way."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
import signal
from types import FrameType

from release.errors import Interrupted, ReleaseError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HEARD = b'\nheard; ending what runs, and cleaning up\n'
HEARD_AGAIN = b'\nstill cleaning up; what would stay otherwise costs money\n'


class Interruption:
    """A signal does not raise where it happens to arrive: in a clean-up, or between a machine's start and its id."""

    def __init__(self) -> None:
        """Hold that nothing was received yet."""
        self._received: int | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Take the signals within the block."""
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted, if a signal was received; every wait calls this, and every clean-up must not."""
        if self._received is not None:
            raise Interrupted(self._received)

    @contextmanager
    def prevailing(self) -> Iterator[None]:
        """Raise Interrupted at the end of the block, also where it fails: Ctrl-C ends called programs as well."""
        try:
            yield
        except ReleaseError:
            self.check()
            raise
        self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Not by print: the signal may have come in the middle of one.
        os.write(2, HEARD if self._received is None else HEARD_AGAIN)
        self._received = number if self._received is None else self._received
