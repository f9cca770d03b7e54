"""Waiting that always ends: for something, until a moment, with a pause in between."""

from collections.abc import Callable
import time
from typing import TypeVar

from release.errors import TimedOut

Found = TypeVar('Found')


class Deadline:
    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        """Allow so many seconds from now."""
        self.seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """How many seconds are left; none when it is over."""
        return max(0.0, self._end - self._clock())

    def within(self, seconds: float) -> 'Deadline':
        """Return a deadline of so many seconds from now, or this one's if that is sooner."""
        return Deadline(min(seconds, self.left), self._clock, self._sleep)

    def check(self, what: str) -> None:
        """Raise TimedOut, saying what was waited for, when the time is over."""
        if not self.left:
            raise TimedOut(f'{what}: not within {self.seconds:.0f} s')

    def until(self, found: Callable[[], Found | None], what: str, every: float = 5.0,
              meanwhile: Callable[[], None] = lambda: None) -> Found:
        """Return what is found as soon as it is; do something meanwhile; raise TimedOut when the time is over."""
        while (answer := found()) is None:
            self.check(what)
            meanwhile()
            self._sleep(min(every, self.left))
        return answer
