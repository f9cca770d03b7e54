"""Waiting that always ends: for something, until a moment, or when somebody asks to stop."""

from collections.abc import Callable
import time
from typing import TypeVar

from release.errors import AwsFailed, TimedOut

Found = TypeVar('Found')
NAP_SECONDS = 0.5


def never() -> None:
    """Do nothing, as who must not be stopped, or has nothing to do meanwhile."""


class Deadline:
    def __init__(self, seconds: float, stop: Callable[[], None] = never,
                 clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        """Allow so many seconds from now; whoever waits calls `stop` again and again, which may raise."""
        self.seconds = seconds
        self._stop = stop
        self._clock = clock
        self._sleep = sleep
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """How many seconds are left; none when it is over."""
        return max(0.0, self._end - self._clock())

    def within(self, seconds: float) -> 'Deadline':
        """Return a deadline of so many seconds from now, or this one's if that is sooner."""
        return Deadline(min(seconds, self.left), self._stop, self._clock, self._sleep)

    def check(self, what: str) -> None:
        """Raise TimedOut, saying what was waited for, when the time is over."""
        self._stop()
        if not self.left:
            raise TimedOut(f'{what}: not within {self.seconds:.0f} s')

    def until(self, found: Callable[[], Found | None], what: str, every: float = 5.0,
              meanwhile: Callable[[], None] = never) -> Found:
        """Return what is found as soon as it is; do something meanwhile; raise TimedOut when the time is over.

        An AWS that is unavailable for a moment is asked again until then.
        """
        self._stop()
        while True:
            answer, trouble = _asked(found)
            if answer is not None:
                return answer
            self.check(f'{what} ({trouble})' if trouble else what)
            meanwhile()
            self._pause(every)

    def _pause(self, seconds: float) -> None:
        pause = self.within(seconds)
        while pause.left:
            self._stop()
            self._sleep(min(NAP_SECONDS, pause.left))


def _asked(found: Callable[[], Found | None]) -> tuple[Found | None, str]:
    try:
        return found(), ''
    except AwsFailed as error:
        if not error.is_passing:
            raise
        return None, str(error)
