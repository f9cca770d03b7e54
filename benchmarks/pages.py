"""Pages under load: applications served by gunicorn as the project serves its own, and asked by wrk."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
import re
import subprocess
from urllib.parse import urlsplit

from benchmarks.database import Database, wait_until_idle
from benchmarks.rounds import processor_seconds, Run
from tests.support.postgresql import PostgresServer
from tests.support.server import ROOT, Server
from visitors.settings import Settings

DEFAULTS = Settings.from_environ({})
CONNECTIONS = 16
COUNTED_A_SECOND = 500_000
LONGEST_SECONDS = 30
MILLISECONDS = {'us': 0.001, 'ms': 1, 's': 1000}
LOAD = ROOT / 'benchmarks' / 'visitors.lua'
PAGE, HELLO, NAIVE = 'app:create_app()', 'benchmarks.hello:application', 'benchmarks.naive:create_app()'


@dataclass(frozen=True)
class Page:
    """A page that is asked for on several connections kept alive, by many visitors."""

    name: str
    http: Server
    database: Database
    server: PostgresServer
    least_seconds: float
    encoding: str = 'identity'
    only_new: bool = False

    def run(self, seconds: float) -> Run:
        """Ask for a while."""
        pids = self.http.process.pid, self.server.postmaster()
        visitors = 0 if self.only_new else self.database.visitors
        # A second may pass without an answer on a busy machine. Such a round is no figure; a longer one is.
        for duration in (max(seconds, self.least_seconds), LONGEST_SECONDS):
            before = [processor_seconds(pid) for pid in pids]
            number, rate, p99 = ask(self.http.address, visitors, self.database.stride, duration, self.encoding)
            if number:
                break
        else:
            raise RuntimeError(f'{self.name} answered no request in {LONGEST_SECONDS} s')
        wait_until_idle(self.database)
        application, database = (processor_seconds(pid) - spent for pid, spent in zip(pids, before))
        return Run(rate, application / number * 1e6, database / number * 1e6, p99)


@contextmanager
def serving(name: str, application: str, database: Database, server: PostgresServer, threads: int = DEFAULTS.threads
            ) -> Iterator[Page]:
    """Serve an application on a database, on this machine only."""
    with Server(database.url, application=application, HOST='127.0.0.1', TRUSTED_PROXIES='1',
                WORKERS=str(DEFAULTS.workers), THREADS=str(threads)) as http:
        http.get('/livez')  # its workers need a moment longer than its first process
        # Counting ten million rows for each of 16 connections on two cores: the first answer takes seconds.
        least_seconds = database.rows / COUNTED_A_SECOND if application == NAIVE else 0.0
        yield Page(name, http, database, server, least_seconds)


def newcomers(page: Page) -> Page:
    """Return a page to which nearly every visitor comes for the first time."""
    return replace(page, only_new=True)


def ask(address: str, visitors: int, stride: int, seconds: float, encoding: str = 'identity'
        ) -> tuple[int, float, float]:
    """Return the number of answers, their rate per second and the 99th percentile of their times in ms.

    Raise RuntimeError if an answer is an error.
    """
    if urlsplit(address).hostname != '127.0.0.1':
        raise RuntimeError(f'{address} is not on this machine, and this is a load')
    command = ['wrk', '--threads', '1', '--connections', str(CONNECTIONS), '--timeout', '30s', '--latency',
               '--duration', f'{max(1, round(seconds))}s', '--script', str(LOAD), address + '/',
               '--', str(visitors), str(stride), encoding]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    requests = re.search(r'(\d+) requests in', ended.stdout)
    rate = re.search(r'Requests/sec:\s+([\d.]+)', ended.stdout)
    p99 = re.search(r'99%\s+([\d.]+)(us|ms|s)\b', ended.stdout)
    bad = re.search(r'Non-2xx or 3xx responses: \d+|Socket errors: .*', ended.stdout)
    if bad or not requests or not rate or not p99:
        raise RuntimeError(f'wrk at {address}: {bad[0] if bad else ended.stdout + ended.stderr}')
    return int(requests[1]), float(rate[1]), float(p99[1]) * MILLISECONDS[p99[2]]
