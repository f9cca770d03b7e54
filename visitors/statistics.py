"""The numbers of the page and of /stats.json: unique visitors of some periods, by day and by week."""  # noqa: A005

from collections import Counter as Counts
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
import threading
import time
from typing import Any, NamedTuple

from visitors.connections import Connections
from visitors.days import Calendar, CHART_DAYS, FORGOTTEN, IMPORTED, NEVER

WEEK_DAYS = 7
CHART_WEEKS = 53  # a year of whole weeks and the current one
STATISTICS_SECONDS = 1.0
HISTORY_SECONDS = 60.0

# The counts of a server's days: of each day the newest version, then the moves that no version holds yet. Each look-up
# starts at the newest version, so it never walks through the versions that an open snapshot keeps on the disk.
COUNTS_POSTGRESQL = """
WITH RECURSIVE folded AS (
    (SELECT day, visitors, newcomers, latest FROM day_versions ORDER BY day DESC, version DESC LIMIT 1)
    UNION ALL
    SELECT earlier.* FROM folded, LATERAL (
        SELECT day, visitors, newcomers, latest FROM day_versions
        WHERE day < folded.day AND day > {since} ORDER BY day DESC, version DESC LIMIT 1
    ) AS earlier
), known AS (
    SELECT day, visitors, newcomers, latest FROM folded WHERE day > {since}
    UNION ALL
    (SELECT day, visitors, newcomers, latest FROM day_versions
     WHERE day = '0001-01-01' ORDER BY version DESC LIMIT 1)
    UNION ALL
    SELECT day, visitors, newcomers, latest FROM day_moves
    WHERE number > {folded} AND number < {folded} + {far} AND (day > {since} OR day = '0001-01-01')
)
SELECT CAST(day AS text), CAST(sum(visitors) AS bigint), CAST(sum(newcomers) AS bigint), CAST(sum(latest) AS bigint)
FROM known GROUP BY day
UNION ALL SELECT CAST({day} AS text), NULL, NULL, CAST(extract(epoch FROM now()) AS bigint)
"""
COUNTS_SQLITE = f"""
SELECT day, sum(visitors), sum(newcomers), sum(latest) FROM days
WHERE day > coalesce(:since, date(:day, '-{CHART_DAYS} days')) OR day = '0001-01-01' GROUP BY day
UNION ALL SELECT :day, NULL, NULL, CAST(strftime('%s', 'now') AS integer)
"""
# The number of the last move that the versions hold; 0 before the first fold.
FOLDED = """
coalesce((SELECT version FROM day_versions WHERE day = '0001-01-01' ORDER BY version DESC LIMIT 1), 0)
""".strip()
# No move has a number so far ahead. With an upper bound, too, the planner expects few moves and takes the index.
FAR = 1_000_000_000_000
Rows = Iterable[tuple[str, int, int, int]]


def counts_of_server(today: str) -> str:
    """Return the statement that reads a server's counts, by the SQL of its expression for today.

    The row with nulls is today, or the given day, and the moment in seconds since 1970. Without a first day it reads
    the days of the chart.
    """
    day = f'coalesce(CAST(%(day)s AS date), {today})'
    since = f'coalesce(CAST(%(since)s AS date), {day} - {CHART_DAYS})'
    return COUNTS_POSTGRESQL.format(day=day, since=since, folded=FOLDED, far=FAR)


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


class Moment(NamedTuple):
    """The moment of a reading, in the time zone of the days, and its day by the database's clock."""

    day: date
    read_at: datetime


@dataclass(frozen=True)
class History:
    """The days before the chart's. They are over, so they are read once a minute instead of once a second.

    `until` is the first day after it.
    """

    until: date
    days: tuple[Day, ...]
    since: date | None
    best_day: Day | None
    undated: int


