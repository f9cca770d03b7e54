"""The counting model against a plain one that remembers everything, on both databases."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
import random
import re
import threading
import time
from typing import NamedTuple
from uuid import uuid4

from hypothesis import given, HealthCheck, settings, strategies as st
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from tests.support.database import application_engine
from tests.support.postgresql import execute, PostgresServer, rows
from tests.support.server import bring_up, environment
from tests.support.waiting import eventually
from visitors.counting import Counter
from visitors.engines import command_engine
from visitors.invariants import differences
from visitors.original import add_visits
from visitors.retention import forget_batch, may_purge
from visitors.settings import Settings
from visitors.sharing import Visit
from visitors.statistics import Day, history_of, Moment, Statistics, statistics_of, Week

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

    def counted_days(self) -> list[Day]:
        return [Day(day, *self.of_day(day)) for day in sorted(set().union(*self.days.values()))]

    def of_week(self, monday: date) -> tuple[int, int]:
        days = [self.of_day(monday + timedelta(number)) for number in range(7)]
        return sum(visitors for visitors, _ in days), sum(newcomers for _, newcomers in days)


# SQLite first: it needs no server, so faults of both databases are found without one.
@pytest.fixture(scope='module', params=['sqlite', 'postgresql'])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Give the application's own engine on a database with the newest schema."""
    if request.param == 'postgresql':
        url = request.getfixturevalue('postgresql').create_database()
    else:
        url = f'sqlite:///{tmp_path_factory.mktemp("counting") / "visitors.sqlite3"}'
    made = application_engine(bring_up(url))
    yield made
    made.dispose()


@pytest.fixture(scope='module')
def server_engine(postgresql: PostgresServer) -> Iterator[Engine]:
    """Give the application's own engine on a server, where several write at once; a file has one lock for all."""
    made = application_engine(bring_up(postgresql.create_database()))
    yield made
    made.dispose()


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
OFFSETS = st.one_of(st.integers(-45, 0), st.integers(-390, 0))
STEPS = st.lists(st.tuples(st.integers(0, 5), OFFSETS, st.booleans()), min_size=1, max_size=60)


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
    for week in statistics.weeks:
        assert (week.visitor_days, week.newcomers) == reference.of_week(week.monday), week.monday
    counted = reference.counted_days()
    assert statistics.since == counted[0].day
    assert statistics.best_day == max(counted, key=lambda day: day.visitors)
    assert found_differences(engine) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ages=st.lists(st.integers(0, 90), min_size=1, max_size=40), kept=st.integers(30, 80), size=st.integers(1, 7))
def test_purging_changes_no_statistics_and_keeps_the_invariants(
        engine: Engine, ages: list[int], kept: int, size: int) -> None:
    empty(engine)
    for age in sorted(ages, reverse=True):
        counter_at(engine, lambda: TODAY - timedelta(age)).visit(uuid4().bytes)
    before = counter_at(engine, lambda: TODAY).statistics()

    forgotten = forget(engine, TODAY - timedelta(kept), size)

    assert sum(forgotten) == sum(age > kept for age in ages)
    assert counter_at(engine, lambda: TODAY).statistics() == before
    assert found_differences(engine) == []


def test_nobody_has_come_on_the_days_that_stand_for_newcomers_and_for_the_forgotten(engine: Engine) -> None:
    empty(engine)
    for age in (0, 60, 61):
        counter_at(engine, lambda: TODAY - timedelta(age)).visit(uuid4().bytes)
    assert sum(forget(engine, TODAY - timedelta(30), 10)) == 2

    query = "SELECT sum(visitors), sum(newcomers), sum(latest) FROM days WHERE day = '{}'"
    with commands_engine(engine).begin() as connection:
        assert connection.execute(text(query.format('0001-01-01'))).one() == (0, 0, -3)
        assert connection.execute(text(query.format('0001-01-02'))).one() == (0, 0, 2)


def forget(engine: Engine, horizon: date, size: int) -> list[int]:
    """Forget who has not come since a day, and return how many each batch has forgotten."""
    forgotten: list[int] = []
    after = None
    with commands_engine(engine).connect() as connection:
        while not forgotten or after is not None:
            assert len(forgotten) < 100, 'the batches do not come to an end'
            with connection.begin():
                number, after = forget_batch(connection, after, horizon, TODAY, size)
            forgotten.append(number)
    return forgotten


