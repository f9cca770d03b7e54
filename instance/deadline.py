"""The moment until which something must be done."""

from collections.abc import Callable
import time

from instance.errors import StepFailed


class Deadline:
    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """End so many seconds from now."""
        self._clock = clock
        self._at = clock() + seconds
        self.seconds = seconds

    @property
    def left(self) -> float:
        """How many seconds are left, 0 when none are."""
        return max(0.0, self._at - self._clock())

    def wait(self, seconds: float, missing: str) -> None:
        """Sleep before the next try; raise StepFailed, saying what is missing, when there is no time for one."""
        if self.left <= 0:
            raise StepFailed(f'not within {self.seconds:.0f} s: {missing}')
        time.sleep(min(seconds, self.left))
