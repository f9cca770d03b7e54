"""The numbers of the page and of /stats.json: unique visitors of some periods, by day and by week."""  # noqa: A005

from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True)
class Day:
    """One day: its unique visitors, and how many of them came for the first time ever."""

    day: date
    visitors: int
    newcomers: int

    @property
    def returning(self) -> int:
        """Return how many of the day's visitors had come before."""
        return self.visitors - self.newcomers


@dataclass(frozen=True)
class Week:
    """One calendar week, named by its Monday: the sum of its days' unique visitors, and its newcomers.

    A visitor of three days counts three times in `visitor_days` and, as a newcomer, once in `newcomers`: the days are
    all that is kept, so the unique visitors of a past week are not known.
    """

    monday: date
    visitor_days: int
    newcomers: int

    @property
    def returning(self) -> int:
        """Return the sum over the week's days of visitors who had come before that day."""
        return self.visitor_days - self.newcomers


@dataclass(frozen=True)
class Statistics:
    """Unique visitors of today, of 7, of 30 and of all days; 30 days and 53 weeks, the oldest first; and the records.

    The last of `days` is today and the last of `weeks` is the current week; both are unfinished.
    """

    today: int
    week: int
    month: int
    total: int
    days: tuple[Day, ...]
    weeks: tuple[Week, ...]
    # The same weekday last week; None where counting began later than that.
    week_ago: Day | None
    # The day of the most unique visitors, the first of equals, today included; None before the first counted visit.
    best_day: Day | None
    # The first day with a counted visit; None before that visit: counting starts today.
    since: date | None
    # How many of the total were imported from the replaced application, which recorded no days: older than `since`.
    undated: int
    time_zone: str
    # When the numbers were read, in the time zone; two readings of the same numbers are equal.
    as_of: datetime = field(compare=False)
