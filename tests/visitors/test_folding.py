"""Moves are appended and folded: nothing that a visit reads is changed in place, and every total stays exact."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import date, timedelta
import logging
import os
import re
import subprocess
import time
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from app import create_app
from tests.support.database import application_engine
from tests.support.postgresql import execute, PostgresServer, value
from tests.support.server import bring_up, BROWSER, environment, flask
from tests.visitors.test_counting import (
    add_past, commands_engine, counter_at, empty, forget, found_differences, TODAY,
)
from visitors.counting import FOLD_AFTER, Server
from visitors.engines import BY_INDEX
from visitors.invariants import differences
from visitors.settings import Settings
from visitors.sharing import Visit

YESTERDAY = TODAY - timedelta(1)
MANY = 30


@pytest.fixture(scope='module')
def engine(postgresql: PostgresServer) -> Iterator[Engine]:
    """Give the application's own engine on a server with the newest schema."""
    made = application_engine(bring_up(postgresql.create_database()))
    yield made
    made.dispose()


@pytest.fixture(autouse=True)
def nothing_counted(engine: Engine) -> None:
    empty(engine)


@contextmanager
def transaction(engine: Engine, isolation: str = 'READ COMMITTED') -> Iterator[Any]:
    """Give the cursor of a transaction of another session, which is rolled back unless it is committed."""
    url = engine.url.set(drivername='postgresql').render_as_string(hide_password=False)
    with closing(psycopg2.connect(url)) as connection:
        connection.set_session(isolation_level=isolation)
        yield connection.cursor()


def moves(engine: Engine) -> int:
    with commands_engine(engine).connect() as connection:
        return int(connection.execute(text('SELECT count(*) FROM day_moves')).scalar_one())


def test_a_fold_leaves_no_move_and_changes_no_number(engine: Engine) -> None:
    for age in (40, 8, 1, 0):
        for _ in range(3):
            counter_at(engine, lambda: TODAY - timedelta(age)).visit(uuid4().bytes)
    add_past(engine, {uuid4().bytes: 7})
    forget(engine, TODAY - timedelta(30), 2)
    before = counter_at(engine, lambda: TODAY).statistics()
    counter = counter_at(engine, lambda: TODAY)
    for _ in range(3):
        counter.fold()
        assert moves(engine) == 0
        assert found_differences(engine) == []
    assert counter.statistics() == before
    assert counter.visit(uuid4().bytes) == Visit(1, before.total + 1)


def test_a_day_has_one_version_however_often_it_is_folded(engine: Engine) -> None:
    counter = counter_at(engine, lambda: TODAY)
    for _ in range(4):
        counter.visit(uuid4().bytes)
        counter.fold()
    with commands_engine(engine).connect() as connection:
        versions = connection.execute(text('SELECT day, visitors, newcomers, latest FROM day_versions ORDER BY day'))
        assert versions.all() == [(date(1, 1, 1), 0, 0, -4), (TODAY, 4, 4, 4)]


def test_a_fold_waits_for_moves_that_are_not_committed_and_loses_none(engine: Engine) -> None:
    counter = counter_at(engine, lambda: TODAY)
    with transaction(engine) as open_visit:
        open_visit.execute('INSERT INTO visitors (id, last_day) VALUES (%s, %s)', (uuid4().hex, TODAY))
        assert counter.visit(uuid4().bytes) == Visit(1, 1)
        counter.fold()
        assert moves(engine) == 2, 'the open transaction has drawn smaller numbers'
        assert counter.visit(uuid4().bytes) == Visit(1, 2)
        open_visit.connection.commit()
        assert counter.visit(uuid4().bytes) == Visit(1, 4)
    counter_at(engine, lambda: TODAY).fold()
    assert moves(engine) == 0
    assert found_differences(engine) == []


def test_a_transaction_that_counts_nothing_holds_up_no_fold(engine: Engine) -> None:
    counter = counter_at(engine, lambda: TODAY)
    counter.visit(uuid4().bytes)
    with transaction(engine, 'REPEATABLE READ') as snapshot, transaction(engine) as writing:
        snapshot.execute('SELECT sum(latest) FROM days')
        writing.execute("INSERT INTO visitor (ip, visits) VALUES ('192.0.2.1', 1)")
        counter.fold()
        assert moves(engine) == 0
        snapshot.execute("SELECT -sum(latest) FROM days WHERE day = '0001-01-01'")
        assert snapshot.fetchall() == [(1,)], 'a snapshot goes on seeing its own moment'


def test_of_two_folds_at_once_one_does_nothing(engine: Engine) -> None:
    counter = counter_at(engine, lambda: TODAY)
    counter.visit(uuid4().bytes)
    with transaction(engine) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('visitors/fold', 0))")
        counter.fold()
        assert moves(engine) == 2
    time.sleep(0.15)
    counter.fold()
    assert moves(engine) == 0


