"""Visits that wait at the same time share a statement, and one visitor's trouble stays that visitor's."""

from collections import Counter as Counts
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
import threading
import time

import psycopg2
from psycopg2.errors import LockNotAvailable
import pytest

from visitors.breaker import Breaker
from visitors.database_errors import DatabaseUnavailable, NoTurn, Scope
from visitors.deadline import bounded
from visitors.sharing import SharedVisits, Visit

TODAY, YESTERDAY = date(2026, 3, 1), date(2026, 2, 28)
SOON = 20


class Statements:
    """A database that remembers the groups of its statements; each statement but the first one of all goes on at once.

    A statement with a visitor of `failing` raises that error, and one with a visitor of `stuck` waits for an event.
    """

    def __init__(self) -> None:
        """Begin with a closed gate before the first statement."""
        self.groups: list[tuple[bytes, ...]] = []
        self.days: list[date | None] = []
        self.failing: dict[bytes, Exception] = {}
        self.stuck: dict[bytes, threading.Event] = {}
        self.first_runs = threading.Event()
        self.gate = threading.Event()
        self._visits: Counts[bytes] = Counts()
        self._lock = threading.Lock()

    def count(self, visitors: Sequence[bytes], day: date | None) -> list[Visit]:
        """Count visits as a database does: all of a statement, or none."""
        with self._lock:
            self.groups.append(tuple(visitors))
            self.days.append(day)
            is_first = len(self.groups) == 1
        if is_first:
            self.first_runs.set()
            assert self.gate.wait(SOON)
        for visitor in visitors:
            if visitor in self.stuck:
                assert self.stuck[visitor].wait(SOON)
            if visitor in self.failing:
                raise self.failing[visitor]
        with self._lock:
            visits = []
            for visitor in visitors:
                self._visits[visitor] += 1
                visits.append(Visit(self._visits[visitor], len(self._visits)))
            return visits


class Waiters:
    """Threads that visit, of which the first one is in its statement and the others wait for it."""

    def __init__(self, shared: SharedVisits, statements: Statements, pool: ThreadPoolExecutor) -> None:
        """Let the first visit begin its statement."""
        self._shared = shared
        self._statements = statements
        self._pool = pool
        self.first = self.come(b'first')
        assert statements.first_runs.wait(SOON)

    def come(self, visitor: bytes, day: date | None = None) -> 'Future[Visit]':
        """Let a thread visit."""
        return self._pool.submit(self._shared.visit, visitor, day)

    def come_for_a_while(self, visitor: bytes) -> 'Future[Visit]':
        """Let a thread visit that has the time of a request."""
        return self._pool.submit(bounded, lambda: self._shared.visit(visitor, None))

    def wait(self, *visitors: bytes, come: 'Callable[[bytes], Future[Visit]] | None' = None) -> 'list[Future[Visit]]':
        """Let threads visit one after the other, each of which waits for the first statement."""
        before = len(self._shared._waiting)
        jobs = []
        for number, visitor in enumerate(visitors, 1):
            jobs.append((come or self.come)(visitor))
            deadline = time.monotonic() + SOON
            while len(self._shared._waiting) < before + number:
                assert time.monotonic() < deadline, 'a visit does not wait'
                time.sleep(0.001)
        return jobs


def locked() -> LockNotAvailable:
    """Return the server's error of a statement that waited too long for a row."""
    error = LockNotAvailable('canceling statement due to lock timeout')
    error.__setstate__({'pgcode': '55P03'})
    return error


@pytest.fixture
def statements() -> Statements:
    return Statements()


@pytest.fixture
def shared(statements: Statements) -> SharedVisits:
    """Return visits that wait for a statement as long as a test takes."""
    return SharedVisits(statements.count, patience=SOON, at_once=1)


def test_a_visit_that_is_alone_is_one_statement_and_waits_for_none(statements: Statements,
                                                                   shared: SharedVisits) -> None:
    statements.gate.set()
    assert [shared.visit(b'v', None) for _ in range(3)] == [Visit(1, 1), Visit(2, 1), Visit(3, 1)]
    assert statements.groups == [(b'v',)] * 3


