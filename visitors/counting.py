"""Counting: one statement for all visits that wait at the same time, and statistics at a cost that does not grow.

The model: docs/decisions/0020-append-and-fold.md.
"""

from collections import Counter as Counts
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
import logging
import threading
import time
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine

from visitors.connections import Connections
from visitors.database_errors import describe, DRIVER_ERRORS, Unreachable
from visitors.days import Calendar
from visitors.deadline import time_limit
from visitors.settings import is_embedded
from visitors.sharing import SharedVisits, Visit
from visitors.statistics import counts_of_server, COUNTS_SQLITE, FAR, FOLDED, RecentStatistics, Statistics

# One statement for a group of visits, its rows in the order of the keys: one order of locks, so no deadlock. The
# sub-select sees the counts before this statement: the total, and the number of moves that the next fold finds.
VISITS_POSTGRESQL = """
INSERT INTO visitors (id, visits, last_day)
SELECT id, number, {day} FROM unnest({ids}, {numbers}) AS come (id, number) ORDER BY id
ON CONFLICT (id) DO UPDATE SET
    visits = visitors.visits + excluded.visits,
    last_day = CASE WHEN excluded.last_day > visitors.last_day THEN excluded.last_day ELSE visitors.last_day END
RETURNING CAST(id AS text), visits, (
    SELECT ARRAY[newcomers - coalesce(
        (SELECT latest FROM day_versions WHERE day = '0001-01-01' ORDER BY version DESC LIMIT 1), 0), number]
    FROM (
        SELECT coalesce(sum(newcomers), 0) AS newcomers, count(*) AS number FROM day_moves
        WHERE number > {folded} AND number < {folded} + {far}
    ) AS moved
)
"""
PREPARE = 'PREPARE visits (uuid[], bigint[], date) AS {visits}'
EXECUTE = 'EXECUTE visits (%s, %s, %s)'
# A group fails early when another session locks one visitor's row; then each visit is counted by itself.
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '200ms'; "
# A file has one writer at a time, so a group shares its transaction. The sub-select sees the counts before the visit.
VISIT_SQLITE = """
INSERT INTO visitors (id, last_day) {visitor}
ON CONFLICT (id) DO UPDATE SET
    visits = visitors.visits + 1,
    last_day = CASE WHEN excluded.last_day > visitors.last_day THEN excluded.last_day ELSE visitors.last_day END
RETURNING visits, (SELECT coalesce(-sum(latest), 0) FROM days WHERE day = '0001-01-01')
"""
# The statements of a visit and its triggers without a row: they change nothing, and fail whenever a visit would fail,
# because of privileges, a server that only reads, a missing column, or a lock.
NEEDS = {
    'postgresql': (
        VISITS_POSTGRESQL.format(ids="CAST('{}' AS uuid[])", numbers="CAST('{}' AS bigint[])", day='CURRENT_DATE',
                                 folded=FOLDED, far=FAR),
    ),
    'sqlite': (
        VISIT_SQLITE.format(visitor='SELECT CAST(NULL AS blob), CAST(NULL AS text) WHERE 1 = 0'),
        """
        INSERT INTO days (day, shard, visitors, newcomers, latest) SELECT CAST(NULL AS text), 0, 0, 0, 0 WHERE 1 = 0
        ON CONFLICT (day, shard) DO UPDATE SET
            visitors = days.visitors + excluded.visitors,
            newcomers = days.newcomers + excluded.newcomers,
            latest = days.latest + excluded.latest
        """,
    ),
}
# A thread that finds more moves than this folds them. A visit reads all moves since the last fold, so this bounds its
# cost; the fold runs after the answer to the other visits of the group. It has a time of its own, because in the
# visit's time a slow fold would fail a visit that is counted, and the server would look silent.
FOLD_AFTER = 200
FOLD = 'SELECT fold_moves()'
FOLD_SECONDS = 0.5
# The pause after a fold that found another one, or a long transaction, in its way.
FOLD_PAUSE_SECONDS = 0.1
FAILED_FOLD_PAUSE_SECONDS = 10.0
KEYS: dict[str, Callable[[bytes], Any]] = {'postgresql': bytes.hex, 'sqlite': bytes}
UTC = ZoneInfo('UTC')

logger = logging.getLogger(__name__)


def key_for(dialect: str) -> Callable[[bytes], Any]:
    """Return the function that makes a visitor's key in a database from the hash."""
    return KEYS[dialect]


def check_visits(connection: Connection) -> None:
    """Run the statements of a visit without counting one; raise the error that a visit would meet."""
    for need in NEEDS[connection.dialect.name]:
        connection.exec_driver_sql(need)


@dataclass(frozen=True)
class Answer:
    """The numbers of a group's visits in their order, and the number of moves that no fold has met yet."""

    visits: list[Visit]
    moves: int