def test_while_one_purges_another_may_not_and_visitors_are_counted(engine: Engine) -> None:
    empty(engine)
    commands = commands_engine(engine)
    with commands.connect() as first:
        with first.begin():
            assert may_purge(first)
            if engine.dialect.name == 'postgresql':
                with commands.begin() as second:
                    assert not may_purge(second)
                assert counter_at(engine, lambda: TODAY).visit(b'v' * 16) == Visit(1, 1)
        with commands.begin() as second:
            assert may_purge(second)


def test_a_batch_looks_at_as_many_visitors_as_it_is_told(engine: Engine) -> None:
    empty(engine)
    for _ in range(7):
        counter_at(engine, lambda: TODAY - timedelta(100)).visit(uuid4().bytes)
    assert forget(engine, TODAY, 3) == [3, 3, 1]


def test_who_came_on_the_day_of_the_horizon_is_kept(engine: Engine) -> None:
    empty(engine)
    for age in (31, 30, 29):
        counter_at(engine, lambda: TODAY - timedelta(age)).visit(uuid4().bytes)
    assert forget(engine, TODAY - timedelta(30), 10) == [1]


def test_a_forgotten_visitor_is_a_new_one(engine: Engine) -> None:
    empty(engine)
    counter_at(engine, lambda: TODAY - timedelta(100)).visit(b'v' * 16)
    with commands_engine(engine).begin() as connection:
        assert forget_batch(connection, None, TODAY - timedelta(30), TODAY, 10) == (1, None)
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


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(VISITORS, min_size=3, max_size=3, unique=True), counted=st.lists(st.integers(0, 2), max_size=8),
       past=st.lists(st.dictionaries(st.integers(0, 2), st.integers(1, 1000)), max_size=3))
def test_visits_of_the_past_add_to_the_visitors_own_number_and_to_no_window(
        engine: Engine, names: list[bytes], counted: list[int], past: list[dict[int, int]]) -> None:
    empty(engine)
    counter = counter_at(engine, lambda: TODAY)
    for who in counted:
        counter.visit(names[who])
    for visits in past:
        add_past(engine, {names[who]: number for who, number in visits.items()})

    known = set(counted).union(*past)
    statistics = counter.statistics()
    assert (statistics.today, statistics.month) == (len(set(counted)), len(set(counted)))
    assert statistics.total == len(known)
    assert found_differences(engine) == []
    for who in known:
        before = counted.count(who) + sum(visits.get(who, 0) for visits in past)
        assert counter.visit(names[who]) == Visit(before + 1, len(known))
    assert counter_at(engine, lambda: TODAY).statistics().today == len(known)


def add_past(engine: Engine, visits: dict[bytes, int], day: date = TODAY) -> None:
    with commands_engine(engine).begin() as connection:
        add_visits(connection, visits, day)


def test_an_imported_visitor_is_forgotten_as_long_after_the_import_as_another_after_the_last_visit(
        engine: Engine) -> None:
    empty(engine)
    names = [uuid4().bytes for _ in range(3)]
    counter_at(engine, lambda: TODAY - timedelta(100)).visit(names[2])
    add_past(engine, {names[0]: 2, names[2]: 4}, TODAY - timedelta(31))
    add_past(engine, {names[1]: 1}, TODAY - timedelta(30))
    assert sum(forget(engine, TODAY - timedelta(31), 2)) == 0
    assert sum(forget(engine, TODAY - timedelta(30), 2)) == 2
    assert counter_at(engine, lambda: TODAY).visit(names[1]) == Visit(2, 3)
    assert found_differences(engine) == []


def test_two_who_add_visits_of_the_same_visitors_at_once_do_not_wait_for_each_other_crosswise(engine: Engine) -> None:
    empty(engine)
    names = [uuid4().bytes for _ in range(400)]
    orders = [dict.fromkeys(names, 1), dict.fromkeys(reversed(names), 1)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda order: add_past(engine, order), orders))
    assert counter_at(engine, lambda: TODAY).visit(names[0]) == Visit(3, 400)
    assert found_differences(engine) == []


