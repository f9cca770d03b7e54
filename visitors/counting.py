"""Counting: one statement for a visit, exact statistics at a cost that does not grow, and every write to visitors.

The model: docs/decisions/0001-count-by-latest-day.md.
"""

from collections import Counter as Counts
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
import threading
import time
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, text

from visitors.connections import Connections
from visitors.days import Calendar
from visitors.settings import is_embedded
from visitors.statistics import Day, Statistics, Week

NEVER = date(1, 1, 1)  # the day that newcomers come from: its bucket holds minus the number of visitors
FORGOTTEN = date(1, 1, 2)  # the day that purged visitors are moved to, so that the buckets go on adding up
IMPORTED = date(1970, 1, 1)  # the latest day of visitors whose day the replaced application did not write down
CHART_DAYS = 30
WEEK_DAYS = 7
CHART_WEEKS = 53  # a year of whole weeks and the current one
STATISTICS_SECONDS = 1.0
HISTORY_SECONDS = 60.0

# The sub-select sees the counters as they were before this statement; a visit that is the first adds one to them.
VISIT = """
INSERT INTO visitors (id, last_day) {visitor}
ON CONFLICT (id) DO UPDATE SET
    visits = visitors.visits + 1,
    last_day = CASE WHEN excluded.last_day > visitors.last_day THEN excluded.last_day ELSE visitors.last_day END
RETURNING visits, (SELECT CAST(coalesce(-sum(latest), 0) AS bigint) FROM days WHERE day = '0001-01-01')
"""
# What a visit and the triggers behind it write, without a row: it changes nothing, and fails for the reasons for which
# a visit would fail: privileges, a server that only reads, a missing column, a lock.
NEEDS = (
    VISIT,
    """
    INSERT INTO days (day, shard, visitors, newcomers, latest) {bucket}
    ON CONFLICT (day, shard) DO UPDATE SET
        visitors = days.visitors + excluded.visitors,
        newcomers = days.newcomers + excluded.newcomers,
        latest = days.latest + excluded.latest
    """,
)
NO_VISITOR = 'SELECT CAST(NULL AS {uuid}), CAST(NULL AS {date}) WHERE 1 = 0'
NO_BUCKET = 'SELECT CAST(NULL AS {date}), 0, 0, 0, 0 WHERE 1 = 0'
NULL_TYPES = {'postgresql': {'uuid': 'uuid', 'date': 'date'}, 'sqlite': {'uuid': 'blob', 'date': 'text'}}
# The row with nulls is today and the moment, as seconds since 1970. Without a first day it reads the chart's days.
STATISTICS = """
SELECT CAST(day AS text), CAST(sum(visitors) AS bigint), CAST(sum(newcomers) AS bigint), CAST(sum(latest) AS bigint)
FROM days WHERE day > coalesce({since}, {chart_start}) OR day = '0001-01-01' GROUP BY day
UNION ALL SELECT CAST({day} AS text), NULL, NULL, {now}
"""
Rows = Iterable[tuple[str, int, int, int]]
BATCH_END = text('SELECT id FROM visitors WHERE id > :after ORDER BY id LIMIT 1 OFFSET :size')
# Any number will do that the leader lock of the schema does not have.
PURGE_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('visitors/purge', 0))")
# A visitor is forgotten when both the last visit and the last import are older than the horizon. An import by an older
# release recorded no day; the first purge that meets such a visitor does, and keeps the visitor.
IS_FORGOTTEN = """
(last_day < :horizon AND CASE WHEN imported_on IS NULL THEN last_day <> '1970-01-01' ELSE imported_on < :horizon END)
"""
IS_UNMARKED = "(last_day = '1970-01-01' AND imported_on IS NULL)"
IN_BATCH = 'id > :after AND id <= :until'
# Imports and purges count in buckets of their own, beside the 16 of the trigger: no visit waits for one of their rows.
# Each is one statement, because its locks last as long as its transaction. The import takes them in the order of the
# keys, and only one runs at a time; the purge waits for no visitor's row: who visits at this moment stays.
ADD_POSTGRESQL = text("""
WITH added AS (
    INSERT INTO visitors (id, visits, last_day, imported_on)
    SELECT id, visits, '1970-01-01', :day
    FROM unnest(CAST(:ids AS uuid[]), CAST(:visits AS bigint[])) AS past (id, visits) ORDER BY id
    ON CONFLICT (id) DO UPDATE SET visits = visitors.visits + excluded.visits, imported_on = excluded.imported_on
    RETURNING xmax = 0 AS is_new
), newcomers AS (SELECT CAST(count(*) AS integer) AS number FROM added WHERE is_new)
INSERT INTO days (day, shard, visitors, newcomers, latest)
SELECT bucket.day, 16, number * bucket.visitors, number * bucket.visitors, number * bucket.latest
FROM newcomers, (VALUES (date '0001-01-01', 0, -1), (date '1970-01-01', 1, 1)) AS bucket (day, visitors, latest)
WHERE number > 0 ORDER BY bucket.day
ON CONFLICT (day, shard) DO UPDATE SET
    visitors = days.visitors + excluded.visitors,
    newcomers = days.newcomers + excluded.newcomers,
    latest = days.latest + excluded.latest
""")
ADD_SQLITE = text("""
INSERT INTO visitors (id, visits, last_day, imported_on) VALUES (:id, :visits, '1970-01-01', :day)
ON CONFLICT (id) DO UPDATE SET visits = visitors.visits + excluded.visits, imported_on = excluded.imported_on
""")
FORGET_POSTGRESQL = text(f"""
WITH locked AS (
    SELECT id, {IS_UNMARKED} AS is_unmarked FROM visitors
    WHERE {IN_BATCH} AND ({IS_FORGOTTEN} OR {IS_UNMARKED}) FOR UPDATE SKIP LOCKED
), marked AS (
    UPDATE visitors SET imported_on = :day WHERE id IN (SELECT id FROM locked WHERE is_unmarked)
), gone AS (
    DELETE FROM visitors WHERE id IN (SELECT id FROM locked WHERE NOT is_unmarked) RETURNING last_day
), moved AS (
    INSERT INTO days (day, shard, latest)
    SELECT day, 17, sum(latest) FROM (
        SELECT last_day AS day, -1 AS latest FROM gone UNION ALL SELECT '0001-01-02', 1 FROM gone
    ) AS move GROUP BY day ORDER BY day
    ON CONFLICT (day, shard) DO UPDATE SET latest = days.latest + excluded.latest
)
SELECT count(*) FROM gone
""")
MARK_SQLITE = text(f'UPDATE visitors SET imported_on = :day WHERE {IN_BATCH} AND {IS_UNMARKED}')
FORGET_SQLITE = text(f'DELETE FROM visitors WHERE {IN_BATCH} AND {IS_FORGOTTEN} RETURNING last_day')
MOVE_SQLITE = text("""
INSERT INTO days (day, shard, latest) VALUES (:day, 0, :moved)
ON CONFLICT (day, shard) DO UPDATE SET latest = days.latest + excluded.latest
""")
KEYS: dict[str, Callable[[bytes], Any]] = {'postgresql': bytes.hex, 'sqlite': bytes}
UTC = ZoneInfo('UTC')