class Server:
    """The statements of a group of visits on a PostgreSQL server."""

    def __init__(self, today: str) -> None:
        """Take the server's expression for today, which a visit without a day uses."""
        # Planning takes longer than the visit itself; psycopg2 does not prepare, so each connection does, once.
        self.prepare = PREPARE.format(visits=VISITS_POSTGRESQL.format(
            ids='$1', numbers='$2', day=f'coalesce($3, {today})', folded=FOLDED, far=FAR))
        self.statistics = counts_of_server(today)

    def count(self, cursor: Any, visitors: Sequence[bytes], day: date | None) -> Answer:
        """Count one visit of each of these visitors; one who stands there twice gets two numbers."""
        numbers = Counts(visitor.hex() for visitor in visitors)
        keys = ','.join(numbers)
        statement = EXECUTE if len(numbers) == 1 else LOCK_TIMEOUT + EXECUTE
        cursor.execute(statement, ('{%s}' % keys, '{%s}' % ','.join(map(str, numbers.values())), day))
        rows = {key.replace('-', ''): (visits, before) for key, visits, before in cursor.fetchall()}
        ((total, moves), *_) = [before for _, before in rows.values()]
        # A row that did not exist before holds the visits of this statement alone.
        total += sum(rows[key][0] == number for key, number in numbers.items())
        visits = []
        for visitor in visitors:
            key = visitor.hex()
            numbers[key] -= 1
            visits.append(Visit(rows[key][0] - numbers[key], total))
        return Answer(visits, moves)


class File:
    """The statements of a group of visits in an SQLite file."""

    prepare = None
    statistics = COUNTS_SQLITE
    visit = VISIT_SQLITE.format(visitor='VALUES (?, ?)')

    def count(self, cursor: Any, visitors: Sequence[bytes], day: date | None) -> Answer:
        """Count one visit of each of these visitors, in one transaction."""
        together = len(visitors) > 1
        if together:
            cursor.execute('BEGIN IMMEDIATE')
        visits = []
        for visitor in visitors:
            cursor.execute(self.visit, (visitor, day and day.isoformat()))
            ((number, total),) = cursor.fetchall()
            visits.append(Visit(number, total + (number == 1)))
        if together:
            cursor.execute('COMMIT')
        return Answer(visits, 0)


class Groups:
    """The groups of visits of one process, counted on the connections of its threads.

    `moves` is the number of moves that the last group read.
    """

    def __init__(self, connections: Connections, statements: Server | File, calendar: Calendar) -> None:
        """Begin before the first group."""
        self._connections = connections
        self._statements = statements
        self._calendar = calendar
        self.moves = 0

    def count(self, visitors: Sequence[bytes], day: date | None) -> list[Visit]:
        """Count one visit of each of these visitors and return their numbers after the commit."""
        answer = self._connections.use(lambda cursor: self._statements.count(cursor, visitors, day),
                                       self._calendar.fix)
        self.moves = answer.moves
        return answer.visits


class Counter:
    """The visits of a database and their statistics, in the days of one time zone."""

    def __init__(self, engine: Engine, clock: Callable[[], date | None] | None = None,
                 seconds: Callable[[], float] = time.monotonic, zone: ZoneInfo = UTC) -> None:
        """Count on the database of an engine whose connections commit each statement by themselves.

        A clock replaces the database's own.
        """
        self._calendar = Calendar(zone, engine)
        embedded = is_embedded(engine.url)
        self._clock = clock or (self._calendar.today if embedded else _day_of_the_server)
        statements: Server | File = File() if embedded else Server(self._calendar.today_of_server)
        self._connections = Connections(engine, statements.prepare)
        self._recent = RecentStatistics(self._connections, self._calendar, statements.statistics, self._clock, seconds)
        self._groups = Groups(self._connections, statements, self._calendar)
        self._shared = SharedVisits(self._groups.count)
        self._folding = threading.Lock()
        self._fold_again_at = float('-inf')

    def has_connection(self) -> bool:
        """Return whether this thread has an open connection."""
        return self._connections.is_open()

    def visit(self, visitor: bytes) -> Visit:
        """Count one visit, alone in one round trip, or together with others that wait at the same time."""
        # No visit of a thread with a connection waits for another thread's connecting.
        self._connections.open()
        return self._shared.visit(visitor, self._clock())

    def statistics(self) -> Statistics:
        """Return the numbers for the tiles and the charts, at most a second old."""
        return self._recent.get()

    def fresh_statistics(self) -> Statistics | None:
        """Return the loaded statistics if they are not older than a second."""
        return self._recent.fresh()

    def fold_if_needed(self) -> None:
        """Fold the moves if the last visits read many; call it after a visit, and outside its time limit."""
        if self._groups.moves > FOLD_AFTER and time.monotonic() >= self._fold_again_at:
            self.fold()

    def fold(self) -> None:
        """Fold the moves into new versions of the days, unless another thread or session does so now.

        A failure is logged and ignored, because the visits are committed and the next fold finds the same moves.
        """
        if not self._folding.acquire(blocking=False):
            return
        try:
            with time_limit(FOLD_SECONDS):
                ((folded,),) = self._connections.fetch(FOLD, None)
            self._groups.moves = 0
            self._fold_again_at = time.monotonic() + (0 if folded else FOLD_PAUSE_SECONDS)
        except (*DRIVER_ERRORS, Unreachable) as error:
            self._fold_again_at = time.monotonic() + FAILED_FOLD_PAUSE_SECONDS
            logger.warning('the counts of the days could not be folded: %s', describe(error))
        finally:
            self._folding.release()


def _day_of_the_server() -> None:
    """Return no day, so that the server uses its own."""