def test_neither_an_import_nor_a_purge_holds_a_count_that_a_visit_needs(server_engine: Engine) -> None:
    empty(server_engine)
    known, gone = uuid4().bytes, uuid4().bytes
    counter_at(server_engine, lambda: TODAY).visit(known)
    counter_at(server_engine, lambda: TODAY - timedelta(100)).visit(gone)
    commands = commands_engine(server_engine)
    counter_at(server_engine, lambda: TODAY).fold()
    with commands.begin() as connection:
        all_counts = connection.scalar(text('SELECT count(*) FROM days'))
    assert all_counts == 3
    with commands.connect() as importing, importing.begin(), commands.connect() as purging, purging.begin():
        add_visits(importing, {uuid4().bytes: 3, known: 2, uuid4().bytes: 1}, TODAY)
        assert forget_batch(purging, None, TODAY - timedelta(30), TODAY, 10) == (1, None)
        with commands.begin() as visiting:
            free = 'SELECT count(*) FROM (SELECT FROM days FOR UPDATE SKIP LOCKED) AS free'
            assert visiting.scalar(text(free)) == all_counts
        # A visitor who is neither imported nor forgotten at this moment does not wait.
        assert counter_at(server_engine, lambda: TODAY).visit(uuid4().bytes).visits == 1
    assert found_differences(server_engine) == []


def test_a_purge_leaves_whom_it_would_have_to_wait_for(server_engine: Engine) -> None:
    empty(server_engine)
    visiting_now, gone = uuid4().bytes, uuid4().bytes
    for name in (visiting_now, gone):
        counter_at(server_engine, lambda: TODAY - timedelta(100)).visit(name)
    with commands_engine(server_engine).begin() as visit:
        visit.execute(text('UPDATE visitors SET visits = 2 WHERE id = :id'), {'id': visiting_now.hex()})
        assert forget(server_engine, TODAY - timedelta(30), 10) == [1]
    assert counter_at(server_engine, lambda: TODAY).visit(visiting_now).visits == 3


def test_visits_imports_and_purges_at_once_never_deadlock(server_engine: Engine, postgresql: PostgresServer) -> None:
    empty(server_engine)
    names = [uuid4().bytes for _ in range(300)]
    logged, until = len(postgresql.log), time.monotonic() + 3
    counter = counter_at(server_engine, lambda: TODAY - timedelta(random.choice((0, 40))))

    def visit(number: int) -> int:
        chance, come = random.Random(number), 0
        while time.monotonic() < until:
            counter.visit(chance.choice(names))
            come += 1
        return come

    def write(number: int) -> int:
        chance, batches = random.Random(number), 0
        while time.monotonic() < until:
            if number % 2:
                add_past(server_engine, dict.fromkeys(chance.sample(names, 200), 1), TODAY - timedelta(31))
            else:
                forget(server_engine, TODAY - timedelta(30), 100)
            batches += 1
        return batches

    with ThreadPoolExecutor(12) as pool:
        visits, writes = [pool.submit(visit, number) for number in range(10)], [pool.submit(write, n) for n in (1, 2)]
        assert min(each.result(30) for each in [*visits, *writes]) > 0
    assert 'deadlock' not in postgresql.log[logged:]
    assert found_differences(server_engine) == []


@pytest.mark.parametrize('ahead', [1, 6, 1827])
def test_windows_end_today_whatever_a_wrong_clock_has_written(engine: Engine, ahead: int) -> None:
    empty(engine)
    counter_at(engine, lambda: TODAY - timedelta(40)).visit(b'u' * 16)
    counter_at(engine, lambda: TODAY + timedelta(ahead)).visit(b'v' * 16)
    statistics = counter_at(engine, lambda: TODAY).statistics()
    assert (statistics.today, statistics.week, statistics.month, statistics.total) == (0, 0, 0, 2)
    assert (statistics.since, statistics.best_day) == (TODAY - timedelta(40), Day(TODAY - timedelta(40), 1, 1))
    assert sum(week.visitor_days for week in statistics.weeks) == 1


def test_many_visitors_at_once_new_and_back_are_all_counted(engine: Engine) -> None:
    empty(engine)
    names = [uuid4().bytes for _ in range(60)]
    for name in names[:30]:
        counter_at(engine, lambda: TODAY - timedelta(1)).visit(name)
    coming = names * 4
    random.Random(5).shuffle(coming)
    counter = counter_at(engine, lambda: TODAY)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(counter.visit, coming))

    assert sorted(answer.visits for answer in answers) == sorted([1, 2, 3, 4] * 30 + [2, 3, 4, 5] * 30)
    assert all(30 <= answer.total <= 60 for answer in answers)
    statistics = counter.statistics()
    assert (statistics.today, statistics.week, statistics.total) == (60, 60, 60)
    assert (statistics.days[-1].newcomers, statistics.days[-2].newcomers) == (30, 30)
    assert found_differences(engine) == []


