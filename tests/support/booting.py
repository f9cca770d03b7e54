"""Instances that boot: real processes of `flask schema ready`, and the traces that they leave in the database."""

from collections.abc import Sequence
from pathlib import Path
import signal
import subprocess
import sys

from tests.support.postgresql import rows, value
from tests.support.server import environment, ROOT, start
from tests.support.waiting import eventually


class Instance:
    """One booting instance: `flask schema ready` in a process of its own."""

    def __init__(self, url: str, release: Path, log: Path, options: Sequence[str], prefix: Sequence[str],
                 settings: dict[str, str]) -> None:
        """Start the process."""
        self.log = log
        command = ['flask', '--app', 'app', 'schema', '--directory', str(release), 'ready', *options]
        with open(log, 'wb') as output:
            self.process = start(command, environment(url, **settings), output, output, prefix)

    @property
    def text(self) -> str:
        """The instance's output so far."""
        return self.log.read_text(encoding='utf-8')

    @property
    def has_led(self) -> bool:
        """Whether the instance has been the leader."""
        return 'leading: attempt' in self.text

    @property
    def is_running(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def ended(self, seconds: float = 200) -> int:
        """Wait for the end of the process and return its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'still running after {seconds} s:\n{self.text}') from None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)


class Instances:
    """The booting instances of a test."""

    def __init__(self, folder: Path) -> None:
        """Begin without instances; their logs go into a folder."""
        self._folder = folder
        self.booted: list[Instance] = []

    def boot(self, url: str, release: Path, *options: str, prefix: Sequence[str] = (), deploy: str = 'deploy-1',
             **settings: str) -> Instance:
        """Boot one instance of a release."""
        name = f'instance-{len(self.booted)}'
        arguments = ('--poll', '0.2', '--timeout', '180', *options)
        instance = Instance(url, release, self._folder / f'{name}.log', arguments, prefix,
                            {'DEPLOY_ID': deploy, 'INSTANCE_ID': name, **settings})
        self.booted.append(instance)
        return instance

    def boot_many(self, number: int, url: str, release: Path, *options: str,
                  deploy: str = 'deploy-1') -> list[Instance]:
        """Boot several instances of a release at once."""
        return [self.boot(url, release, *options, deploy=deploy) for _ in range(number)]

    def bring_up(self, url: str, release: Path) -> None:
        """Bring a database to a release's newest revision."""
        instance = self.boot(url, release, deploy=f'before-{len(self.booted)}')
        assert instance.ended() == 0, instance.text

    def leader(self) -> Instance:
        """Wait for a running instance that leads, and return it."""
        eventually(self._leading, 'an instance leads')
        (leader,) = self._leading()
        return leader

    def _leading(self) -> list[Instance]:
        return [instance for instance in self.booted if instance.has_led and instance.is_running]

    def remove(self) -> None:
        """Kill the instances that still run."""
        for instance in self.booted:
            if instance.is_running:
                instance.send(signal.SIGKILL)
                instance.ended()


def boot_together(number: int, url: str, release: Path, folder: Path) -> tuple[list[int], str]:
    """Return exit codes and log of instances that all begin at the same moment, after the imports."""
    command = [sys.executable, '-m', 'tests.support.together', str(number), str(folder)]
    command += ['schema', '--directory', str(release), 'ready', '--poll', '0.2', '--timeout', '180']
    result = subprocess.run(command, env=environment(url, DEPLOY_ID='deploy-1'), cwd=ROOT, text=True, timeout=200,
                            capture_output=True, check=True)
    log = '\n'.join(path.read_text(encoding='utf-8') for path in sorted(folder.glob('together-*.log')))
    return [int(code) for code in result.stdout.split()], log


def codes(instances: Sequence[Instance], seconds: float = 200) -> list[int]:
    """Wait for the end of all instances and return their exit codes."""
    return [instance.ended(seconds) for instance in instances]


def leaders(instances: Sequence[Instance]) -> list[Instance]:
    """Return the instances that have led."""
    return [instance for instance in instances if instance.has_led]


def logs(instances: Sequence[Instance]) -> str:
    """Return the output of all instances."""
    return '\n'.join(instance.text for instance in instances)


def head(url: str) -> object:
    """Return the database's revision."""
    return value(url, 'SELECT version_num FROM alembic_version')


def tables(url: str) -> set[str]:
    """Return the names of the database's tables."""
    return {str(name) for (name,) in rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def verdict(url: str, deploy: str = 'deploy-1') -> tuple[object, ...]:
    """Return status and attempt of a deploy."""
    (row,) = rows(url, 'SELECT status, attempt FROM migration_attempt WHERE deploy_id = %s', [deploy])
    return row


def sessions(url: str, state: str) -> list[object]:
    """Return the server's processes of leaders in a state, such as `idle in transaction`."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'migrate-leader-%%' AND state = %s"
    return [pid for (pid,) in rows(url, f'{query} AND datname = current_database()', [state])]
