"""The record of a boot: how long each phase took, how it ended, and until when all of it must be done."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
import json
import os
from pathlib import Path

# From config's start. Nobody waits longer for a machine; what is slower has to be done before a deploy.
BOOT_SECONDS = 1200
# The phases of a boot in their order, as the record and the console name them.
PHASES = ('power-on', 'network', 'config', 'migrate', 'application', 'ready')
# The phase that each unit's failure ends. The user data comes first: a failure before our target starts has no record.
PHASE_OF_UNIT = {'cloud-final.service': 'user data', 'visitors-config.service': 'config',
                 'visitors-migrate.service': 'migrate', 'visitors.service': 'application',
                 'visitors-ready.service': 'ready'}
# The phase that each step ends; a step that is not here belongs to no phase.
PHASE_OF_STEP = {'config': 'config', 'migrate': 'migrate', 'application start': 'application',
                 'application wait': 'application', 'ready': 'ready'}


@dataclass(frozen=True)
class Phase:
    """One phase of a boot, and what came of it."""

    phase: str
    seconds: float
    outcome: str


@dataclass(frozen=True)
class Failure:
    """Which phase has ended a boot, with which exit code, and why."""

    phase: str
    code: int
    reason: str


@dataclass(frozen=True)
class BootRecord:
    """What is known of this boot: moments are seconds of the monotonic clock, which is the same for all steps."""

    power_on: float = 0.0
    started: float = 0.0
    application_started: float = 0.0
    version: str = ''
    instance_id: str = ''
    deploy_id: str = ''
    phases: tuple[Phase, ...] = ()
    failure: Failure | None = None

    def with_phase(self, phase: Phase) -> 'BootRecord':
        """Return the record with one phase done; what it was before, failed perhaps, no longer counts."""
        others = tuple(each for each in self.phases if each.phase != phase.phase)
        failure = None if self.failure and self.failure.phase == phase.phase else self.failure
        return replace(self, phases=(*others, phase), failure=failure)

    def with_failure(self, failure: Failure) -> 'BootRecord':
        """Return the record with what has ended the boot; the first failure stays, the others follow from it."""
        return self if self.failure else replace(self, failure=failure)

    def named(self, version: str, known: Mapping[str, str]) -> 'BootRecord':
        """Return the record with what this machine is."""
        return replace(self, version=version, instance_id=known['INSTANCE_ID'], deploy_id=known.get('DEPLOY_ID', ''))

    def with_application_started(self, now: float) -> 'BootRecord':
        """Return the record with the moment when the application's container was started."""
        return replace(self, application_started=now)

    def remaining(self, now: float) -> float:
        """Return how many seconds are left until the boot must be done; 0 when none are."""
        return max(0.0, self.started + BOOT_SECONDS - now)


def read(path: Path) -> BootRecord:
    """Return the record of this boot, an empty one where none was written yet."""
    try:
        known = json.loads(path.read_text(encoding='utf-8'))
        failure = known.pop('failure')
        phases = tuple(Phase(**phase) for phase in known.pop('phases'))
        return BootRecord(**known, phases=phases, failure=Failure(**failure) if failure else None)
    except (OSError, ValueError, KeyError, TypeError):
        return BootRecord()


def write(path: Path, boot: BootRecord) -> None:
    """Write the record of this boot, complete at once; who reads it meanwhile sees the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}')
    partial.write_text(json.dumps(asdict(boot), indent=2) + '\n', encoding='utf-8')
    partial.replace(path)


def change(path: Path, change_it: Callable[[BootRecord], BootRecord]) -> None:
    """Change the record of this boot."""
    write(path, change_it(read(path)))


def console_line(phase: Phase, code: int = 0) -> str:
    """Return the line that the console shows of a phase."""
    verdict = f'FAILED ({code}): ' if code else ''
    return f'visitors {phase.phase}: {phase.seconds:.2f} s: {verdict}{phase.outcome}'