def test_visits_that_come_during_a_statement_share_the_next_one_and_each_has_its_own_number(
        statements: Statements, shared: SharedVisits) -> None:
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        jobs = waiters.wait(b'a', b'b', b'a', b'a')
        statements.gate.set()
        answers = [job.result(SOON) for job in jobs]
    assert waiters.first.result().visits == 1
    assert len(statements.groups) == 2
    assert sorted(statements.groups[1]) == [b'a', b'a', b'a', b'b']
    assert sorted(answers[number].visits for number in (0, 2, 3)) == [1, 2, 3]
    assert answers[1].visits == 1


def test_a_visit_that_finds_few_statements_under_way_waits_for_none(statements: Statements) -> None:
    shared = SharedVisits(statements.count, patience=SOON, at_once=2)
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        assert waiters.come(b'a').result(SOON).visits == 1
        assert not waiters.first.done()
        statements.gate.set()


def test_an_error_of_a_shared_statement_fails_the_visit_that_causes_it_and_no_other(
        statements: Statements, shared: SharedVisits) -> None:
    statements.failing[b'locked'] = locked()
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        good, bad, other = waiters.wait(b'good', b'locked', b'other')
        statements.gate.set()
        assert (good.result(SOON).visits, other.result(SOON).visits) == (1, 1)
        with pytest.raises(LockNotAvailable):
            bad.result(SOON)
    assert sorted(statements.groups[2:]) == [(b'good',), (b'locked',), (b'other',)]


def test_after_a_connection_ended_under_a_shared_statement_no_visit_is_counted_again(
        statements: Statements, shared: SharedVisits) -> None:
    statements.failing[b'a'] = psycopg2.OperationalError('server closed the connection unexpectedly')
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        jobs = waiters.wait(b'a', b'b')
        statements.gate.set()
        for job in jobs:
            with pytest.raises(psycopg2.OperationalError, match='closed'):
                job.result(SOON)
    assert len(statements.groups) == 2


def test_a_statement_that_is_stuck_holds_up_no_visit_longer_than_the_patience(statements: Statements) -> None:
    shared = SharedVisits(statements.count, patience=0.05, at_once=1)
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        jobs = [waiters.come(visitor) for visitor in (b'a', b'b')]
        assert [job.result(SOON).visits for job in jobs] == [1, 1]
        assert waiters.come(b'c').result(SOON).visits == 1
        assert not waiters.first.done()
        statements.gate.set()
        assert waiters.first.result(SOON).visits == 1


def test_a_visit_waits_for_the_statement_of_its_group_longer_than_the_patience(statements: Statements) -> None:
    shared = SharedVisits(statements.count, patience=0.3, at_once=1)
    statements.stuck.update(dict.fromkeys((b'a', b'b'), threading.Event()))
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        jobs = [waiters.come(visitor) for visitor in (b'a', b'b')]
        # Longer than the patience of both, so each is in a statement and has stopped to wait for another one.
        time.sleep(1)
        assert not any(job.done() for job in jobs)
        statements.stuck[b'a'].set()
        assert [job.result(SOON).visits for job in jobs] == [1, 1]
        statements.gate.set()


def test_while_a_visit_is_retried_alone_the_same_visitor_joins_no_group(
        statements: Statements, shared: SharedVisits) -> None:
    statements.failing[b'locked'] = locked()
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        bad, good = waiters.wait(b'locked', b'good')
        released = threading.Event()
        original = statements.count

        def stuck(visitors: Sequence[bytes], day: date | None) -> list[Visit]:
            if tuple(visitors) == (b'locked',):
                assert released.wait(SOON)
                statements.failing.clear()
            return original(visitors, day)

        shared._count = stuck
        statements.gate.set()
        assert good.result(SOON).visits == 1
        again = waiters.come(b'locked')
        assert waiters.come(b'other').result(SOON).visits == 1
        released.set()
        assert sorted((bad.result(SOON).visits, again.result(SOON).visits)) == [1, 2]
    assert (b'locked',) in statements.groups


