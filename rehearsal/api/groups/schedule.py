"""Scheduled actions of groups: the times at which they are due. Pure decisions.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scheduled-scaling.html
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim


@dataclass(frozen=True)
class Schedule:
    """One time, or a recurrence in a time zone between two times."""

    start: datetime | None = None
    end: datetime | None = None
    recurrence: str | None = None
    zone: str = 'UTC'

    def is_due(self, since: datetime, now: datetime) -> bool:
        """Return whether a run falls into the time after `since` and up to `now`."""
        run = self.next_after(since)
        return run is not None and run <= now

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first run after a moment; None after the last one."""
        if not self.recurrence:
            return self.start if self.start and self.start > moment else None
        if self.start and self.start > moment:
            moment = self.start - timedelta(seconds=1)
        run: datetime = next(CronSim(self.recurrence, moment.astimezone(ZoneInfo(self.zone))))
        return None if self.end and run > self.end else run
