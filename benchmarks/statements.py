"""The statement that counts a visit, and the upsert that nobody could do with less than, by pgbench."""

from dataclasses import dataclass
import re
import subprocess
import tempfile

import psutil

from benchmarks.database import Database
from benchmarks.rounds import processor_seconds, Run
from tests.support.postgresql import PostgresServer
from tests.support.server import today
from visitors.counting import postgresql
from visitors.days import server_today

CLIENTS = 8
LEAVE_SECONDS = 5
UPSERT = """
PREPARE visit (uuid, date) AS INSERT INTO upserts (id, last_day) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE SET visits = upserts.visits + 1 RETURNING visits
"""
# As the application does it: prepared once on each connection and then called by its name. Those who come lie one
# beside the page's visitors, so their hashes are the ones that the database's rows were filled with.
SCRIPT = """
\\if :prepared = 0
{prepare};
\\set prepared 1
\\endif
\\set number random(0, :visitors - 1) * :stride + 1
EXECUTE visit (md5(:number::text)::uuid, {today});
"""


@dataclass(frozen=True)
class Statement:
    """A statement that several clients send at once, each when the one before is answered."""

    name: str
    prepare: str
    day: str
    database: Database
    server: PostgresServer

    def run(self, seconds: float) -> Run:
        """Send it for a while, for visitors of whom each but the first time has come on this day before."""
        with tempfile.NamedTemporaryFile('w', suffix='.sql') as script:
            script.write(SCRIPT.format(prepare=self.prepare.strip(), today=self.day))
            script.flush()
            postmaster = psutil.Process(self.server.postmaster())
            before, others = processor_seconds(postmaster.pid), set(postmaster.children())
            told = self._pgbench(script.name, seconds)
            # What a connection's process has taken is its parent's to tell once that has noticed its end.
            psutil.wait_procs(set(postmaster.children()) - others, timeout=LEAVE_SECONDS)
            spent = processor_seconds(postmaster.pid) - before
        number = int(_found(r'number of transactions actually processed: (\d+)', told))
        rate = float(_found(r'tps = ([\d.]+) \(without initial connection time\)', told))
        return Run(rate, 0.0, spent / number * 1e6)

    def _pgbench(self, script: str, seconds: float) -> str:
        command = [str(self.server.binaries / 'pgbench'), '--no-vacuum', '--client', str(CLIENTS),
                   '--time', str(max(1, round(seconds))), '--define', 'prepared=0',
                   '--define', f'visitors={self.database.visitors}', '--define', f'stride={self.database.stride}',
                   '--file', script, self.database.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
        if done.returncode:
            raise RuntimeError(f'pgbench ended with {done.returncode}: {done.stderr.strip()}')
        return done.stdout


def visit(database: Database, server: PostgresServer) -> Statement:
    """Return the statement of the application."""
    return Statement(f'visit {database.rows}', postgresql(server_today('UTC')).prepare or '', 'NULL', database, server)


def upsert(database: Database, server: PostgresServer) -> Statement:
    """Return the bare upsert: no trigger, no total."""
    return Statement(f'upsert {database.rows}', UPSERT, f"'{today()}'", database, server)


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if not found:
        raise RuntimeError(f'pgbench did not tell {pattern!r}: {text}')
    return found[1]
