"""Many processes count on one database, through kill -9 and midnight: each answered visit is counted, and once."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, datetime, time as time_of_day, timedelta, timezone
import os
from pathlib import Path
import signal
import time

import psutil
import pytest
import requests

from tests.support.clocks import starting_at
from tests.support.database import Database
from tests.support.server import bring_up, flask, Server
from tests.support.waiting import eventually

VISITORS = [f'198.51.100.{number}' for number in range(1, 9)]
VIEWS = 600
CLIENTS = 16
SECONDS_BEFORE_MIDNIGHT = (10, 40, 120)
SKEW = 2


def wait_for(jobs: list[Future[int | None]], number: int) -> None:
    eventually(lambda: sum(job.done() for job in jobs) >= number, f'{number} visits are answered')


def visit(server: Server, visitor: str) -> int | None:
    """Return which visit of this visitor the answer says it was, or None where the server was killed meanwhile."""
    try:
        return server.visits(X_Forwarded_For=visitor)
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return None


def test_killed_workers_and_servers_lose_no_answered_visit_and_count_none_twice(database_url: str) -> None:
    database = Database(bring_up(database_url))
    with (Server(database.url, TRUSTED_PROXIES='1') as one, Server(database.url, TRUSTED_PROXIES='1') as two,
          Server(database.url, TRUSTED_PROXIES='1') as three, ThreadPoolExecutor(CLIENTS) as pool):
        servers = (one, two, three)
        views = [(servers[index % 3], VISITORS[index % len(VISITORS)]) for index in range(VIEWS)]
        jobs = [pool.submit(visit, *view) for view in views]
        wait_for(jobs, VIEWS // 4)
        psutil.Process(one.process.pid).children()[0].send_signal(signal.SIGKILL)
        wait_for(jobs, VIEWS // 2)
        os.killpg(two.process.pid, signal.SIGKILL)
        answered: dict[str, list[int]] = defaultdict(list)
        unanswered: Counter[str] = Counter()
        for (_, visitor), job in zip(views, jobs):
            number = job.result()
            if number is None:
                unanswered[visitor] += 1
            else:
                answered[visitor].append(number)
        total = three.statistics()['total']

    assert unanswered, 'nobody noticed that a server was killed, so this test has proven nothing'
    assert total == len(VISITORS)
    for visitor in VISITORS:
        numbers, stored = answered[visitor], database.visits_of(visitor)
        assert len(set(numbers)) == len(numbers), f'{visitor} was told the same number twice'
        # A visit whose answer was cut off may have been counted; one that was answered must have been.
        assert stored and max(len(numbers), *numbers) <= stored <= len(numbers) + unanswered[visitor]
    assert flask(database.url, 'check-counts').stdout == 'the counts agree\n'


def clock_before_midnight(seconds: int) -> dict[str, str]:
    """Return an environment in which midnight (UTC) comes in so many seconds."""
    midnight = datetime.combine(datetime.now(timezone.utc).date() + timedelta(1), time_of_day(), timezone.utc)
    return starting_at(midnight - timedelta(seconds=seconds))


def day_of(server: Server) -> date:
    return date.fromisoformat(server.statistics()['days'][-1]['day'])


@contextmanager
def before_midnight(folder: Path) -> Iterator[tuple[Server, Server, date, float]]:
    """Give two servers whose midnight is near, the later one's day, which all visitors have seen, and when it is over.

    A machine that is so slow that midnight comes before the visitors gets more time.
    """
    for seconds in SECONDS_BEFORE_MIDNIGHT:
        url = bring_up(f'sqlite:///{folder / str(seconds)}.sqlite3')
        tomorrow = time.monotonic() + seconds + 2 * SKEW
        early, late = clock_before_midnight(seconds), clock_before_midnight(seconds + SKEW)
        with Server(url, TRUSTED_PROXIES='1', **early) as one, Server(url, TRUSTED_PROXIES='1', **late) as two:
            day = day_of(two)
            for visitor in VISITORS:
                two.visits(X_Forwarded_For=visitor)
            if day_of(one) == day:
                yield one, two, day, tomorrow
                return
    pytest.fail(f'it was midnight before everybody had come, even after {SECONDS_BEFORE_MIDNIGHT[-1]} s')


def test_over_midnight_each_visitor_counts_on_both_days_though_clocks_differ(tmp_path: Path) -> None:
    # On a file: a server's clock is the only one that says the day, tests/visitors/test_days.py.
    with before_midnight(tmp_path) as (one, two, day, tomorrow):
        url = one.url
        with ThreadPoolExecutor(len(VISITORS)) as pool:
            come = [pool.submit(come_until, tomorrow, visitor, (one, two)) for visitor in VISITORS]
            views = sum(job.result() for job in come) + len(VISITORS)
        statistics = two.statistics()

    before, after = statistics['days'][-2:]
    everybody = len(VISITORS)
    assert (before['day'], after['day']) == (day.isoformat(), (day + timedelta(1)).isoformat())
    assert (before['visitors'], before['newcomers']) == (everybody, everybody)
    assert (after['visitors'], after['newcomers']) == (everybody, 0)
    assert statistics['today'] == statistics['last_7_days'] == statistics['total'] == everybody
    assert Database(url).total() == views
    assert flask(url, 'check-counts').stdout == 'the counts agree\n'


def come_until(until: float, visitor: str, servers: tuple[Server, Server]) -> int:
    """Come to both servers in turn until some time is over; return how often that was."""
    views = 0
    while time.monotonic() < until:
        for server in servers:
            server.visits(X_Forwarded_For=visitor)
            views += 1
        time.sleep(0.05)
    return views
