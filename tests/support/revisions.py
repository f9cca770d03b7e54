"""Releases of a made-up application, r1 to rN, and real instances of them that boot."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

from tests.support.postgresql import rows, value
from tests.support.server import environment, ROOT, start

REVISION = """
'''Revision {name}.'''

from pathlib import Path
import time

from alembic import op

from visitors.schema.operations import create_index

revision = {name!r}
down_revision = {before!r}
{floor}

def upgrade() -> None:
{body}


def downgrade() -> None:
    op.execute('DROP TABLE IF EXISTS {name}')
"""
# What the first leader that comes here does, and none after it: the folder remembers.
ONCE = """
been_here = Path(__file__).with_suffix('.been-here')
if not been_here.exists():
    been_here.touch()
{body}
"""


def once(body: str) -> str:
    """Return the body of a revision that does something for the first leader only."""
    return ONCE.format(body=textwrap.indent(textwrap.dedent(body).strip(), '    '))


def has_begun(release: Path, revision: str = 'r2') -> bool:
    """Return whether a leader is in, or was in, what this revision does for the first leader only."""
    return (release / 'versions' / f'{revision}.been-here').exists()


def make_release(folder: Path, newest: int, bodies: Mapping[str, str] | None = None, *, prefix: str = 'r',
                 floors: Mapping[str, str] | None = None) -> Path:
    """Return the migrations folder of a release whose revisions r1 to rN make a table each, and what else is said."""
    (folder / 'versions').mkdir(parents=True)
    for name in ('env.py', 'alembic.ini', 'script.py.mako'):
        shutil.copy(ROOT / 'migrations' / name, folder / name)
    before = None
    for number in range(1, newest + 1):
        name = f'{prefix}{number}'
        add_revision(folder, name, before, (bodies or {}).get(name, ''), (floors or {}).get(name))
        before = name
    return folder


def add_revision(folder: Path, name: str, before: str | None, body: str, floor: str | None = None) -> None:
    """Write one revision, which makes a table of its name."""
    table = f"op.execute('CREATE TABLE IF NOT EXISTS {name} (id integer)')\n"
    text = REVISION.format(name=name, before=before, floor=f'min_code_revision = {floor!r}\n' if floor else '',
                           body=textwrap.indent(table + textwrap.dedent(body), '    '))
    (folder / 'versions' / f'{name}.py').write_text(text.lstrip(), encoding='utf-8')


class Boot:
    def __init__(self, url: str, release: Path, log: Path, options: Sequence[str], prefix: Sequence[str],
                 settings: dict[str, str]) -> None:
        """Start `flask schema ready` in a process of its own."""
        self.log = log
        command = ['flask', '--app', 'app', 'schema', '--directory', str(release), 'ready', *options]
        with open(log, 'wb') as output:
            self.process = start(command, environment(url, **settings), output, output, prefix)

    @property
    def text(self) -> str:
        """What the instance has written so far."""
        return self.log.read_text(encoding='utf-8')

    @property
    def has_led(self) -> bool:
        """Whether the instance has been the leader."""
        return 'leading: attempt' in self.text

    def ended(self, seconds: float = 200) -> int:
        """Return the exit code, when it has ended."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'still running after {seconds} s:\n{self.text}') from None

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


def boot_together(number: int, url: str, release: Path, folder: Path) -> tuple[list[int], str]:
    """Return exit codes and log of instances that all begin in the same moment, which imports cannot spread out."""
    command = [sys.executable, '-m', 'tests.support.together', str(number), str(folder)]
    command += ['schema', '--directory', str(release), 'ready', '--poll', '0.2', '--timeout', '180']
    done = subprocess.run(command, env=environment(url, DEPLOY_ID='deploy-1'), cwd=ROOT, text=True, timeout=200,
                          capture_output=True, check=True)
    log = '\n'.join(path.read_text(encoding='utf-8') for path in sorted(folder.glob('together-*.log')))
    return [int(code) for code in done.stdout.split()], log


class Fleet:
    def __init__(self, folder: Path) -> None:
        """Boot instances, and end those that are left."""
        self._folder = folder
        self.boots: list[Boot] = []

    def boot(self, url: str, release: Path, *options: str, prefix: Sequence[str] = (), deploy: str = 'deploy-1',
             **settings: str) -> Boot:
        """Boot one instance of a release."""
        name = f'instance-{len(self.boots)}'
        given = {'DEPLOY_ID': deploy, 'INSTANCE_ID': name, **settings}
        boot = Boot(url, release, self._folder / f'{name}.log', ('--poll', '0.2', '--timeout', '180', *options),
                    prefix, given)
        self.boots.append(boot)
        return boot

    def boot_many(self, number: int, url: str, release: Path, *options: str, deploy: str = 'deploy-1') -> list[Boot]:
        """Boot several instances of a release at once."""
        return [self.boot(url, release, *options, deploy=deploy) for _ in range(number)]

    def bring_up(self, url: str, release: Path) -> None:
        """Bring a database to a release's newest revision."""
        boot = self.boot(url, release, deploy=f'before-{len(self.boots)}')
        assert boot.ended() == 0, boot.text

    def leader(self) -> Boot:
        """Return the running instance that leads, when one does."""
        def leading() -> list[Boot]:
            return [boot for boot in self.boots if boot.has_led and boot.process.poll() is None]
        until(leading, 'somebody leads')
        (only,) = leading()
        return only

    def remove(self) -> None:
        """End whatever is left."""
        for boot in self.boots:
            if boot.process.poll() is None:
                boot.send(signal.SIGKILL)
                boot.ended()


@contextmanager
def fleet() -> Iterator[Fleet]:
    """Give a fleet whose instances end with the block."""
    with tempfile.TemporaryDirectory(prefix='visitors-fleet-') as folder:
        made = Fleet(Path(folder))
        try:
            yield made
        finally:
            made.remove()


def until(condition: Callable[[], object], what: str, seconds: float = 150) -> float:
    """Wait for a condition and return how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f'not within {seconds} s: {what}'
        time.sleep(0.02)
    return time.monotonic() - started


def codes(boots: Sequence[Boot], seconds: float = 200) -> list[int]:
    """Return the exit codes, when all have ended."""
    return [boot.ended(seconds) for boot in boots]


def leaders(boots: Sequence[Boot]) -> list[Boot]:
    """Return those that have led."""
    return [boot for boot in boots if boot.has_led]


def logs(boots: Sequence[Boot]) -> str:
    """Return everything that they have written."""
    return '\n'.join(boot.text for boot in boots)


def head(url: str) -> object:
    """Return the database's revision."""
    return value(url, 'SELECT version_num FROM alembic_version')


def tables(url: str) -> set[str]:
    """Return the names of the database's tables."""
    return {str(name) for (name,) in rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def verdict(url: str, deploy: str = 'deploy-1') -> tuple[object, ...]:
    """Return status and attempt of a deploy."""
    (found,) = rows(url, 'SELECT status, attempt FROM migration_attempt WHERE deploy_id = %s', [deploy])
    return found


def sessions(url: str, state: str) -> list[object]:
    """Return the server's processes of leaders in a state, such as `idle in transaction`."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'migrate-leader-%%' AND state = %s"
    return [pid for (pid,) in rows(url, f'{query} AND datname = current_database()', [state])]
