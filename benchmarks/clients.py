"""python -m benchmarks.clients: counts visits, or runs the bare upsert, from the threads of one process.

Prints visits a second, the 99th percentile of their times in ms, and the processor time of one in µs.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import json
from pathlib import Path
import random
import time
from typing import Any

from sqlalchemy import create_engine, Engine

from tests.support.server import environment
from visitors.connections import Connections
from visitors.counting import Counter
from visitors.days import server_today
from visitors.engines import engine_options, prepare_engine
from visitors.settings import Settings

UPSERT = f"""
PREPARE visit (uuid) AS INSERT INTO upserts (id, last_day) VALUES ($1, {server_today('UTC')})
ON CONFLICT (id) DO UPDATE SET visits = upserts.visits + 1 RETURNING visits
"""


class Clients:
    """Threads that act one after another without a pause, or at a rate in all, for some seconds."""

    def __init__(self, act: Callable[[bytes], object], visitors: list[bytes], rate: float) -> None:
        """Begin with no times."""
        self._act = act
        self._visitors = visitors
        self._rate = rate
        self.times: list[float] = []

    def run(self, clients: int, seconds: float) -> None:
        """Let so many threads act."""
        self._pause = clients / self._rate if self._rate else 0.0
        until = time.perf_counter() + seconds
        with ThreadPoolExecutor(clients) as pool:
            for times in pool.map(lambda number: self._repeat(until, number / clients), range(clients)):
                self.times += times

    def _repeat(self, until: float, offset: float) -> list[float]:
        chance, due = random.Random(), time.perf_counter() + offset * self._pause
        times = []
        while time.perf_counter() < until:
            time.sleep(max(0.0, due - time.perf_counter()) if self._pause else 0.0)
            due += self._pause
            started = time.perf_counter()
            self._act(chance.choice(self._visitors))
            times.append(time.perf_counter() - started)
        return times


def bare_upsert(engine: Engine) -> Callable[[bytes], Any]:
    """Return the upsert that no counting could do without, on the application's own connections."""
    connections = Connections(engine, UPSERT)
    return lambda visitor: connections.fetch('EXECUTE visit (%s)', (visitor.hex(),))


def main() -> None:
    """Act and print."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks.clients')
    parser.add_argument('kind', choices=('visit', 'upsert'))
    parser.add_argument('url')
    parser.add_argument('hashes', help='a file with the hash of a visitor in each line')
    parser.add_argument('--clients', type=int, default=1)
    parser.add_argument('--seconds', type=float, default=1)
    parser.add_argument('--rate', type=float, default=0)
    options = parser.parse_args()
    settings = Settings.from_environ(environment(options.url, THREADS=str(options.clients)), Path('/'))
    engine = create_engine(settings.database_url, **engine_options(settings))
    prepare_engine(engine, settings)
    act = Counter(engine).visit if options.kind == 'visit' else bare_upsert(engine)
    visitors = [bytes.fromhex(line) for line in Path(options.hashes).read_text(encoding='ascii').split()]
    Clients(act, visitors, 0).run(options.clients, 0.3)
    clients = Clients(act, visitors, options.rate)
    spent = time.process_time()
    clients.run(options.clients, options.seconds)
    spent = time.process_time() - spent
    times = sorted(clients.times)
    print(json.dumps({'rate': len(times) / options.seconds, 'p99': times[len(times) * 99 // 100] * 1000,
                      'number': len(times), 'processor': spent / len(times) * 1e6}))


if __name__ == '__main__':
    main()