@dataclass(frozen=True)
class Dialect:
    """How a database writes what differs between PostgreSQL and SQLite."""

    prepare: str | None
    visit: str
    statistics: str
    key: Callable[[bytes], Any]


def postgresql(today: str) -> Dialect:
    """Return the dialect of a server whose expression for today is this one; a day that is given goes before it."""
    day = f'coalesce(CAST(%(day)s AS date), {today})'
    visitor = f'VALUES ($1, coalesce($2, {today}))'
    return Dialect(
        # Planning takes longer than the visit itself; psycopg2 does not prepare, so the connection does, once.
        prepare=f'PREPARE visit (uuid, date) AS {VISIT.format(visitor=visitor)}',
        visit='EXECUTE visit (%s, %s)',
        statistics=STATISTICS.format(since='CAST(%(since)s AS date)', day=day, chart_start=f'{day} - {CHART_DAYS}',
                                     now='CAST(extract(epoch FROM now()) AS bigint)'),
        key=KEYS['postgresql'],
    )


SQLITE = Dialect(
    prepare=None,
    visit=VISIT.format(visitor='VALUES (?, ?)'),
    statistics=STATISTICS.format(since=':since', day=':day', chart_start=f"date(:day, '-{CHART_DAYS} days')",
                                 now="CAST(strftime('%s', 'now') AS integer)"),
    key=KEYS['sqlite'],
)


class Visit(NamedTuple):
    """The how manieth visit of this visitor it was, and how many visitors there are, this one included."""

    visits: int
    total: int


class Moment(NamedTuple):
    """The moment at which statistics were read, in the time zone of the days, and its day by the database's clock."""

    day: date
    read_at: datetime


def check_visits(connection: Connection) -> None:
    """Do what a visit does without counting one; raise the error that a visit would meet."""
    types = NULL_TYPES[connection.dialect.name]
    visitor, bucket = NO_VISITOR.format(**types), NO_BUCKET.format(**types)
    for need in NEEDS:
        connection.exec_driver_sql(need.format(visitor=visitor, bucket=bucket))


@dataclass(frozen=True)
class History:
    """The days before the chart's: all of them are over, so what they brought is read once a minute and not a second.

    `until` is the first day that does not belong to it.
    """

    until: date
    days: tuple[Day, ...]
    since: date | None
    best_day: Day | None
    undated: int


