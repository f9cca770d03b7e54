"""What the page and /stats.json tell: unique visitors of some periods, and day by day."""  # noqa: A005

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Day:
    """One day (UTC): its unique visitors, and how many of them came for the first time ever."""

    day: date
    visitors: int
    newcomers: int

    @property
    def returning(self) -> int:
        """Return how many of the day's visitors had come before."""
        return self.visitors - self.newcomers


@dataclass(frozen=True)
class Statistics:
    """Unique visitors of today, of 7, of 30 and of all days, and 30 days one by one, the oldest first."""

    today: int
    week: int
    month: int
    total: int
    days: tuple[Day, ...]