class RecentStatistics:
    """The statistics of a database, at most a second old, shared by all threads of a process."""

    def __init__(self, connections: Connections, calendar: Calendar, statement: str,
                 clock: Callable[[], date | None], seconds: Callable[[], float] = time.monotonic) -> None:
        """Begin without numbers; the clock returns a day, or None for the database's own."""
        self._connections = connections
        self._calendar = calendar
        self._statement = statement
        self._clock = clock
        self._seconds = seconds
        self._statistics: Statistics | None = None
        self._loaded_at = float('-inf')
        self._history: History | None = None
        self._history_loaded_at = float('-inf')
        self._loading = threading.Lock()

    def get(self) -> Statistics:
        """Return the statistics, at most a second old; one caller at a time loads them."""
        # While one caller loads, the others take the last numbers. Before the first numbers exist, they wait.
        last = self._statistics
        if not self._loading.acquire(blocking=last is None):
            assert last
            return last
        try:
            return self.fresh() or self._load()
        finally:
            self._loading.release()

    def fresh(self) -> Statistics | None:
        """Return the loaded statistics if they are not older than a second."""
        return self._statistics if self._seconds() - self._loaded_at < STATISTICS_SECONDS else None

    def _load(self) -> Statistics:
        # One statement either way: with the history it reads all days, else those of the chart.
        moment, rows = self._read(everything=not self._history or self._history_is_old())
        if self._history and self._history.until != chart_start(moment.day):
            moment, rows = self._read(everything=True)  # midnight has passed
        history = self._history
        if not history or history.until != chart_start(moment.day) or self._history_is_old():
            history = self._history = history_of(moment.day, rows)
            self._history_loaded_at = self._seconds()
        self._statistics = statistics_of(moment, rows, history)
        self._loaded_at = self._seconds()
        return self._statistics

    def _read(self, everything: bool) -> tuple[Moment, list[Any]]:
        day = self._clock()
        parameters = {'since': FORGOTTEN.isoformat() if everything else None, 'day': day and day.isoformat()}
        rows = self._connections.fetch(self._statement, parameters, self._calendar.check)
        ((today, _, _, seconds),) = [row for row in rows if row[1] is None]
        moment = Moment(date.fromisoformat(today), datetime.fromtimestamp(seconds, self._calendar.zone))
        return moment, [row for row in rows if row[1] is not None]

    def _history_is_old(self) -> bool:
        return self._seconds() - self._history_loaded_at >= HISTORY_SECONDS


def chart_start(day: date) -> date:
    """Return the first day of the chart that ends on a day."""
    return day - timedelta(CHART_DAYS - 1)


def history_of(day: date, rows: Rows) -> History:
    """Return the history before a day's chart from rows of (day, visitors, newcomers, latest)."""
    until = chart_start(day)
    undated, days = 0, []
    for written, visitors, newcomers, _ in sorted(rows):
        each = date.fromisoformat(written)
        if each == IMPORTED:
            undated = newcomers
        elif IMPORTED < each < until and visitors:
            days.append(Day(each, visitors, newcomers))
    first_week = monday_of(day) - timedelta(WEEK_DAYS * (CHART_WEEKS - 1))
    return History(
        until=until,
        days=tuple(each for each in days if each.day >= first_week),
        since=days[0].day if days else None,
        best_day=best_of(days),
        undated=undated,
    )


def statistics_of(moment: Moment, rows: Rows, history: History) -> Statistics:
    """Return the statistics of a moment's day from rows of (day, visitors, newcomers, latest).

    A visitor belongs to the period in which its latest day lies, so periods add up over `latest`, never over days.
    Days without rows had no visits. Days after that one, written by a wrong clock, belong to no period.
    """
    day = moment.day
    visitors, newcomers, latest = Counts[date](), Counts[date](), Counts[date]()
    for written, *numbers in rows:
        each = date.fromisoformat(written)
        visitors[each], newcomers[each], latest[each] = numbers
    # The stand-in day of imported visitors is no day, even if a clock that was never set says so.
    for numbers_by_day in (visitors, newcomers, latest):
        del numbers_by_day[IMPORTED]
    chart = [Day(each, visitors[each], newcomers[each])
             for each in (chart_start(day) + timedelta(number) for number in range(CHART_DAYS))]
    came = [each for each in chart if each.visitors]
    since = history.since or (came[0].day if came else None)
    week_ago = chart[-1 - WEEK_DAYS]
    return Statistics(
        today=visitors[day],
        week=sum(latest[each.day] for each in chart[-WEEK_DAYS:]),
        month=sum(latest[each.day] for each in chart),
        total=-latest[NEVER],
        days=tuple(chart),
        weeks=weeks_of(day, [*history.days, *came]),
        week_ago=week_ago if since and since <= week_ago.day else None,
        best_day=best_of([each for each in (history.best_day, *came) if each]),
        since=since,
        undated=history.undated,
        time_zone=str(moment.read_at.tzinfo),
        as_of=moment.read_at,
    )


def monday_of(day: date) -> date:
    """Return the Monday of a day's calendar week."""
    return day - timedelta(day.weekday())


def weeks_of(day: date, days: Iterable[Day]) -> tuple[Week, ...]:
    """Return the weeks of the last year, the oldest first and that of this day last, from their days."""
    visitor_days, newcomers = Counts[date](), Counts[date]()
    for each in days:
        monday = monday_of(each.day)
        visitor_days[monday] += each.visitors
        newcomers[monday] += each.newcomers
    mondays = [monday_of(day) - timedelta(WEEK_DAYS * back) for back in reversed(range(CHART_WEEKS))]
    return tuple(Week(monday, visitor_days[monday], newcomers[monday]) for monday in mondays)


def best_of(days: Iterable[Day]) -> Day | None:
    """Return the day of the most visitors, the first of equals; None without a day."""
    return max(days, key=lambda each: (each.visitors, -each.day.toordinal()), default=None)