def test_one_address_at_once_from_many_threads_loses_no_visit(engine: Engine) -> None:
    empty(engine)
    counter = Counter(engine)
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
    empty(engine)
    seconds = [100.0]
    counter = Counter(engine, lambda: TODAY, lambda: seconds[0])
    assert counter.fresh_statistics() is None
    first = counter.statistics()
    counter.visit(uuid4().bytes)
    seconds[0] += 0.99
    assert counter.statistics() is first
    assert counter.fresh_statistics() is first
    seconds[0] += 0.01
    assert counter.fresh_statistics() is None
    assert (first.total, counter.statistics().total) == (0, 1)


class Gate:
    def __init__(self) -> None:
        """Be a clock that answers only while it is open; who loads statistics asks it first."""
        self.asked = 0
        self.reached = threading.Event()
        self.opened = threading.Event()

    def today(self) -> date:
        self.asked += 1
        self.reached.set()
        assert self.opened.wait(10)
        return TODAY


def test_who_comes_while_statistics_are_loaded_takes_the_known_ones_at_once(engine: Engine) -> None:
    seconds, gate = [100.0], Gate()
    counter = Counter(engine, gate.today, lambda: seconds[0])
    gate.opened.set()
    known = counter.statistics()
    seconds[0] += 1
    gate.opened.clear()
    gate.reached.clear()
    with ThreadPoolExecutor(2) as pool:
        loading = pool.submit(counter.statistics)
        assert gate.reached.wait(10)
        assert pool.submit(counter.statistics).result(5) is known
        gate.opened.set()
        assert loading.result(10) is not known


def test_who_comes_while_none_are_known_waits_for_them_and_loads_none(engine: Engine) -> None:
    gate = Gate()
    counter = Counter(engine, gate.today)
    with ThreadPoolExecutor(4) as pool:
        loading = [pool.submit(counter.statistics)]
        assert gate.reached.wait(10)
        loading += [pool.submit(counter.statistics) for _ in range(3)]
        assert not wait(loading, 0.2).done
        gate.opened.set()
        first, *others = [each.result(10) for each in loading]
    assert all(other is first for other in others)
    assert gate.asked == 1


def test_after_statistics_could_not_be_loaded_the_next_who_asks_loads_them(engine: Engine) -> None:
    with ThreadPoolExecutor(1) as pool:
        counter = Counter(engine, iter(['no day', TODAY]).__next__)  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            pool.submit(counter.statistics).result(10)
        # In another thread than the one that failed: a lock that it has kept would hold this one up for ever.
        assert counter.statistics().days[-1].day == TODAY


def test_failures_use_up_no_connection(database_url: str) -> None:
    # On a database of its own: SQLite rewrites `excluded` in the triggers of a table that is renamed.
    engine = application_engine(bring_up(database_url))
    counter = counter_at(engine, lambda: TODAY)
    counter.visit(b'v' * 16)
    needed = 'days' if engine.dialect.name == 'sqlite' else 'day_moves'
    with commands_engine(engine).begin() as connection:
        connection.execute(text(f'ALTER TABLE {needed} RENAME TO elsewhere'))
    for _ in range(20):
        with pytest.raises(Exception, match=needed):
            counter.visit(b'v' * 16)
    with commands_engine(engine).begin() as connection:
        connection.execute(text(f'ALTER TABLE elsewhere RENAME TO {needed}'))
    assert counter.visit(b'v' * 16) == Visit(2, 1)
    engine.dispose()


def test_a_visit_is_one_round_trip_to_the_server(postgresql: PostgresServer) -> None:
    url = bring_up(postgresql.create_database())
    execute(url, "ALTER DATABASE {} SET log_statement = 'all'".format(url.rpartition('/')[2]))
    engine = application_engine(url)
    counter = Counter(engine)
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
    eventually(lambda: read_through(url).written >= before.written + 20,
               'the server has written down what these sessions did')
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


def statistics_at(day: date, rows: list[tuple[str, int, int, int]]) -> Statistics:
    return statistics_of(Moment(day, datetime.now(timezone.utc)), rows, history_of(day, rows))


