"""The page while something else keeps the database busy, beside the same page without that, in turn."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, ExitStack
from dataclasses import dataclass
from itertools import count
from statistics import median
import subprocess
from threading import Event
import time
from typing import Any

import psycopg2

from benchmarks import pages
from benchmarks.database import copy_of, Database, read_times, reading_cursor
from benchmarks.rounds import Run
from benchmarks.statements import Statement
from tests.support.postgresql import as_its_user, PostgresServer
from tests.support.server import flask
from visitors.days import server_today

STEPS = 12
OLDEST_DAYS, YOUNGEST_DAYS = 395, 30
BULK = (100_000, 1_000_000)
READINGS = 300


@dataclass(frozen=True)
class Pair:
    """The page on two equal databases of one server: one is undisturbed, the other one is disturbed."""

    alone: pages.Page
    disturbed: pages.Page


@dataclass(frozen=True)
class Phase:
    """The runs of a pair in turn: with a disturbance, or after its end."""

    name: str
    alone: list[Run]
    disturbed: list[Run]

    def ratios(self, figure: Callable[[Run], float]) -> list[float]:
        """Return the disturbed figure over the other one, for each turn."""
        return [figure(disturbed) / figure(alone) for alone, disturbed in zip(self.alone, self.disturbed)]


@contextmanager
def pair(server: PostgresServer, database: Database, threads: int) -> Iterator[Pair]:
    """Serve the page on two copies of a database, to visitors of whom most come for the first time."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(pages.serving(
            name, pages.PAGE, copy_of(server, database), server, threads)) for name in ('alone', 'disturbed'))
        yield Pair(pages.newcomers(first), pages.newcomers(second))


def phases(server: PostgresServer, pages_: Pair, seconds: float, report: Callable[[str], None]) -> Iterator[Phase]:
    """Measure with an open snapshot for so many seconds of load, as long after it, and during a purge and a dump."""
    with snapshot(pages_.disturbed.database.url):
        yield _measured('a snapshot is open', pages_, seconds, report)
    yield _measured('after the snapshot', pages_, seconds, report)
    with purges_and_dumps(server, pages_.disturbed.database.url):
        yield _measured('purges and dumps run', pages_, seconds / 2, report)


def _measured(name: str, pages_: Pair, seconds: float, report: Callable[[str], None]) -> Phase:
    phase = Phase(name, [], [])
    for number in range(STEPS):
        # Every second turn goes backwards, so that neither side is always the first.
        order = ((pages_.alone, phase.alone), (pages_.disturbed, phase.disturbed))
        for page, runs in order if number % 2 == 0 else order[::-1]:
            runs.append(page.run(seconds / STEPS))
        report(f'{name}, {number + 1} of {STEPS}: {phase.disturbed[-1].rate:.0f} answers a second, '
               f'{phase.alone[-1].rate:.0f} without that')
    return phase


@contextmanager
def snapshot(url: str) -> Iterator[None]:
    """Keep a snapshot open, as a dump, a report or a forgotten BEGIN does."""
    with closing(psycopg2.connect(url)) as connection:
        connection.set_session(isolation_level='REPEATABLE READ', readonly=True)
        connection.cursor().execute('SELECT count(*) FROM days')
        yield


@contextmanager
def purges_and_dumps(server: PostgresServer, url: str) -> Iterator[None]:
    """Purge and dump a database again and again; each purge finds visitors that the one before left."""
    stop = Event()

    def repeat(act: Callable[[int], subprocess.CompletedProcess[str]]) -> None:
        for number in count():
            result = act(number)
            if result.returncode:
                raise RuntimeError(f'a purge or a dump failed: {result.stderr}')
            if stop.is_set():
                return

    def purge(number: int) -> subprocess.CompletedProcess[str]:
        days = max(YOUNGEST_DAYS, OLDEST_DAYS - 10 * number)
        return flask(url, 'purge', '--older-than', str(days), timeout=600)

    def dump(_number: int) -> subprocess.CompletedProcess[str]:
        command = as_its_user(str(server.binaries / 'pg_dump'), '--file', '/dev/null', url)
        return subprocess.run(command, cwd='/', capture_output=True, text=True, check=False)

    with ThreadPoolExecutor() as pool:
        loops = [pool.submit(repeat, act) for act in (purge, dump)]
        try:
            yield
        finally:
            stop.set()
    for loop in loops:
        loop.result()


def bulk_times(server: PostgresServer, database: Database, sizes: Sequence[int] = BULK) -> dict[int, float]:
    """Return the seconds in which one statement inserts so many new visitors, each into a copy of a database."""
    times = {}
    for size in sizes:
        with closing(psycopg2.connect(copy_of(server, database).url)) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute('CREATE TABLE came AS SELECT gen_random_uuid() AS id FROM generate_series(1, %s)', (size,))
            started = time.perf_counter()
            cursor.execute(f'INSERT INTO visitors (id, last_day) SELECT id, {server_today("UTC")} FROM came')
            times[size] = time.perf_counter() - started
    return times


@dataclass(frozen=True)
class Reading:
    """The visits a second, and the 99th percentiles in ms of reading the chart's and all days meanwhile."""

    rate: float
    chart: float
    all_days: float


def reading_under_load(server: PostgresServer, database: Database, rate: float, seconds: float) -> Reading:
    """Return the times of the statistics while visits come at a rate."""
    with reading_cursor(database) as cursor, ThreadPoolExecutor() as pool:
        read_times(cursor, everything=True, times=3)
        load = pool.submit(Statement('visit', 8, database, server, rate).run, seconds)
        time.sleep(min(1.5, seconds / 2))
        chart = _p99(cursor, everything=False)
        all_days = _p99(cursor, everything=True)
        return Reading(load.result().rate, chart, all_days)


def _p99(cursor: Any, everything: bool) -> float:
    times = sorted(read_times(cursor, everything, READINGS))
    return times[len(times) * 99 // 100]


def flatness(ratios: Sequence[float]) -> float:
    """Return the median of the last third over that of the first third."""
    third = max(1, len(ratios) // 3)
    return median(ratios[-third:]) / median(ratios[:third])
