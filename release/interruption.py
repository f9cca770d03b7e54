"""Ctrl-C and the signals of a CI that cancels a job: recorded at once, raised where nothing is left half done."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
import signal
from types import FrameType

from release.errors import Interrupted, ReleaseError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FIRST = b'\ninterrupted; stopping and cleaning up\n'
REPEATED = b'\nstill cleaning up, because leftovers cost money\n'


class Interruption:
    """The received signal, which `check` raises.

    It does not raise on arrival, because it may arrive in a clean-up, or between the start of an instance and the
    answer with its id.
    """

    def __init__(self) -> None:
        """Start without a signal."""
        self._received: int | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Record the signals that arrive within the block."""
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted if a signal was received; every wait calls this, and no clean-up may."""
        if self._received is not None:
            raise Interrupted(self._received)

    @contextmanager
    def prevailing(self) -> Iterator[None]:
        """Raise Interrupted at the end of the block, even if it fails: Ctrl-C also ends the programs that it calls."""
        try:
            yield
        except ReleaseError:
            self.check()
            raise
        self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Not by print, because the signal may arrive within another print.
        os.write(2, FIRST if self._received is None else REPEATED)
        self._received = number if self._received is None else self._received