class Counter:
    def __init__(self, engine: Engine, clock: Callable[[], date | None] | None = None,
                 seconds: Callable[[], float] = time.monotonic, zone: ZoneInfo = UTC) -> None:
        """Count on this engine's database, whose connections commit each statement by themselves, in a time zone.

        A clock replaces the database's own, which says the day otherwise.
        """
        self._calendar = Calendar(zone, engine)
        embedded = is_embedded(engine.url)
        self._clock = clock or (self._calendar.today if embedded else _as_the_server_says)
        self._seconds = seconds
        self._dialect = SQLITE if embedded else postgresql(self._calendar.today_of_server)
        self._connections = Connections(engine, self._dialect.prepare)
        self._statistics: Statistics | None = None
        self._loaded_at = float('-inf')
        self._history: History | None = None
        self._history_loaded_at = float('-inf')
        self._loading = threading.Lock()

    def has_connection(self) -> bool:
        """Return whether this thread has an open connection."""
        return self._connections.is_open()

    def visit(self, visitor: bytes) -> Visit:
        """Count one visit, now, in one round trip."""
        dialect, day = self._dialect, self._clock()
        parameters = (dialect.key(visitor), day and day.isoformat())
        ((visits, known),) = self._connections.fetch(dialect.visit, parameters, self._calendar.fix)
        return Visit(visits, known + (visits == 1))

    def statistics(self) -> Statistics:
        """Return the numbers for the tiles and the charts, at most a second old; one caller at a time loads them."""
        # Whoever comes while they are loaded takes the known ones; only where there are none everybody waits.
        known = self._statistics
        if not self._loading.acquire(blocking=known is None):
            assert known
            return known
        try:
            return self.fresh_statistics() or self._load()
        finally:
            self._loading.release()

    def fresh_statistics(self) -> Statistics | None:
        """Return the statistics that are at hand, if they are not older than a second."""
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
        rows = self._connections.fetch(self._dialect.statistics, parameters, self._calendar.check)
        ((today, _, _, seconds),) = [row for row in rows if row[1] is None]
        moment = Moment(date.fromisoformat(today), datetime.fromtimestamp(seconds, self._calendar.zone))
        return moment, [row for row in rows if row[1] is not None]

    def _history_is_old(self) -> bool:
        return self._seconds() - self._history_loaded_at >= HISTORY_SECONDS


def _as_the_server_says() -> None:
    """Name no day, so that the server takes its own."""


def chart_start(day: date) -> date:
    """Return the first day of the chart that ends on a day."""
    return day - timedelta(CHART_DAYS - 1)


def history_of(day: date, rows: Rows) -> History:
    """Return the history as of a day from rows of (day, visitors, newcomers, latest), those of the chart left out."""
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
    Days without rows had no visits. Days after that one, which a wrong clock has written, belong to no period.
    """
    day = moment.day
    visitors, newcomers, latest = Counts[date](), Counts[date](), Counts[date]()
    for written, *numbers in rows:
        each = date.fromisoformat(written)
        visitors[each], newcomers[each], latest[each] = numbers
    # The stand-in of imported visitors is no day, even where a clock that was never set says that it is.
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
    """Return the day of the most visitors, the first of equals; None where there is none."""
    return max(days, key=lambda each: (each.visitors, -each.day.toordinal()), default=None)


def add_visits(connection: Connection, visits: dict[bytes, int], day: date) -> None:
    """Add visits of unknown days, given by visitor and imported on a day, in the open transaction."""
    key = KEYS[connection.dialect.name]
    past = {key(visitor): number for visitor, number in sorted(visits.items())}
    if not past:
        return
    if connection.dialect.name == 'postgresql':
        given = {'ids': list(past), 'visits': list(past.values()), 'day': day.isoformat()}
        connection.execute(ADD_POSTGRESQL, given)
        return
    connection.execute(ADD_SQLITE, [{'id': each, 'visits': number, 'day': day.isoformat()}
                                    for each, number in past.items()])


def may_purge(connection: Connection) -> bool:
    """Return whether this purge is the only one, until its transaction ends; another one is not waited for."""
    # Of the transaction and not of the session: a session may be a pooler's, and would keep it for ever. In SQLite
    # the transaction has the only write lock already.
    return is_embedded(connection.engine.url) or bool(connection.scalar(PURGE_LOCK))


def forget_batch(connection: Connection, after: Any, horizon: date, day: date, size: int) -> tuple[int, Any]:
    """Delete, in the open transaction, those of the next visitors in key order who have not come since the horizon.

    Starts after a key, or with the first visitor where that is None. Returns how many were deleted and the key after
    which the next batch starts, None behind the last. Totals stay: the visitors move to a bucket of their own.
    Visitors whose import was recorded without its day count as imported on the given day.
    """
    key = KEYS[connection.dialect.name]
    after = key(bytes(16)) if after is None else after
    until = connection.execute(BATCH_END, {'after': after, 'size': size - 1}).scalar()
    bounds = {'after': after, 'until': until or key(b'\xff' * 16), 'horizon': horizon.isoformat(),
              'day': day.isoformat()}
    if connection.dialect.name == 'postgresql':
        return int(connection.execute(FORGET_POSTGRESQL, bounds).scalar_one()), until
    return _forget_in_file(connection, bounds), until


def _forget_in_file(connection: Connection, bounds: dict[str, Any]) -> int:
    connection.execute(MARK_SQLITE, bounds)
    days = Counts(str(last_day) for last_day, in connection.execute(FORGET_SQLITE, bounds))
    for day, moved in {FORGOTTEN.isoformat(): days.total(), **{day: -days[day] for day in days}}.items():
        connection.execute(MOVE_SQLITE, {'day': day, 'moved': moved})
    return days.total()
