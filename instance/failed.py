"""Step failed: this machine cannot serve. It says why, gives its place in the group free, and turns itself off.

Nothing here may keep it from that: each act has its own time, and turning off waits for none of them to succeed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import sys
import threading

from instance import boot_record, systemd
from instance.aws import Aws, Patience
from instance.boot_record import BootRecord, Failure, PHASE_OF_UNIT
from instance.deadline import Deadline
from instance.errors import FAILED, message_of, StepFailed
from instance.lifecycle import Hook
from instance.machine import Machine
from instance.metadata import Metadata
from instance.user_data import UserData

SECONDS = 30
HURRY = Patience(connect=2, answer=4, seconds=10)
# What no other machine of this deploy would do better.
MIGRATION_CODES = (20, 22, 23, 24)


@dataclass(frozen=True)
class UnitEnd:
    """How a unit has ended, in systemd's words and in its own."""

    name: str
    result: str
    status: str
    last_words: str


def run(machine: Machine) -> str:
    """Tell what has failed to whom it concerns, and turn this machine off whatever comes of that."""
    try:
        _tell(machine)
    except Exception as error:
        print(f'failed: {message_of(error)}', file=sys.stderr, flush=True)
    finally:
        systemd.power_off()
    return 'turning off'


def metric_of(failure: Failure) -> str:
    """Return the metric that counts a failure: a migration's verdict stops a deploy, anything else may be bad luck."""
    verdict = failure.phase == 'migrate' and failure.code in MIGRATION_CODES
    return 'MigrationFailed' if verdict else 'BootFailed'


def dimensions_of(settings: UserData) -> list[dict[str, str]]:
    """Return how a failure is counted: for its deploy, and again for the alarm that watches all of them."""
    return [{'DeployId': settings.deploy_id}, {}] if settings.deploy_id else [{}]


def failure_of(units: Sequence[UnitEnd]) -> Failure:
    """Return what has failed by how the units ended, in their order, where no step has written it down."""
    for unit in units:
        if unit.result not in ('', 'success'):
            return Failure(PHASE_OF_UNIT[unit.name], int(unit.status) if unit.status.isdecimal() else FAILED,
                           f'{unit.name} ended with {unit.result}, exit code {unit.status}: {unit.last_words}')
    return Failure('boot', FAILED, f'not ready within {boot_record.BOOT_SECONDS} s')


def _tell(machine: Machine) -> None:
    record = boot_record.read(machine.boot_record)
    failure = record.failure or failure_of(_units())
    settings, problem = _settings(machine)
    if settings.selftest:
        print(f'SELFTEST FAILED {failure.phase}: {failure.reason}', flush=True)
        return

    print(f'visitors FAILED in {failure.phase}: {failure.reason}{problem}; turning off', flush=True)
    _all_at_once([
        ('metric', lambda: Aws(settings, HURRY).count(metric_of(failure), dimensions_of(settings))),
        ('lifecycle hook', lambda: _abandon(settings, record)),
    ], SECONDS)


def _units() -> list[UnitEnd]:
    try:
        return [_unit(name) for name in PHASE_OF_UNIT]
    except StepFailed as error:
        print(f'failed: {error}', file=sys.stderr, flush=True)
        return []


def _unit(name: str) -> UnitEnd:
    known = systemd.properties('Result', 'ExecMainStatus', unit=name)
    return UnitEnd(name, known.get('Result', ''), known.get('ExecMainStatus', ''), systemd.last_words(name))


def _settings(machine: Machine) -> tuple[UserData, str]:
    """Return what the user data has told, or as much of it as can be read and what is wrong with it."""
    try:
        return machine.user_data, ''
    except StepFailed as error:
        known = machine.legible_user_data
        return replace(known, region=known.region or _region()), f' ({error})'


def _region() -> str:
    try:
        return Metadata(seconds=0).fetch_region()
    except StepFailed:
        return ''


def _abandon(settings: UserData, record: BootRecord) -> None:
    if not settings.lifecycle_hook:
        return
    instance = record.instance_id or Metadata(seconds=HURRY.seconds).fetch_instance_id()
    Hook(Aws(settings, HURRY), settings, instance).complete('ABANDON')


def _all_at_once(acts: Sequence[tuple[str, Callable[[], None]]], seconds: float) -> None:
    """Do all of this at the same time and for so long; what hangs is left behind, what fails is told."""
    deadline = Deadline(seconds)
    threads = [(name, threading.Thread(target=_told, args=(name, act), daemon=True)) for name, act in acts]
    for _, thread in threads:
        thread.start()
    for name, thread in threads:
        thread.join(deadline.left)
        if thread.is_alive():
            print(f'{name}: not within {seconds:.0f} s', file=sys.stderr, flush=True)


def _told(name: str, act: Callable[[], None]) -> None:
    try:
        act()
    except Exception as error:
        print(f'{name}: {message_of(error)}', file=sys.stderr, flush=True)
    else:
        print(f'{name}: done', file=sys.stderr, flush=True)
