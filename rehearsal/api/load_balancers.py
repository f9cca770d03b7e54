"""The programs behind load balancers, as the API knows them; without machines, records alone."""

from collections.abc import Callable
import time
from typing import Protocol


class LoadBalancers(Protocol):
    """The programs behind load balancers."""

    # Whether targets are checked; the alternative is that each registered target that runs is healthy.
    checks_targets: bool

    def now(self) -> float:
        """Return the time of the real clock, which measures the draining of targets."""

    def changed(self) -> None:
        """Order that the programs follow the records."""


class Records:
    """The load balancers of a rehearsal without programs, whose registered targets are healthy while they run."""

    checks_targets = False

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Measure time by a clock."""
        self._clock = clock

    def now(self) -> float:
        """Return the time of the clock."""
        return self._clock()

    def changed(self) -> None:
        """Do nothing, because no program follows the records."""
