"""python -m benchmarks: measures the page, the statement and the statistics, and prints their ratios.

Exit codes: 0 measured; 1 something did not work; 2 an option is wrong.
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
import os
import shutil
import signal
import subprocess
import sys
import time

import psycopg2

from benchmarks import interference, pages
from benchmarks.database import Database, make_database, measure_times, start_server
from benchmarks.report import grouped, Others, tables
from benchmarks.rounds import Case, in_turn, Strangers
from benchmarks.statements import statements
from tests.support.postgresql import PostgresServer
from tests.support.server import flask

LEAST_ROUNDS = 4
READ_RATE = 2000  # visits a second while the statistics are read
# A wait whose time ends raises an AssertionError.
FAILURES = (AssertionError, RuntimeError, OSError, subprocess.SubprocessError, psycopg2.Error)


class Progress:
    """The steps of a run on stderr, each with its seconds."""

    def __init__(self) -> None:
        """Start the clock of the first step."""
        self._since = time.monotonic()

    def __call__(self, step: str) -> None:
        """Print the step that ends now."""
        now = time.monotonic()
        print(f'{now - self._since:7.1f} s  {step}', file=sys.stderr, flush=True)
        self._since = now


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; end the process with exit code 2 where one is wrong."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--rows', type=int, nargs='+', default=[10_000, 1_000_000], metavar='N',
                        help='how many visitors the databases hold (10000 1000000)')
    parser.add_argument('--visitors', type=int, default=4000, metavar='N',
                        help='how many of them come during the benchmark (4000)')
    parser.add_argument('--rounds', type=int, default=8, metavar='N', help='how many rounds, at least 4 (8)')
    parser.add_argument('--seconds', type=int, default=3, metavar='N', help='how long each case runs in a round (3)')
    parser.add_argument('--threads', type=int, default=pages.DEFAULTS.threads, metavar='N',
                        help=f'threads in each process of an application ({pages.DEFAULTS.threads})')
    parser.add_argument('--quick', action='store_true',
                        help='see that everything works: few visitors, short rounds, figures without meaning')
    parser.add_argument('--snapshot-seconds', type=int, default=120, metavar='N',
                        help='how long the page is under load while a snapshot is open (120)')
    options = parser.parse_args(arguments)
    if options.quick:
        options.rows, options.visitors, options.rounds, options.seconds = [1000, 2000], 100, 1, 1
        options.snapshot_seconds = interference.STEPS
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    options.rows = sorted(set(options.rows))
    if options.rounds < LEAST_ROUNDS and not options.quick:
        parser.error(f'--rounds {options.rounds}: use at least {LEAST_ROUNDS}, fewer say nothing')
    if options.threads not in range(1, 65):
        parser.error(f'--threads {options.threads}: use 1 to 64')
    if options.snapshot_seconds < interference.STEPS:
        parser.error(f'--snapshot-seconds {options.snapshot_seconds}: use at least {interference.STEPS}')
    if options.seconds not in range(1, 61):
        parser.error(f'--seconds {options.seconds}: use 1 to 60')
    if options.visitors < 1 or options.rows[0] < 2 * options.visitors or options.rows[-1] > 2 ** 24:
        parser.error(f'--rows {options.rows}: use at least twice --visitors {options.visitors}, '
                     f'and at most {2 ** 24}')


def measure(options: argparse.Namespace, report: Progress) -> str:
    """Return the tables of a run."""
    with ExitStack() as stack:
        server = start_server()
        stack.callback(server.remove)
        report('PostgreSQL started')
        databases = []
        for rows in options.rows:
            databases.append(make_database(server, rows, options.visitors))
            report(f'{grouped(rows)} visitors made')

        with ExitStack() as clients:
            cases = _cases(clients, databases, server, options.threads)
            report('applications started')
            for case in cases:
                case.run(options.seconds)
            report('warmed up')
            others = Strangers(os.getpid(), server.postmaster())
            rounds = in_turn(cases, options.rounds, options.seconds, others, report)
        times = {database.rows: measure_times(database) for database in databases}
        reading = interference.reading_under_load(server, databases[-1], READ_RATE, max(4, options.seconds * 4))
        bulk = interference.bulk_times(server, databases[0], [1000, 10_000] if options.quick else interference.BULK)
        report('times of one client measured')
        with interference.pair(server, databases[-1], options.threads) as pair:
            phases = list(interference.phases(server, pair, options.snapshot_seconds, report))
            for page in (pair.alone, pair.disturbed):
                _check_counts(page.database)
        for database in databases:
            _check_counts(database)
        report('all counts are still right')
        return tables(databases, rounds, times, Others(phases, reading, bulk))


def _cases(stack: ExitStack, databases: Sequence[Database], server: PostgresServer, threads: int) -> list[Case]:
    cases: list[Case] = []
    # The cases run one after the other.
    for name, application, database in [('hello', pages.HELLO, databases[0]),
                                        *((f'page {each.rows}', pages.PAGE, each) for each in databases),
                                        *((f'naive {each.rows}', pages.NAIVE, each) for each in databases)]:
        page = stack.enter_context(pages.serving(name, application, database, server, threads))
        cases.append(page)
        if application == pages.PAGE:
            cases.append(replace(page, name=f'compressed {database.rows}', encoding='gzip'))
    for database in databases:
        cases += statements(database, server)
    return cases


def _check_counts(database: Database) -> None:
    result = flask(database.url, 'check-counts', timeout=600)
    if result.returncode:
        raise RuntimeError(f'the counts do not add up: {result.stdout}{result.stderr}')


def main() -> int:
    """Measure and print; return the exit code."""
    options = parse_options()
    # However it ends, the servers end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if not shutil.which('wrk'):
        print('wrk is missing: apt-get install wrk, or let `make benchmark` do it', file=sys.stderr)
        return 1

    load = os.getloadavg()[0]
    try:
        text = measure(options, Progress())
    except FAILURES as error:
        print(f'the benchmark failed: {error}', file=sys.stderr)
        return 1
    print(f'Database, application and load share {os.cpu_count()} cores; {pages.DEFAULTS.workers} processes of '
          f'{options.threads} threads, {pages.CONNECTIONS} connections; {options.rounds} rounds of '
          f'{options.seconds} s for a case; the load was {load:.1f} before the start.\n{text}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
