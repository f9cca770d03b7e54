"""The two clocks of a rehearsal.

The real clock measures the work of machines: boot, heartbeats of lifecycle hooks, draining, and the interval of a load
balancer's health checks. AWS's own pace measures AWS's own delays: alarm periods, warm-up, cooldown, checkpoint delay,
bake time, the hour of retries, the back-off of launches, and the interval of Route 53. A rehearsal can quicken this
second clock alone, because a machine does not boot faster for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
import time


def utc_now() -> datetime:
    """Return the calendar time, with its time zone."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Clocks:
    """The clocks of a rehearsal; `pace` is the number of AWS's seconds in a real one."""

    pace: float = 1
    real: Callable[[], float] = time.monotonic
    calendar: Callable[[], datetime] = utc_now

    def paced(self) -> float:
        """Return the time of AWS's pace, in AWS's seconds from an arbitrary start."""
        return self.real() * self.pace

    def real_seconds(self, paced: float) -> float:
        """Return the real duration of some of AWS's seconds."""
        return paced / self.pace
