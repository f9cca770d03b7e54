"""Waits that always end: with a result, at a deadline, or because the caller's poll raises."""

from collections.abc import Callable
import copy
import time
from typing import TypeVar

from release.errors import AwsFailed, TimedOut

Result = TypeVar('Result')
NAP_SECONDS = 0.5


def no_op() -> None:
    """Do nothing; the default poll of a deadline."""


class Deadline:
    """A time limit for waits.

    Every wait calls `poll` again and again, at least twice a second between its attempts. `poll` may raise, which ends
    the wait: that is how a signal ends a bake. It is also where a bake renews its leases.
    """

    def __init__(self, seconds: float, poll: Callable[[], None] = no_op,
                 clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        """Start the time limit now."""
        self.seconds = seconds
        self._poll = poll
        self._clock = clock
        self._sleep = sleep
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """The remaining seconds; 0 after the end."""
        return max(0.0, self._end - self._clock())

    def within(self, seconds: float) -> 'Deadline':
        """Return a deadline of this many seconds from now, or this one if it ends sooner."""
        return Deadline(seconds, self._poll, self._clock, self._sleep) if seconds < self.left else self

    def polling(self, act: Callable[[], None]) -> 'Deadline':
        """Return a deadline with the same end whose waits also call `act`."""
        def poll() -> None:
            self._poll()
            act()
        deadline = copy.copy(self)
        deadline._poll = poll
        return deadline

    def check(self, what: str) -> None:
        """Poll, and raise TimedOut with the name of the awaited thing if the time is over."""
        self._poll()
        if not self.left:
            raise TimedOut(f'timed out after {self.seconds:.0f} s waiting for {what}')

    def until(self, attempt: Callable[[], Result | None], what: str, every: float = 5.0) -> Result:
        """Return the first result of `attempt` that is not None; raise TimedOut if the time is over before.

        A transient failure of AWS counts as no result.
        """
        self._poll()
        while True:
            result, trouble = _tried(attempt)
            if result is not None:
                return result
            self.check(f'{what} ({trouble})' if trouble else what)
            self._pause(every)

    def _pause(self, seconds: float) -> None:
        pause = self.within(seconds)
        while pause.left:
            self._poll()
            self._sleep(min(NAP_SECONDS, pause.left))


def _tried(attempt: Callable[[], Result | None]) -> tuple[Result | None, str]:
    try:
        return attempt(), ''
    except AwsFailed as error:
        if not error.is_transient:
            raise
        return None, str(error)
