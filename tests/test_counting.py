"""The counting model against a plain one that remembers everything, on both databases."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
import re
import threading
import time
from typing import NamedTuple
from uuid import uuid4

from hypothesis import given, HealthCheck, settings, strategies as st
import pytest
from sqlalchemy import create_engine, Engine, text
from sqlalchemy.exc import IntegrityError

from tests.postgresql import execute, PostgresServer, rows
from tests.server import bring_up, environment
from visitors.counting import Counter, forget_batch, POSTGRESQL, statistics_of, today, Visit
from visitors.database import command_engine, engine_options, prepare_engine
from visitors.invariants import differences
from visitors.settings import Settings

TODAY = date(2026, 3, 1)  # its window reaches over the end of a short month
EMPTY = text('DELETE FROM days'), text('DELETE FROM visitors')


class Reference:
    def __init__(self) -> None:
        """Remember for each visitor the days it came on and how often."""
        self.days: dict[bytes, set[date]] = {}
        self.visits: dict[bytes, int] = {}
        self.first: dict[bytes, date] = {}
        self.last: dict[bytes, date] = {}

    def visit(self, visitor: bytes, day: date) -> Visit:
        self.visits[visitor] = self.visits.get(visitor, 0) + 1
        self.first.setdefault(visitor, day)
        # A visit that arrives late, after the visitor was already seen on a later day, counts as one on that day.
        day = max(day, self.last.get(visitor, day))
        self.last[visitor] = day
        self.days.setdefault(visitor, set()).add(day)
        return Visit(self.visits[visitor], len(self.visits))

    def unique(self, until: date, days: int) -> int:
        window = {until - timedelta(back) for back in range(days)}
        return sum(bool(came & window) for came in self.days.values())

    def of_day(self, day: date) -> tuple[int, int]:
        came = [visitor for visitor, days in self.days.items() if day in days]
        return len(came), sum(self.first[visitor] == day for visitor in came)


@pytest.fixture(scope='module', params=['postgresql', 'sqlite'])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Give the application's own engine on a database with the newest schema."""
    if request.param == 'postgresql':
        url = request.getfixturevalue('postgresql').create_database()
    else:
        url = f'sqlite:///{tmp_path_factory.mktemp("counting") / "visitors.sqlite3"}'
    made = application_engine(bring_up(url))
    yield made
    made.dispose()


def application_engine(url: str) -> Engine:
    parsed = Settings.from_environ(environment(url, THREADS='16'), Path('/'))
    made = create_engine(parsed.database_url, **engine_options(parsed))
    prepare_engine(made, parsed)
    return made


def commands_engine(engine: Engine) -> Engine:
    url = engine.url.render_as_string(hide_password=False)
    return command_engine(Settings.from_environ(environment(url), Path('/')))


def empty(engine: Engine) -> None:
    with commands_engine(engine).begin() as connection:
        for statement in EMPTY:
            connection.execute(statement)


def found_differences(engine: Engine) -> list[str]:
    with commands_engine(engine).begin() as connection:
        return differences(connection)


def counter_at(engine: Engine, day: Callable[[], date]) -> Counter:
    return Counter(engine, day)


VISITORS = st.binary(min_size=16, max_size=16)
# Few visitors and days from today backwards, so that they meet; some further back than any window.
STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(-45, 0), st.booleans()), min_size=1, max_size=60)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(VISITORS, min_size=6, max_size=6, unique=True), steps=STEPS)
def test_visits_and_statistics_are_those_of_a_model_that_remembers_everything(
        engine: Engine, names: list[bytes], steps: list[tuple[int, int, bool]]) -> None:
    empty(engine)
    reference, clock = Reference(), [TODAY]
    counter = counter_at(engine, lambda: clock[0])
    # Days pass in order, but for visits that arrive a day late.
    for who, offset, late in sorted(steps, key=lambda step: step[1]):
        clock[0] = TODAY + timedelta(offset - late)
        assert counter.visit(names[who]) == reference.visit(names[who], clock[0])
    clock[0] = TODAY

    statistics = counter.statistics()
    assert statistics.week == reference.unique(TODAY, 7)
    assert statistics.month == reference.unique(TODAY, 30)
    assert statistics.total == len(reference.visits)
    assert statistics.today == reference.unique(TODAY, 1)
    for day in statistics.days:
        assert (day.visitors, day.newcomers) == reference.of_day(day.day), day.day
    assert found_differences(engine) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ages=st.lists(st.integers(0, 90), min_size=1, max_size=40), kept=st.integers(30, 80), size=st.integers(1, 7))
def test_purging_changes_no_statistics_and_keeps_the_invariants(
        engine: Engine, ages: list[int], kept: int, size: int) -> None:
    empty(engine)
    for age in sorted(ages, reverse=True):
        counter_at(engine, lambda: TODAY - timedelta(age)).visit(uuid4().bytes)
    before = counter_at(engine, lambda: TODAY).statistics()

    horizon, after, forgotten = TODAY - timedelta(kept), None, 0
    with commands_engine(engine).connect() as connection:
        while True:
            with connection.begin():
                number, after = forget_batch(connection, after, horizon, size)
            forgotten += number
            if after is None:
                break

    assert forgotten == sum(age > kept for age in ages)
    assert counter_at(engine, lambda: TODAY).statistics() == before
    assert found_differences(engine) == []