def test_days_without_visits_are_zeros_and_the_charts_end_today() -> None:
    statistics = statistics_at(TODAY, [])
    assert [day.day for day in statistics.days] == [TODAY - timedelta(back) for back in range(29, -1, -1)]
    assert (statistics.today, statistics.week, statistics.month, statistics.total) == (0, 0, 0, 0)
    # TODAY is a Sunday, the last day of its week.
    mondays = [TODAY - timedelta(6 + 7 * back) for back in range(52, -1, -1)]
    assert [week.monday for week in statistics.weeks] == mondays


def test_a_new_database_says_that_counting_has_not_begun() -> None:
    statistics = statistics_at(TODAY, [])
    assert (statistics.since, statistics.best_day, statistics.week_ago, statistics.undated) == (None, None, None, 0)


@pytest.mark.parametrize(('back', 'week_ago'), [(6, None), (7, Day(TODAY - timedelta(7), 1, 1)),
                                                (8, Day(TODAY - timedelta(7), 0, 0))])
def test_the_same_weekday_last_week_is_compared_only_if_counting_had_begun(back: int, week_ago: Day | None) -> None:
    statistics = statistics_at(TODAY, [((TODAY - timedelta(back)).isoformat(), 1, 1, 1)])
    assert statistics.week_ago == week_ago


@pytest.mark.parametrize('back', [0, 1, 29, 30, 400])
def test_the_best_day_may_be_any_day_and_is_the_first_of_equals(back: int) -> None:
    best, equal, less = (TODAY - timedelta(days) for days in (back + 50, back, back + 100))
    rows = [(equal.isoformat(), 3, 1, 0), (best.isoformat(), 3, 2, 0), (less.isoformat(), 2, 2, 0)]
    statistics = statistics_at(TODAY, rows)
    assert statistics.best_day == Day(best, 3, 2)
    assert statistics.since == less
    assert statistics_at(TODAY, rows[:1]).best_day == Day(equal, 3, 1)


def test_imported_visitors_are_in_the_total_and_in_no_day_week_or_record() -> None:
    rows = [('0001-01-01', 0, 0, -101), ('1970-01-01', 100, 100, 100), (TODAY.isoformat(), 1, 1, 1)]
    statistics = statistics_at(TODAY, rows)
    assert (statistics.total, statistics.undated, statistics.month) == (101, 100, 1)
    assert (statistics.since, statistics.best_day) == (TODAY, Day(TODAY, 1, 1))
    # A machine whose clock was never set begins at that day.
    never_set = statistics_at(date(1970, 1, 2), rows)
    assert (never_set.month, never_set.since, never_set.best_day) == (0, None, None)


def test_weeks_begin_on_mondays_and_the_oldest_is_a_year_ago() -> None:
    monday = date(2026, 2, 23)
    rows = [((monday - timedelta(days)).isoformat(), 2, 1, 0) for days in (52 * 7 + 1, 52 * 7, 1, 0, -6)]
    weeks = statistics_at(TODAY, rows).weeks
    assert len(weeks) == 53
    assert [week for week in weeks if week.visitor_days] == [
        Week(monday - timedelta(52 * 7), 2, 1), Week(monday - timedelta(7), 2, 1), Week(monday, 4, 2)]
    assert weeks[-1].returning == 2


def test_days_before_the_charts_are_read_once_a_minute_and_at_each_new_day(engine: Engine) -> None:
    empty(engine)
    seconds, clock = [100.0], [TODAY]
    counter = Counter(engine, lambda: clock[0], lambda: seconds[0])
    counter_at(engine, lambda: TODAY - timedelta(40)).visit(b'u' * 16)
    counter_at(engine, lambda: TODAY - timedelta(29)).visit(b'v' * 16)
    assert counter.statistics().since == TODAY - timedelta(40)
    counter_at(engine, lambda: TODAY - timedelta(50)).visit(b'w' * 16)
    seconds[0] += 59.9
    statistics = counter.statistics()
    assert (statistics.since, statistics.total, statistics.month) == (TODAY - timedelta(40), 3, 1)
    seconds[0] += 0.1
    assert counter.statistics() is statistics
    seconds[0] += 1
    assert counter.statistics().since == TODAY - timedelta(50)

    clock[0] += timedelta(1)
    seconds[0] += 1
    statistics = counter.statistics()
    assert (statistics.month, statistics.total, sum(week.visitor_days for week in statistics.weeks)) == (0, 3, 3)
