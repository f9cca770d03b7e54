"""A PostgreSQL server of the benchmark's own, and databases with as many visitors as are asked for."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import IPv4Address
from statistics import median
import time
from typing import Any

import psycopg2
from psycopg2.extras import execute_values

from tests.support.postgresql import execute, PostgresServer, value
from tests.support.server import bring_up, KEY, today
from tests.support.waiting import eventually
from visitors.address import network_of, visitor_id
from visitors.counting import Server
from visitors.days import CHART_DAYS, FORGOTTEN, NEVER, server_today

# Every commit reaches the disk before its answer, because the exactness of the counts rests on that.
SETTINGS = {'fsync': 'on', 'full_page_writes': 'on', 'synchronous_commit': 'on', 'shared_buffers': '1GB',
            'max_wal_size': '16GB', 'checkpoint_timeout': '30min', 'max_connections': '200'}
FIRST_ADDRESS = int(IPv4Address('10.0.0.0'))
DAYS_BACK = 400  # so long ago was the last visit of some
TIMES = 200
CONNECTED = 'SELECT count(*) FROM pg_stat_activity WHERE datname = %s'

# Those who come during the benchmark lie among those who do not, all over the table.
FILL = """
ALTER TABLE visitors DISABLE TRIGGER USER;
ALTER TABLE visitors DROP CONSTRAINT visitors_pkey;
INSERT INTO visitors (id, visits, last_day)
SELECT coalesce(came.id, md5(number::text)::uuid), 1 + number % 16, date '{today}' - (number % {days})::integer
FROM generate_series(0, {rows} - 1) AS series (number) LEFT JOIN came USING (number);
ALTER TABLE visitors ADD CONSTRAINT visitors_pkey PRIMARY KEY (id);
ALTER TABLE visitors ENABLE TRIGGER USER;
INSERT INTO days (day, shard, visitors, newcomers, latest)
SELECT last_day, 0, count(*), count(*), count(*) FROM visitors GROUP BY last_day;
INSERT INTO days (day, shard, latest) SELECT '{never}', 0, -count(*) FROM visitors;
SELECT fold_moves();
"""
# The tables of the other side of a comparison: the naive page's, and one for the upsert without triggers.
FILL_OTHERS = """
DROP INDEX ix_visitor_ip;
INSERT INTO visitor (id, ip, visits)
SELECT 1 + number, host('10.0.0.0'::inet + number), 1 FROM generate_series(0, {rows} - 1) AS number;
CREATE UNIQUE INDEX ix_visitor_ip ON visitor (ip);
SELECT setval('visitor_id_seq', {rows});
CREATE TABLE upserts (LIKE visitors INCLUDING DEFAULTS) WITH (fillfactor = 90);
INSERT INTO upserts SELECT * FROM visitors;
ALTER TABLE upserts ADD PRIMARY KEY (id);
"""
COUNTED_BY_QUERY = 'SELECT count(*) FROM visitors WHERE last_day > %s'
# The server's own vacuuming is no load of ours; it is in every case alike.
BUSY = """
SELECT count(*) FROM pg_stat_activity
WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()
"""
IDLE_SECONDS = 60
COMMIT = 'UPDATE upserts SET visits = visits WHERE id = (SELECT id FROM upserts LIMIT 1)'


@dataclass(frozen=True)
class Database:
    """A database with so many visitors, of whom some come during the benchmark: each stride-th, from the first on."""

    url: str
    rows: int
    visitors: int

    @property
    def stride(self) -> int:
        """How far apart the numbers of those who come are."""
        return self.rows // self.visitors


def start_server() -> PostgresServer:
    """Return a running server that keeps every answered commit."""
    return PostgresServer(settings=SETTINGS)


def make_database(server: PostgresServer, rows: int, visitors: int) -> Database:
    """Return a new database with so many rows in each table, vacuumed and on the disk."""
    database = Database(bring_up(server.create_database()), rows, visitors)
    with closing(psycopg2.connect(database.url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute('CREATE TEMPORARY TABLE came (number bigint PRIMARY KEY, id uuid NOT NULL)')
        execute_values(cursor, 'INSERT INTO came VALUES %s', hashes(database))
        cursor.execute(FILL.format(rows=rows, days=DAYS_BACK, today=today(), never=NEVER))
        cursor.execute(FILL_OTHERS.format(rows=rows))
        cursor.execute('VACUUM (ANALYZE)')
        cursor.execute('CHECKPOINT')
    return database


def hashes(database: Database) -> list[tuple[int, str]]:
    """Return number and hash of those who come: visitor number n has the address 10.0.0.0 + n."""
    numbers = range(0, database.visitors * database.stride, database.stride)
    networks = (network_of(IPv4Address(FIRST_ADDRESS + number)) for number in numbers)
    return [(number, visitor_id(KEY.encode(), network).hex()) for number, network in zip(numbers, networks)]


def wait_until_idle(database: Database) -> None:
    """Return when nothing runs on the server, so that the rest of a load does not slow down the next one."""
    with closing(psycopg2.connect(database.url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()

        def is_idle() -> bool:
            cursor.execute(BUSY)
            return bool(cursor.fetchall() == [(0,)])

        eventually(is_idle, 'the server is idle', IDLE_SECONDS)


@dataclass(frozen=True)
class Times:
    """Times of one client in ms: the chart's statistics, those of all days, counting by query, and a commit."""

    chart: float
    all_days: float
    by_query: float
    commit: float


def measure_times(database: Database) -> Times:
    """Return the medians of the times of one client."""
    since = (today() - timedelta(CHART_DAYS)).isoformat()
    with reading_cursor(database) as cursor:
        return Times(
            chart=median(read_times(cursor, everything=False, times=TIMES)),
            all_days=median(read_times(cursor, everything=True, times=TIMES)),
            by_query=median(_milliseconds(lambda: _fetch(cursor, COUNTED_BY_QUERY, (since,)), 3)),
            commit=median(_milliseconds(lambda: cursor.execute(COMMIT), TIMES)))


@contextmanager
def reading_cursor(database: Database) -> Iterator[Any]:
    """Give a cursor of a connection with the options of the application's own connections."""
    with closing(psycopg2.connect(database.url, options='-c enable_seqscan=off -c jit=off')) as connection:
        connection.autocommit = True
        yield connection.cursor()


def read_times(cursor: Any, everything: bool, times: int) -> list[float]:
    """Return the times in ms of reading the statistics of the chart, or of all days."""
    statement = Server(server_today('UTC')).statistics
    parameters = {'since': FORGOTTEN.isoformat() if everything else None, 'day': None}
    return _milliseconds(lambda: _fetch(cursor, statement, parameters), times)


def copy_of(server: PostgresServer, database: Database) -> Database:
    """Return a copy of a database, as soon as its last client has disconnected."""
    url = server.create_database()
    name, original = (each.rpartition('/')[2] for each in (url, database.url))
    eventually(lambda: value(server.url('postgres'), CONNECTED, (original,)) == 0,
               f'no client is connected to {original}')
    execute(server.url('postgres'), f'DROP DATABASE {name}')
    execute(server.url('postgres'), f'CREATE DATABASE {name} TEMPLATE {original}')
    return replace(database, url=url)


def _fetch(cursor: Any, query: str, parameters: Any) -> None:
    cursor.execute(query, parameters)
    cursor.fetchall()


def _milliseconds(act: Callable[[], object], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        act()
        taken.append((time.perf_counter() - started) * 1000)
    return taken
