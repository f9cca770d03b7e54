"""The record of a boot: how long each phase took, how it ended, and until when all of it must be done."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
import json
import os
from pathlib import Path
import time

from instance.errors import StepFailed

# From config's start. Nobody waits longer for a machine; what is slower has to be done before a deploy.
BOOT_SECONDS = 1200
PHASES = ('power-on', 'network', 'config', 'migrate', 'application', 'ready')


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
class Boot:
    """What is known of this boot: moments are seconds of the monotonic clock, which is the same for all steps."""

    power_on: float = 0.0
    started: float = 0.0
    application_started: float = 0.0
    version: str = ''
    instance_id: str = ''
    deploy_id: str = ''
    phases: tuple[Phase, ...] = ()
    failure: Failure | None = None

    def with_phase(self, phase: Phase) -> 'Boot':
        """Return the record with one phase done; what it was before, failed perhaps, no longer counts."""
        others = tuple(each for each in self.phases if each.phase != phase.phase)
        failure = None if self.failure and self.failure.phase == phase.phase else self.failure
        return replace(self, phases=(*others, phase), failure=failure)

    def with_failure(self, failure: Failure) -> 'Boot':
        """Return the record with what has ended the boot; the first failure stays, the others follow from it."""
        return self if self.failure else replace(self, failure=failure)

    def named(self, version: str, known: Mapping[str, str]) -> 'Boot':
        """Return the record with what this machine is."""
        return replace(self, version=version, instance_id=known['INSTANCE_ID'], deploy_id=known.get('DEPLOY_ID', ''))

    def with_application_started(self, now: float) -> 'Boot':
        """Return the record with the moment when the application's container was started."""
        return replace(self, application_started=now)

    def remaining(self, now: float) -> float:
        """Return how many seconds are left until the boot must be done; 0 when none are."""
        return max(0.0, self.started + BOOT_SECONDS - now)


def read(path: Path) -> Boot:
    """Return the record of this boot, an empty one where none was written yet."""
    try:
        known = json.loads(path.read_text(encoding='utf-8'))
        failure = known.pop('failure')
        phases = tuple(Phase(**phase) for phase in known.pop('phases'))
        return Boot(**known, phases=phases, failure=Failure(**failure) if failure else None)
    except (OSError, ValueError, KeyError, TypeError):
        return Boot()


def write(path: Path, boot: Boot) -> None:
    """Write the record of this boot, complete at once; who reads it meanwhile sees the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}')
    partial.write_text(json.dumps(asdict(boot), indent=2) + '\n', encoding='utf-8')
    partial.replace(path)


def change(path: Path, change_it: Callable[[Boot], Boot]) -> None:
    """Change the record of this boot."""
    write(path, change_it(read(path)))


def line(phase: Phase, code: int = 0) -> str:
    """Return the line that the console shows of a phase."""
    verdict = f'FAILED ({code}): ' if code else ''
    return f'visitors {phase.phase}: {phase.seconds:.2f} s: {verdict}{phase.outcome}'


class Deadline:
    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """End so many seconds from now."""
        self._clock = clock
        self._at = clock() + seconds
        self.seconds = seconds

    @property
    def left(self) -> float:
        """How many seconds are left, 0 when none are."""
        return max(0.0, self._at - self._clock())

    def wait(self, seconds: float, missing: str) -> None:
        """Sleep before the next try; raise StepFailed, saying what is missing, when there is no time for one."""
        if self.left <= 0:
            raise StepFailed(f'not within {self.seconds:.0f} s: {missing}')
        time.sleep(min(seconds, self.left))