def test_a_fold_refuses_a_transaction_that_does_not_see_the_newest_moves(engine: Engine) -> None:
    counter_at(engine, lambda: TODAY).visit(uuid4().bytes)
    with commands_engine(engine).connect().execution_options(isolation_level='REPEATABLE READ') as connection:
        with pytest.raises(DBAPIError, match='needs the isolation level read committed'):
            connection.execute(text('SELECT fold_moves()'))
    assert moves(engine) == 2


def test_visits_fold_when_there_are_many_moves(engine: Engine) -> None:
    counter = counter_at(engine, lambda: TODAY)
    for _ in range(FOLD_AFTER):
        counter.visit(uuid4().bytes)
        counter.fold_if_needed()
    assert moves(engine) <= FOLD_AFTER
    assert counter.visit(uuid4().bytes) == Visit(1, FOLD_AFTER + 1)
    assert found_differences(engine) == []


@contextmanager
def fold_replaced(engine: Engine, body: str | None = None) -> Iterator[None]:
    """Replace the function that folds by one with another body, or by none."""
    with commands_engine(engine).begin() as connection:
        connection.execute(text('ALTER FUNCTION fold_moves() RENAME TO hidden'))
        if body:
            connection.execute(text(f'CREATE FUNCTION fold_moves() RETURNS bigint LANGUAGE sql AS $${body}$$'))
    try:
        yield
    finally:
        with commands_engine(engine).begin() as connection:
            connection.execute(text('DROP FUNCTION IF EXISTS fold_moves()'))
            connection.execute(text('ALTER FUNCTION hidden() RENAME TO fold_moves'))


