"""The record of a boot: its phases with their duration and outcome, its failure, and its time limit."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
import json
import os
from pathlib import Path

# Counted from the start of the step config. A migration that needs longer must run before the deploy.
BOOT_SECONDS = 1200
# The phases of a boot in their order, as the record and the console name them.
PHASES = ('power-on', 'network', 'config', 'migrate', 'application', 'ready')
# The phase that a unit's failure ends. The user data is the first, because no step records its failure.
PHASE_OF_UNIT = {'cloud-final.service': 'user data', 'visitors-config.service': 'config',
                 'visitors-migrate.service': 'migrate', 'visitors.service': 'application',
                 'visitors-ready.service': 'ready'}
# The phase that a step ends. A step that is not here ends no phase.
PHASE_OF_STEP = {'config': 'config', 'migrate': 'migrate', 'application start': 'application',
                 'application wait': 'application', 'ready': 'ready'}


@dataclass(frozen=True)
class Phase:
    """A phase of a boot with its duration and outcome."""

    phase: str
    seconds: float
    outcome: str


@dataclass(frozen=True)
class Failure:
    """The failure that ended a boot: its phase, exit code and reason."""

    phase: str
    code: int
    reason: str


@dataclass(frozen=True)
class BootRecord:
    """The record of this boot; its moments are seconds of the monotonic clock, which all steps share."""

    power_on: float = 0.0
    started: float = 0.0
    application_started: float = 0.0
    version: str = ''
    instance_id: str = ''
    deploy_id: str = ''
    phases: tuple[Phase, ...] = ()
    failure: Failure | None = None

    def with_phase(self, phase: Phase) -> 'BootRecord':
        """Return the record with a completed phase, which replaces an earlier outcome or failure of the same phase."""
        others = tuple(each for each in self.phases if each.phase != phase.phase)
        failure = None if self.failure and self.failure.phase == phase.phase else self.failure
        return replace(self, phases=(*others, phase), failure=failure)

    def with_failure(self, failure: Failure) -> 'BootRecord':
        """Return the record with a failure; the first one stays, because it causes the later ones."""
        return self if self.failure else replace(self, failure=failure)

    def with_identity(self, version: str, variables: Mapping[str, str]) -> 'BootRecord':
        """Return the record with the version, the instance and the deploy."""
        return replace(self, version=version, instance_id=variables['INSTANCE_ID'],
                       deploy_id=variables.get('DEPLOY_ID', ''))

    def with_application_started(self, now: float) -> 'BootRecord':
        """Return the record with the start of the application's container."""
        return replace(self, application_started=now)

    def remaining(self, now: float) -> float:
        """Return the seconds that are left for the boot, 0 if it is over time."""
        return max(0.0, self.started + BOOT_SECONDS - now)


def read(path: Path) -> BootRecord:
    """Return the record of this boot, an empty one if none exists yet."""
    try:
        fields = json.loads(path.read_text(encoding='utf-8'))
        failure = fields.pop('failure')
        phases = tuple(Phase(**phase) for phase in fields.pop('phases'))
        return BootRecord(**fields, phases=phases, failure=Failure(**failure) if failure else None)
    except (OSError, ValueError, KeyError, TypeError):
        return BootRecord()


def write(path: Path, record: BootRecord) -> None:
    """Replace the record of this boot atomically: a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}')
    partial.write_text(json.dumps(asdict(record), indent=2) + '\n', encoding='utf-8')
    partial.replace(path)


def change(path: Path, amend: Callable[[BootRecord], BootRecord]) -> None:
    """Replace the record of this boot by an amended one."""
    write(path, amend(read(path)))


def console_line(phase: Phase, code: int = 0) -> str:
    """Return the line of a phase for the console."""
    verdict = f'FAILED ({code}): ' if code else ''
    return f'visitors {phase.phase}: {phase.seconds:.2f} s: {verdict}{phase.outcome}'
