"""The release before this one counts on this schema, alone and beside this one, by its own statements."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
import threading
from typing import Any
from uuid import uuid4

import psycopg2
import pytest

from tests.schema.test_compatibility import bring_up_to
from tests.support.database import application_engine
from tests.support.postgresql import PostgresServer, value
from tests.support.server import bring_up, flask
from tests.visitors.test_counting import commands_engine, counter_at, found_differences, TODAY
from visitors.sharing import Visit

RELEASED = 'c6b1f04d2e93'  # pragma: allowlist secret
# As the released code sends them, but for the marks of parameters.
PREPARE = """
PREPARE visit (uuid, date) AS
INSERT INTO visitors (id, last_day) VALUES ($1, coalesce($2, CAST(now() AT TIME ZONE 'UTC' AS date)))
ON CONFLICT (id) DO UPDATE SET
    visits = visitors.visits + 1,
    last_day = CASE WHEN excluded.last_day > visitors.last_day THEN excluded.last_day ELSE visitors.last_day END
RETURNING visits, (SELECT CAST(coalesce(-sum(latest), 0) AS bigint) FROM days WHERE day = '0001-01-01')
"""
NEED = """
INSERT INTO days (day, shard, visitors, newcomers, latest)
SELECT CAST(NULL AS date), 0, 0, 0, 0 WHERE 1 = 0
ON CONFLICT (day, shard) DO UPDATE SET
    visitors = days.visitors + excluded.visitors,
    newcomers = days.newcomers + excluded.newcomers,
    latest = days.latest + excluded.latest
