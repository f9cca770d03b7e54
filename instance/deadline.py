"""A time limit that is checked while waiting."""

from collections.abc import Callable
import time

from instance.errors import StepFailed


class Deadline:
    """The moment at which a wait ends."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Set the moment, in seconds from now."""
        self._clock = clock
        self._at = clock() + seconds
        self.seconds = seconds

    @property
    def left(self) -> float:
        """The seconds that are left, 0 after the deadline."""
        return max(0.0, self._at - self._clock())

    def wait(self, seconds: float, missing: str) -> None:
        """Sleep before the next try; after the deadline, raise StepFailed with the condition that is missing."""
        if self.left <= 0:
            raise StepFailed(f'not within {self.seconds:.0f} s: {missing}')
        time.sleep(min(seconds, self.left))
