"""A visit as the application counts it, beside the bare upsert, from one client and from several that wait."""

from dataclasses import dataclass
import json
import subprocess
import sys
import tempfile

import psutil

from benchmarks.database import Database, hashes
from benchmarks.rounds import processor_seconds, Run
from tests.support.postgresql import PostgresServer
from tests.support.server import ROOT

CLIENTS = (1, 16)
LEAVE_SECONDS = 5


@dataclass(frozen=True)
class Statement:
    """A visit or an upsert from so many clients of one process, each of which goes on when it is answered."""

    kind: str
    clients: int
    database: Database
    server: PostgresServer
    rate: float = 0.0

    @property
    def name(self) -> str:
        """The name of the case: its kind, from how many clients, among how many rows."""
        return f'{self.kind} {self.clients} {self.database.rows}'

    def run(self, seconds: float) -> Run:
        """Count visits for a while, of visitors each of whom came on this day before, but for the first time."""
        with tempfile.NamedTemporaryFile('w', suffix='.txt') as file:
            file.writelines(f'{key}\n' for _, key in hashes(self.database))
            file.flush()
            postmaster = psutil.Process(self.server.postmaster())
            before, others = processor_seconds(postmaster.pid), set(postmaster.children())
            command = [sys.executable, '-m', 'benchmarks.clients', self.kind, self.database.url, file.name,
                       '--clients', str(self.clients), '--seconds', str(seconds), '--rate', str(self.rate)]
            result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 60,
                                    check=False)
            if result.returncode:
                raise RuntimeError(f'{" ".join(command)} ended with {result.returncode}: {result.stderr.strip()}')
            # The processor time of a connection's process shows up in its parent after that process ends.
            psutil.wait_procs(set(postmaster.children()) - others, timeout=LEAVE_SECONDS)
            spent = processor_seconds(postmaster.pid) - before
        figures = json.loads(result.stdout)
        return Run(figures['rate'], figures['processor'], spent / figures['number'] * 1e6, figures['p99'])


def statements(database: Database, server: PostgresServer) -> list[Statement]:
    """Return the visit and the upsert of each number of clients, compared ones beside each other."""
    return [Statement(kind, clients, database, server) for clients in CLIENTS for kind in ('visit', 'upsert')]