"""
STATISTICS = """
SELECT CAST(day AS text), CAST(sum(visitors) AS bigint), CAST(sum(newcomers) AS bigint), CAST(sum(latest) AS bigint)
FROM days WHERE day > '0001-01-02' OR day = '0001-01-01' GROUP BY day
"""
ADD = """
WITH added AS (
    INSERT INTO visitors (id, visits, last_day, imported_on)
    SELECT id, visits, '1970-01-01', %(day)s
    FROM unnest(CAST(%(ids)s AS uuid[]), CAST(%(visits)s AS bigint[])) AS past (id, visits) ORDER BY id
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
"""
FORGET = """
WITH locked AS (
    SELECT id FROM visitors WHERE last_day < %(horizon)s AND last_day <> '1970-01-01' FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM visitors WHERE id IN (SELECT id FROM locked) RETURNING last_day
), moved AS (
    INSERT INTO days (day, shard, latest)
    SELECT day, 17, sum(latest) FROM (
        SELECT last_day AS day, -1 AS latest FROM gone UNION ALL SELECT '0001-01-02', 1 FROM gone
    ) AS move GROUP BY day ORDER BY day
    ON CONFLICT (day, shard) DO UPDATE SET latest = days.latest + excluded.latest
)
SELECT count(*) FROM gone
"""


class Released:
    """A connection of the released application."""

    def __init__(self, url: str) -> None:
        """Connect and prepare, as that release does."""
        self._connection = psycopg2.connect(url)
        self._connection.autocommit = True
        self._cursor = self._connection.cursor()
        self._cursor.execute(PREPARE)

    def visit(self, visitor: bytes, day: date) -> Visit:
        """Count a visit and return the numbers that the page shows."""
        ((visits, known),) = self.fetch('EXECUTE visit (%s, %s)', (visitor.hex(), day))
        return Visit(visits, known + (visits == 1))

    def fetch(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Return the rows of a statement, if it returns any."""
        self._cursor.execute(statement, parameters)
        return list(self._cursor.fetchall()) if self._cursor.description else []

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


@pytest.fixture
def released_url(postgresql_url: str, tmp_path: Path) -> str:
    """Return the URL of a database as the released code left it."""
    bring_up_to(postgresql_url, RELEASED, tmp_path)
    return postgresql_url


@pytest.fixture
def released(released_url: str) -> Iterator[Released]:
    """Give a connection that was open before the upgrade."""
    with closing(Released(released_url)) as connection:
        yield connection


def test_both_releases_count_on_one_schema_and_agree_after_each_visit(released_url: str, released: Released) -> None:
    names = [uuid4().bytes for _ in range(6)]
    for number, name in enumerate(names[:3]):
        assert released.visit(name, TODAY - timedelta(40)) == Visit(1, number + 1)
    bring_up(released_url)
    engine = application_engine(released_url)
    new = counter_at(engine, lambda: TODAY)

    assert released.visit(names[0], TODAY) == Visit(2, 3)
    assert new.visit(names[0]) == Visit(3, 3)
    assert released.visit(names[3], TODAY) == Visit(1, 4)
    assert new.visit(names[4]) == Visit(1, 5)
    new.fold()
    assert released.visit(names[5], TODAY) == Visit(1, 6)
    assert new.visit(names[5]) == Visit(2, 6)
    released.fetch(NEED)
    counted = {day: tuple(numbers) for day, *numbers in released.fetch(STATISTICS)}
    assert counted['0001-01-01'] == (0, 0, -6)
    assert counted[TODAY.isoformat()] == (4, 3, 4)
    statistics = counter_at(engine, lambda: TODAY).statistics()
    assert (statistics.today, statistics.total, statistics.since) == (4, 6, TODAY - timedelta(40))
    assert found_differences(engine) == []
    engine.dispose()


def test_an_import_and_a_purge_of_the_released_code_are_counted(released_url: str, released: Released) -> None:
    names = [uuid4().bytes for _ in range(4)]
    released.visit(names[0], TODAY - timedelta(100))
    bring_up(released_url)
    engine = application_engine(released_url)
    new = counter_at(engine, lambda: TODAY)
    new.visit(names[1])
    for _ in range(2):
        released.fetch(ADD, {'day': TODAY, 'ids': [name.hex() for name in names[1:]], 'visits': [5, 6, 7]})
        assert found_differences(engine) == []
        new.fold()
    assert released.fetch(FORGET, {'horizon': TODAY - timedelta(30)}) == [(1,)]
    assert new.visit(names[1]) == Visit(12, 4)
    assert released.visit(names[2], TODAY) == Visit(13, 4)
    statistics = counter_at(engine, lambda: TODAY).statistics()
    assert (statistics.total, statistics.undated, statistics.today) == (4, 2, 2)
    assert found_differences(engine) == []
    assert value(released_url, 'SELECT count(*) FROM ONLY days') == 0
    engine.dispose()


def test_the_upgrade_loses_no_visit_of_the_released_code_that_runs_meanwhile(released_url: str) -> None:
    stop, clients = threading.Event(), 6
    started = threading.Barrier(clients + 1)

    def come(number: int) -> list[Visit]:
        with closing(Released(released_url)) as connection:
            answers = [connection.visit(uuid4().bytes, TODAY)]
            started.wait(30)
            while not stop.is_set():
                answers.append(connection.visit(uuid4().bytes, TODAY))
            return answers

    with ThreadPoolExecutor(clients) as pool:
        jobs = [pool.submit(come, number) for number in range(clients)]
        started.wait(30)
        try:
            bring_up(released_url)
        finally:
            stop.set()
        answers = [job.result(60) for job in jobs]
    number = sum(map(len, answers))
    for each in answers:
        totals = [visit.total for visit in each]
        assert totals == sorted(set(totals)), 'each visit is a new visitor and sees the one before'
        assert totals[-1] <= number
    engine = application_engine(released_url)
    assert counter_at(engine, lambda: TODAY).visit(uuid4().bytes) == Visit(1, number + 1)
    assert found_differences(engine) == []
    engine.dispose()


def test_the_upgrade_takes_no_longer_for_many_visitors(released_url: str) -> None:
    with closing(Released(released_url)) as connection:
        connection.fetch('ALTER TABLE visitors DISABLE TRIGGER USER')
        connection.fetch("INSERT INTO visitors SELECT gen_random_uuid(), 1, '2026-02-01' "
                         'FROM generate_series(1, 50000)')
        connection.fetch('ALTER TABLE visitors ENABLE TRIGGER USER')
        connection.fetch('INSERT INTO days SELECT day, shard, 25000 * seen, 25000 * seen, 25000 * latest FROM '
                         "(VALUES (date '0001-01-01', 0, -1), ('2026-02-01', 1, 1)) AS bucket (day, seen, latest), "
                         'generate_series(0, 1) AS shard')
        bring_up(released_url)
        written = connection.fetch("SELECT n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname = 'visitors'")
        assert written == [(0,)], 'the upgrade rewrites no visitor'
    engine = application_engine(released_url)
    assert counter_at(engine, lambda: TODAY).visit(uuid4().bytes) == Visit(1, 50_001)
    assert found_differences(engine) == []
    engine.dispose()


def test_a_role_of_its_own_counts_on_both_releases(postgresql: PostgresServer, tmp_path: Path) -> None:
    owner = postgresql.create_database()
    role = f'counting_{uuid4().hex[:8]}'
    url = owner.replace('owner@', f'{role}@')
    settled = flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=owner)
    assert settled.returncode == 0, settled.stderr
    engine = application_engine(url)
    counter = counter_at(engine, lambda: TODAY)
    with closing(Released(url)) as connection:
        assert connection.visit(uuid4().bytes, TODAY) == Visit(1, 1)
        assert counter.visit(uuid4().bytes) == Visit(1, 2)
        counter.fold()
        assert value(owner, 'SELECT count(*) FROM day_moves') == 0
        for statement in ('DELETE FROM day_versions', 'UPDATE day_moves SET latest = 7',
                          "INSERT INTO day_moves (day, shard) VALUES ('2026-03-01', 0)"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                connection.fetch(statement)
    assert found_differences(commands_engine(engine)) == []
    engine.dispose()
