"""Step ready: check this instance, complete its launch hook, and wait until its target groups report it healthy."""

from collections.abc import Callable, Sequence
from functools import partial
import sys
import time
from typing import TypeVar

from instance import boot_record, probe, selftest
from instance.aws import Aws, AwsFailed
from instance.deadline import Deadline
from instance.errors import StepFailed
from instance.lifecycle import heartbeats, Hook, is_aside, is_leaving, NO_GROUP, SERVING
from instance.machine import Machine

READY_SECONDS = 600
LOCAL_POLL, HOOK_POLL, HEALTH_POLL = 0.2, 2.0, 3.0
Result = TypeVar('Result')
# The outcomes of the hook after which the load balancers decide.
COMPLETED, COMPLETED_BEFORE = 'hook completed', 'hook was completed before'
IN_SERVICE = (COMPLETED, COMPLETED_BEFORE)


def run(machine: Machine) -> str:
    """Check this instance and return a summary; SELFTEST=1 runs the self-test instead, which ends in a power-off."""
    if machine.user_data.selftest:
        return selftest.run(machine)

    record = boot_record.read(machine.boot_record)
    deadline = Deadline(min(READY_SECONDS, record.remaining(time.monotonic())))
    aws = Aws(machine.user_data)
    hook = Hook(aws, machine.user_data, record.instance_id) if machine.user_data.lifecycle_hook else None
    with heartbeats(hook.heartbeat if hook else None):
        _wait_for_application(machine, deadline)
        _check_version(machine)
        outcome = _complete_hook(machine, aws, hook, deadline) if hook else 'no lifecycle hook to complete'
    if hook and outcome in IN_SERVICE:
        outcome = f'{hook.find_group()}: {outcome}, {_wait_for_balancers(aws, hook, record.instance_id, deadline)}'
    machine.served.touch()
    return f'{machine.image.version} serves; {outcome}'


def _wait_for_application(machine: Machine, deadline: Deadline) -> None:
    port = probe.port(machine)
    while True:
        try:
            status, text = probe.get(port, '/readyz')
            if status == 200:
                return
            missing = f'/readyz answers {status}: {text.strip()}'
        except StepFailed as error:
            missing = error.message
        deadline.wait(LOCAL_POLL, missing)


def _check_version(machine: Machine) -> None:
    version = probe.get_json(probe.port(machine), '/version').get('version')
    if version != machine.image.version:
        raise StepFailed(f'/version answers {version}, image.json has {machine.image.version}')


def _complete_hook(machine: Machine, aws: Aws, hook: Hook, deadline: Deadline) -> str:
    """Complete the hook unless that happened before, and return the outcome."""
    state = _retry(deadline, hook.fetch_state)
    if state == NO_GROUP and _was_completed(machine):
        return 'this instance left its group'
    if is_aside(state) and state != NO_GROUP:
        return _aside(hook, state)
    if state in SERVING:
        return COMPLETED_BEFORE
    # CONTINUE puts this instance into service, so the permission for the calls after it is checked before it.
    for group in _retry(deadline, lambda: aws.target_groups(hook.find_group())):
        _retry(deadline, partial(aws.health, group, hook.instance))
    outcome = _continue(hook, deadline)
    machine.answered.parent.mkdir(parents=True, exist_ok=True)
    machine.answered.write_text(hook.instance, encoding='utf-8')
    return outcome


def _retry(deadline: Deadline, fetch: Callable[[], Result]) -> Result:
    """Return AWS's answer; retry a transient failure until the deadline."""
    while True:
        try:
            return fetch()
        except AwsFailed as error:
            if not error.is_transient:
                raise
            deadline.wait(HOOK_POLL, error.message)


def _was_completed(machine: Machine) -> bool:
    """Return whether this instance completed its hook at an earlier boot; its disk may be a copy of another one's."""
    try:
        return machine.answered.read_text(encoding='utf-8') == boot_record.read(machine.boot_record).instance_id
    except OSError:
        return False


def _aside(hook: Hook, state: str) -> str:
    return f'{hook.find_group()} has set this instance aside (state {state})'


def _continue(hook: Hook, deadline: Deadline) -> str:
    """Complete the hook with CONTINUE as soon as it waits, and return the outcome."""
    while True:
        if _retry(deadline, lambda: hook.complete('CONTINUE')):
            return COMPLETED
        # The hook does not wait yet, or it was completed: by a call whose answer was lost, or by another caller.
        state = _retry(deadline, hook.fetch_state)
        if state in SERVING:
            return COMPLETED_BEFORE
        if is_leaving(state):
            raise StepFailed(f'{hook.find_group()} removes this instance (state {state})')
        if is_aside(state) and state != NO_GROUP:
            return _aside(hook, state)
        deadline.wait(HOOK_POLL, f'the lifecycle hook of {hook.find_group()} does not wait (state {state})')


def _wait_for_balancers(aws: Aws, hook: Hook, instance: str, deadline: Deadline) -> str:
    """Return when all target groups report this instance healthy, or when its group has set it aside.

    The instance is in service by now, so a failed call is no verdict and is retried until the deadline.
    """
    groups: list[str] | None = None
    last_failure = ''
    while True:
        try:
            groups = aws.target_groups(hook.find_group()) if groups is None else groups
            missing = _unhealthy(aws, groups, instance)
            if not missing:
                return f'healthy in {len(groups)} target group{"" if len(groups) == 1 else "s"}'
            state = hook.fetch_state()
        except AwsFailed as error:
            missing, state = error.message, ''
            if missing != last_failure:
                print(f'ready: retrying: {missing}', file=sys.stderr, flush=True)
            last_failure = missing
        if is_leaving(state):
            raise StepFailed(f'{hook.find_group()} removes this instance (state {state})')
        if state and is_aside(state):
            return f'set aside meanwhile (state {state})'
        deadline.wait(HEALTH_POLL, missing)


def _unhealthy(aws: Aws, groups: Sequence[str], instance: str) -> str:
    """Return the report of the first target group in which this instance is not healthy, nothing if it is healthy."""
    for group in groups:
        health = aws.health(group, instance)
        if health.state != 'healthy':
            return f'{group.rpartition(":")[2]} reports {health.state}: {health.reason}'
    return ''