def test_a_visit_waits_for_others_no_longer_than_its_own_time(statements: Statements, shared: SharedVisits,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('visitors.deadline.REQUEST_SECONDS', 0.2)
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        with pytest.raises(DatabaseUnavailable, match='ended while it waited for others') as raised:
            bounded(lambda: shared.visit(b'late', None))
        assert raised.value.scope is Scope.CONNECTION
        statements.gate.set()
        assert waiters.first.result(SOON).visits == 1
    assert statements.groups == [(b'first',)], 'a visit that was given up is not counted later'


def test_a_visit_that_misses_its_turn_does_not_make_the_next_visits_refused(
        statements: Statements, shared: SharedVisits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('visitors.deadline.REQUEST_SECONDS', 0.2)
    breaker = Breaker()
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        with pytest.raises(DatabaseUnavailable):
            breaker.call(lambda: shared.visit(b'late', None))
        statements.gate.set()
        assert waiters.first.result(SOON).visits == 1
        assert breaker.call(lambda: shared.visit(b'next', None)).visits == 1


def test_of_visits_that_wait_the_one_with_the_most_time_counts_all(
        statements: Statements, shared: SharedVisits) -> None:
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        jobs = waiters.wait(b'a', b'b', b'c')
        for waiting, seconds in zip(shared._waiting, (100, 300, 200)):
            waiting.until = time.monotonic() + seconds
        statements.gate.set()
        assert [job.result(SOON).visits for job in jobs] == [1, 1, 1]
    assert statements.groups[1] == (b'b', b'a', b'c')


def test_a_group_whose_time_ended_before_its_leader_woke_is_not_counted_and_says_nothing_of_the_server(
        statements: Statements, shared: SharedVisits) -> None:
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        jobs = waiters.wait(b'a', b'b')
        for waiting in shared._waiting:
            waiting.until = time.monotonic()
        statements.gate.set()
        for job in jobs:
            with pytest.raises(NoTurn):
                job.result(SOON)
    assert statements.groups == [(b'first',)]
    assert shared.visit(b'next', None).visits == 1


def test_a_visit_that_left_a_group_before_its_error_is_not_retried_and_its_visitor_may_share_again(
        statements: Statements, shared: SharedVisits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('visitors.deadline.REQUEST_SECONDS', 1.0)
    statements.stuck[b'locked'] = threading.Event()
    statements.failing[b'locked'] = locked()
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        (leaves,) = waiters.wait(b'leaves', come=waiters.come_for_a_while)
        (fails,) = waiters.wait(b'locked')
        statements.gate.set()
        with pytest.raises(DatabaseUnavailable, match='ended while it waited for others'):
            leaves.result(SOON)
        assert statements.groups[1] == (b'locked', b'leaves')
        statements.stuck[b'locked'].set()
        with pytest.raises(LockNotAvailable):
            fails.result(SOON)
    assert (b'leaves',) not in statements.groups, 'a visit that was given up is not counted later'
    assert not shared._alone, 'the visitor is counted alone for ever'


def test_visits_of_two_days_share_no_statement(statements: Statements, shared: SharedVisits) -> None:
    with ThreadPoolExecutor(8) as pool:
        waiters = Waiters(shared, statements, pool)
        (waits,) = waiters.wait(b'a')
        assert waiters.come(b'b', YESTERDAY).result(SOON).visits == 1
        statements.gate.set()
        assert waits.result(SOON).visits == 1
    assert (statements.groups[1], statements.days[1]) == ((b'b',), YESTERDAY)


def test_many_threads_share_statements_and_every_number_is_given_once(statements: Statements) -> None:
    shared = SharedVisits(statements.count)
    statements.gate.set()
    answers: list[int] = []

    def come() -> None:
        answers.extend(shared.visit(b'v', TODAY).visits for _ in range(200))

    threads = [threading.Thread(target=come) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert sorted(answers) == list(range(1, 3201))
    assert sum(map(len, statements.groups)) == 3200