def test_a_forgotten_visitor_is_a_new_one(engine: Engine) -> None:
    empty(engine)
    counter_at(engine, lambda: TODAY - timedelta(100)).visit(b'v' * 16)
    with commands_engine(engine).begin() as connection:
        assert forget_batch(connection, None, TODAY - timedelta(30), 10) == (1, None)
    assert counter_at(engine, lambda: TODAY).visit(b'v' * 16) == Visit(1, 2)
    assert found_differences(engine) == []


def test_a_visit_that_comes_late_over_midnight_moves_nobody_back(engine: Engine) -> None:
    empty(engine)
    yesterday = counter_at(engine, lambda: TODAY - timedelta(1))
    now = counter_at(engine, lambda: TODAY)
    now.visit(b'v' * 16)
    assert yesterday.visit(b'v' * 16) == Visit(2, 1)
    statistics = now.statistics()
    assert (statistics.today, statistics.days[-2].visitors) == (1, 0)
    assert found_differences(engine) == []


@pytest.mark.parametrize(('back', 'today_', 'week', 'month'), [
    (0, 1, 1, 1), (1, 0, 1, 1), (6, 0, 1, 1), (7, 0, 0, 1), (29, 0, 0, 1), (30, 0, 0, 0),
])
def test_windows_end_where_their_names_say(engine: Engine, back: int, today_: int, week: int, month: int) -> None:
    empty(engine)
    counter_at(engine, lambda: TODAY - timedelta(back)).visit(b'v' * 16)
    statistics = counter_at(engine, lambda: TODAY).statistics()
    assert (statistics.today, statistics.week, statistics.month, statistics.total) == (today_, week, month, 1)


def test_one_address_at_once_from_many_threads_loses_no_visit(engine: Engine) -> None:
    empty(engine)
    counter = counter_at(engine, today)
    answers: list[int] = []

    def come_often() -> None:
        answers.extend(counter.visit(b'v' * 16).visits for _ in range(25))

    threads = [threading.Thread(target=come_often) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(1, 401))
    assert found_differences(engine) == []


def test_statistics_are_loaded_once_for_all_who_ask_within_a_second(engine: Engine) -> None:
    counter = counter_at(engine, today)
    assert counter.fresh_statistics() is None
    first = counter.statistics()
    counter.visit(uuid4().bytes)
    assert counter.statistics() is first
    assert counter.fresh_statistics() is first


def test_a_visit_is_one_round_trip_to_the_server(postgresql: PostgresServer) -> None:
    url = bring_up(postgresql.create_database())
    execute(url, "ALTER DATABASE {} SET log_statement = 'all'".format(url.rpartition('/')[2]))
    engine = application_engine(url)
    counter = counter_at(engine, today)
    counter.visit(b'v' * 16)
    logged = len(postgresql.log)
    counter.visit(b'w' * 16)
    statements = re.findall('LOG:  statement: (.*)', postgresql.log[logged:])
    assert len(statements) == 1
    assert statements[0].startswith('EXECUTE visit')
    engine.dispose()


def test_neither_a_view_nor_the_statistics_read_through_the_visitors(postgresql: PostgresServer) -> None:
    url = bring_up(postgresql.create_database())
    execute(url, "INSERT INTO visitors SELECT gen_random_uuid(), 1, '2026-02-01' FROM generate_series(1, 20000)")
    execute(url, 'ANALYZE')
    before = read_through(url)
    engine = application_engine(url)
    for visitor in range(20):
        counter = counter_at(engine, lambda: TODAY)
        counter.visit(visitor.to_bytes(16, 'big'))
        assert counter.statistics().total == 20_001 + visitor
    engine.dispose()
    deadline = time.monotonic() + 20
    while read_through(url).written < before.written + 20:
        assert time.monotonic() < deadline, 'the server has not yet written down what these sessions did'
        time.sleep(0.1)
    assert read_through(url).scans == before.scans


class Scans(NamedTuple):
    """How often a table was read from its beginning to its end, and how many rows were written to it."""

    scans: int
    written: int


def read_through(url: str) -> Scans:
    query = "SELECT seq_scan, n_tup_ins + n_tup_upd FROM pg_stat_user_tables WHERE relname = 'visitors'"
    ((scans, written),) = rows(url, query)
    return Scans(int(str(scans)), int(str(written)))


def test_visits_go_on_where_32_bits_end(engine: Engine) -> None:
    empty(engine)
    counter = counter_at(engine, lambda: TODAY)
    counter.visit(b'v' * 16)
    with commands_engine(engine).begin() as connection:
        connection.execute(text('UPDATE visitors SET visits = 2147483647'))
    assert counter.visit(b'v' * 16) == Visit(2 ** 31, 1)
    with commands_engine(engine).begin() as connection:
        for column in ('id', 'visits', 'last_day'):
            with pytest.raises(IntegrityError), connection.begin_nested():
                connection.execute(text(f'UPDATE visitors SET {column} = NULL'))


def test_days_without_visits_are_zeros_and_the_chart_ends_today() -> None:
    statistics = statistics_of(TODAY, [])
    assert [day.day for day in statistics.days] == [TODAY - timedelta(back) for back in range(29, -1, -1)]
    assert (statistics.today, statistics.week, statistics.month, statistics.total) == (0, 0, 0, 0)


def test_the_prepared_statement_has_no_parameter_of_the_client() -> None:
    assert POSTGRESQL.prepare and '%' not in POSTGRESQL.prepare