def test_a_fold_that_fails_is_logged_once_and_costs_no_visit(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    counter = counter_at(engine, lambda: TODAY)
    with fold_replaced(engine), caplog.at_level(logging.WARNING):
        for number in range(FOLD_AFTER):
            assert counter.visit(uuid4().bytes) == Visit(1, number + 1)
            counter.fold_if_needed()
    (record,) = caplog.records
    assert 'could not be folded: UndefinedFunction 42883' in record.message
    assert found_differences(engine) == []


def test_a_page_whose_fold_takes_too_long_is_answered_and_its_visit_counted(
        engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    # Less than the server's limit of a statement, so a fold within the time of its visit would use up all of it.
    monkeypatch.setattr('visitors.deadline.REQUEST_SECONDS', 1.4)
    execute(url_of(engine), "INSERT INTO days (day, shard) SELECT '2026-02-01', 0 FROM generate_series(0, %s)",
            [FOLD_AFTER])
    application = create_app(Settings.from_environ(environment(url_of(engine))))
    with fold_replaced(engine, 'SELECT 1 FROM pg_sleep(60)'), caplog.at_level(logging.WARNING):
        answer = application.test_client().get('/', headers={'User-Agent': BROWSER})
    assert answer.status_code == 200, caplog.messages
    (record,) = caplog.records
    assert 'could not be folded: NoAnswer' in record.message
    assert counter_at(engine, lambda: TODAY).statistics().total == 1


def test_while_a_snapshot_is_open_a_visit_meets_no_row_that_a_fold_has_replaced(engine: Engine) -> None:
    counter = counter_at(engine, lambda: TODAY)
    with transaction(engine, 'REPEATABLE READ') as snapshot:
        snapshot.execute('SELECT sum(latest) FROM days')
        for _ in range(MANY):
            counter.visit(uuid4().bytes)
            counter.fold()
        counter.visit(uuid4().bytes)
        assert moves(engine) == 2
        # Three look-ups of the newest version, and the moves since the last fold.
        assert entries_read(engine) == {'day_versions_pkey': 3, 'day_moves_pkey': 2}


def entries_read(engine: Engine) -> dict[str, int]:
    """Return how many entries of each index the statement of a visit reads for the total."""
    statement = re.search(r'\(\n    SELECT ARRAY.*\n\)', Server('CURRENT_DATE').prepare, re.DOTALL)
    assert statement
    with transaction(engine) as reading:
        reading.execute(f"SET LOCAL enable_seqscan = '{BY_INDEX['enable_seqscan']}'")
        reading.execute(f'SELECT {statement[0]}')
        reading.execute('SELECT relname, pg_stat_get_xact_tuples_returned(oid) FROM pg_class '
                        "WHERE relname IN ('day_versions_pkey', 'day_moves_pkey')")
        return dict(reading.fetchall())


def test_the_connections_of_visits_take_an_index_however_small_a_table_is(engine: Engine) -> None:
    with engine.connect() as connection:
        plan = connection.exec_driver_sql('EXPLAIN SELECT * FROM day_moves WHERE number > 0').scalars().all()
        # The plan of a table without an index looks dear enough to be compiled, which takes longer than a visit may.
        unindexed = connection.exec_driver_sql('EXPLAIN (ANALYZE) SELECT count(*) FROM calendar').scalars().all()
    assert not [line for line in plan if 'Seq Scan' in line], plan
    assert not [line for line in unindexed if 'JIT' in line], unindexed


def url_of(engine: Engine) -> str:
    return engine.url.set(drivername='postgresql').render_as_string(hide_password=False)


def test_a_statement_of_many_rows_is_two_moves(engine: Engine) -> None:
    execute(url_of(engine), "INSERT INTO visitors SELECT gen_random_uuid(), 1, '2026-02-01' FROM "
                            'generate_series(1, 5000)')
    assert moves(engine) == 2
    assert counter_at(engine, lambda: TODAY).visit(uuid4().bytes) == Visit(1, 5001)
    assert found_differences(engine) == []


def test_visitors_who_are_back_in_one_statement_move_one_by_one(engine: Engine) -> None:
    for _ in range(3):
        counter_at(engine, lambda: YESTERDAY).visit(uuid4().bytes)
    execute(url_of(engine), 'UPDATE visitors SET last_day = %s', [TODAY])
    statistics = counter_at(engine, lambda: TODAY).statistics()
    assert (statistics.today, statistics.week, statistics.total, statistics.days[-1].newcomers) == (3, 3, 3, 0)
    assert found_differences(engine) == []


def test_counts_that_no_statistics_would_read_are_found(engine: Engine) -> None:
    counter = counter_at(engine, lambda: TODAY)
    counter.visit(uuid4().bytes)
    counter.fold()
    url = url_of(engine)
    newest = int(str(value(url, 'SELECT max(version) FROM day_versions')))
    execute(url, 'INSERT INTO day_versions (day, shard, version) VALUES (%s, 0, %s)', [TODAY, newest - 1])
    execute(url, 'INSERT INTO day_moves (day, shard, number) OVERRIDING SYSTEM VALUE VALUES (%s, 0, %s)',
            [TODAY, newest])
    done = flask(url, 'check-counts')
    assert done.returncode == 1
    assert done.stdout.splitlines() == [f'{TODAY}: 2 versions instead of 1',
                                        '1 moves have numbers that are folded already']


def test_a_dump_that_is_restored_goes_on_where_it_was(engine: Engine, postgresql: PostgresServer) -> None:
    counter = counter_at(engine, lambda: TODAY)
    for _ in range(3):
        counter.visit(uuid4().bytes)
    counter.fold()
    counter.visit(b'v' * 16)
    copy = postgresql.create_database()
    programs = postgresql.binaries
    dump = subprocess.run([str(programs / 'pg_dump'), url_of(engine)], capture_output=True, check=True)
    subprocess.run([str(programs / 'psql'), '--quiet', '--set', 'ON_ERROR_STOP=1', copy], input=dump.stdout,
                   stdout=subprocess.DEVNULL, env={**os.environ, 'PGOPTIONS': ''}, check=True)
    restored = application_engine(copy)
    later = counter_at(restored, lambda: TODAY)
    assert later.visit(b'v' * 16) == Visit(2, 4)
    assert later.visit(b'w' * 16) == Visit(1, 5)
    later.fold()
    assert later.visit(b'x' * 16) == Visit(1, 6)
    assert found_differences(restored) == []
    restored.dispose()


def test_visits_imports_purges_and_folds_at_once_agree_at_each_moment(engine: Engine) -> None:
    until = time.monotonic() + 3
    wrong: list[list[str]] = []

    def visit(age: int) -> None:
        counter = counter_at(engine, lambda: TODAY - timedelta(age))
        while time.monotonic() < until:
            for _ in range(20):
                assert counter.visit(uuid4().bytes).total > 0
            counter.fold()

    def write() -> None:
        while time.monotonic() < until:
            add_past(engine, {uuid4().bytes: 2}, TODAY - timedelta(31))
            forget(engine, TODAY - timedelta(30), 200)

    def check() -> None:
        while time.monotonic() < until:
            with commands_engine(engine).connect() as connection:
                wrong.append(differences(connection.execution_options(isolation_level='REPEATABLE READ')))

    with ThreadPoolExecutor(6) as pool:
        jobs = [*(pool.submit(visit, age) for age in (0, 1, 40, 0)), pool.submit(write), pool.submit(check)]
        for job in jobs:
            job.result(60)
    assert wrong
    assert not [each for each in wrong if each]
