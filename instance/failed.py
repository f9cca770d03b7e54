"""Step failed: report why this instance cannot serve, abandon its launch hook, and turn it off.

Nothing here may prevent the power-off: each act has a time limit, and the power-off needs none of them to succeed.
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
IMPATIENT = Patience(connect=2, answer=4, seconds=10)
# Exit codes of a migration that any other instance of this deploy would end with as well.
MIGRATION_CODES = (20, 22, 23, 24)


@dataclass(frozen=True)
class UnitEnd:
    """The end of a unit: its result and exit code by systemd, and the last lines of its output."""

    name: str
    result: str
    status: str
    last_lines: str


def run(machine: Machine) -> str:
    """Report the failure, and turn this instance off even if the report fails."""
    try:
        _report(machine)
    except Exception as error:
        print(f'failed: {message_of(error)}', file=sys.stderr, flush=True)
    finally:
        systemd.power_off()
    return 'turning off'


def metric_of(failure: Failure) -> str:
    """Return the metric of a failure: a migration's verdict stops a deploy, any other failure may be bad luck."""
    is_verdict = failure.phase == 'migrate' and failure.code in MIGRATION_CODES
    return 'MigrationFailed' if is_verdict else 'BootFailed'


def dimensions_of(user_data: UserData) -> list[dict[str, str]]:
    """Return the sets of dimensions of a failure: its deploy, its group for the alarm on all deploys, and none."""
    deploy, group = user_data.deploy_id, user_data.auto_scaling_group
    return [*([{'DeployId': deploy}] if deploy else []), *([{'AutoScalingGroupName': group}] if group else []), {}]


def failure_of(units: Sequence[UnitEnd]) -> Failure:
    """Return the failure of the first unit that failed, for a boot without a recorded failure."""
    for unit in units:
        if unit.result not in ('', 'success'):
            return Failure(PHASE_OF_UNIT[unit.name], int(unit.status) if unit.status.isdecimal() else FAILED,
                           f'{unit.name} ended with {unit.result}, exit code {unit.status}: {unit.last_lines}')
    return Failure('boot', FAILED, f'not ready within {boot_record.BOOT_SECONDS} s')


def _report(machine: Machine) -> None:
    record = boot_record.read(machine.boot_record)
    failure = record.failure or failure_of(_units())
    user_data, problem = _user_data(machine)
    if user_data.selftest:
        print(f'SELFTEST FAILED {failure.phase}: {failure.reason}', flush=True)
        return

    print(f'visitors FAILED in {failure.phase}: {failure.reason}{problem}; turning off', flush=True)
    _run_all([
        ('metric', lambda: Aws(user_data, IMPATIENT).count(metric_of(failure), dimensions_of(user_data))),
        ('lifecycle hook', lambda: _abandon(user_data, record)),
    ], SECONDS)


def _units() -> list[UnitEnd]:
    try:
        return [_unit(name) for name in PHASE_OF_UNIT]
    except StepFailed as error:
        print(f'failed: {error}', file=sys.stderr, flush=True)
        return []


def _unit(name: str) -> UnitEnd:
    properties = systemd.properties('Result', 'ExecMainStatus', unit=name)
    return UnitEnd(name, properties.get('Result', ''), properties.get('ExecMainStatus', ''), systemd.last_lines(name))


def _user_data(machine: Machine) -> tuple[UserData, str]:
    """Return the user data, or its legible part and the problem with the rest."""
    try:
        return machine.user_data, ''
    except StepFailed as error:
        legible = machine.legible_user_data
        return replace(legible, region=legible.region or _region()), f' ({error})'


def _region() -> str:
    try:
        return Metadata(seconds=0).fetch_region()
    except StepFailed:
        return ''


def _abandon(user_data: UserData, record: BootRecord) -> None:
    if not user_data.lifecycle_hook:
        return
    instance = record.instance_id or Metadata(seconds=IMPATIENT.seconds).fetch_instance_id()
    Hook(Aws(user_data, IMPATIENT), user_data, instance).complete('ABANDON')


def _run_all(acts: Sequence[tuple[str, Callable[[], None]]], seconds: float) -> None:
    """Run all acts at the same time, print their results, and leave those behind that are not done in time."""
    deadline = Deadline(seconds)
    threads = [(name, threading.Thread(target=_run, args=(name, act), daemon=True)) for name, act in acts]
    for _, thread in threads:
        thread.start()
    for name, thread in threads:
        thread.join(deadline.left)
        if thread.is_alive():
            print(f'{name}: not within {seconds:.0f} s', file=sys.stderr, flush=True)


def _run(name: str, act: Callable[[], None]) -> None:
    try:
        act()
    except Exception as error:
        print(f'{name}: {message_of(error)}', file=sys.stderr, flush=True)
    else:
        print(f'{name}: done', file=sys.stderr, flush=True)
