"""Step ready: this machine proves itself, tells its group, and returns when its group's load balancer agrees."""

from collections.abc import Callable, Sequence
from functools import partial
import sys
import time
from typing import TypeVar

from instance import boot_record, probe, selftest
from instance.aws import Aws, AwsFailed
from instance.deadline import Deadline
from instance.errors import StepFailed
from instance.lifecycle import Hook, is_aside, is_leaving, kept_waiting, NO_GROUP, SERVING
from instance.machine import Machine

READY_SECONDS = 600
LOCAL_POLL, HOOK_POLL, HEALTH_POLL = 0.2, 2.0, 3.0
Result = TypeVar('Result')
# How a group has taken CONTINUE, where its load balancers come next.
GOES_ON, TOLD_BEFORE = 'goes on', 'was told before'
FOLLOWED = (GOES_ON, TOLD_BEFORE)


def run(machine: Machine) -> str:
    """Return what this machine has proved; in a self-test that is all, and it is turned off."""
    if machine.user_data.selftest:
        return selftest.run(machine)

    record = boot_record.read(machine.boot_record)
    deadline = Deadline(min(READY_SECONDS, record.remaining(time.monotonic())))
    aws = Aws(machine.user_data)
    hook = Hook(aws, machine.user_data, record.instance_id) if machine.user_data.lifecycle_hook else None
    with kept_waiting(hook.heartbeat if hook else None):
        _wait_for_application(machine, deadline)
        _check_version(machine)
        told = _tell(machine, aws, hook, deadline) if hook else 'no lifecycle hook is named, so no group was told'
    if hook and told in FOLLOWED:
        told = f'{hook.find_group()} {told}, {_wait_for_balancers(aws, hook, record.instance_id, deadline)}'
    machine.served.touch()
    return f'{machine.image.version} serves; {told}'


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
    answered = probe.get_json(probe.port(machine), '/version').get('version')
    if answered != machine.image.version:
        raise StepFailed(f'the application says that it is {answered}, image.json that it is {machine.image.version}')


def _tell(machine: Machine, aws: Aws, hook: Hook, deadline: Deadline) -> str:
    """Tell the group to go on, and return how that went."""
    state = _asked(deadline, hook.fetch_state)
    if state == NO_GROUP and _was_answered(machine):
        return 'it has left its group'
    if is_aside(state) and state != NO_GROUP:
        return _aside(hook, state)
    if state in SERVING:
        return TOLD_BEFORE
    # Afterwards this machine is in service, so what it asks then has to be allowed now.
    for group in _asked(deadline, lambda: aws.target_groups(hook.find_group())):
        _asked(deadline, partial(aws.health, group, hook.instance))
    told = _complete(hook, deadline)
    machine.answered.parent.mkdir(parents=True, exist_ok=True)
    machine.answered.write_text(hook.instance, encoding='utf-8')
    return told


def _asked(deadline: Deadline, ask: Callable[[], Result]) -> Result:
    """Return what AWS answers; what may pass is asked again until the deadline."""
    while True:
        try:
            return ask()
        except AwsFailed as error:
            if not error.passing:
                raise
            deadline.wait(HOOK_POLL, error.message)


def _was_answered(machine: Machine) -> bool:
    """Return whether this very instance has answered its hook once; its disk may be another one's copy."""
    try:
        return machine.answered.read_text(encoding='utf-8') == boot_record.read(machine.boot_record).instance_id
    except OSError:
        return False


def _aside(hook: Hook, state: str) -> str:
    return f'{hook.find_group()} has set this machine aside: it is {state}'


def _complete(hook: Hook, deadline: Deadline) -> str:
    """Tell the group to go on, as soon as it waits for that; return whether it still did."""
    while True:
        if _asked(deadline, lambda: hook.complete('CONTINUE')):
            return GOES_ON
        # Too early, or it has been told: just now with an answer that was lost, or by somebody else.
        state = _asked(deadline, hook.fetch_state)
        if state in SERVING:
            return TOLD_BEFORE
        if is_leaving(state):
            raise StepFailed(f'{hook.find_group()} is giving this machine up: it is {state}')
        if is_aside(state) and state != NO_GROUP:
            return _aside(hook, state)
        deadline.wait(HOOK_POLL, f'{hook.find_group()} does not wait for its lifecycle hook, this machine is {state}')


def _wait_for_balancers(aws: Aws, hook: Hook, instance: str, deadline: Deadline) -> str:
    """Return when all target groups find this machine healthy, or when its group has set it aside.

    It is in service by now. What cannot be asked is no verdict, and is asked again until the deadline.
    """
    groups: list[str] | None = None
    said = ''
    while True:
        try:
            groups = aws.target_groups(hook.find_group()) if groups is None else groups
            missing = _missing(aws, groups, instance)
            if not missing:
                return f'healthy in {len(groups)} target group{"" if len(groups) == 1 else "s"}'
            state = hook.fetch_state()
        except AwsFailed as error:
            missing, state = error.message, ''
            if missing != said:
                print(f'ready: asking again: {missing}', file=sys.stderr, flush=True)
            said = missing
        if is_leaving(state):
            raise StepFailed(f'{hook.find_group()} is giving this machine up: it is {state}')
        if state and is_aside(state):
            return f'set aside meanwhile: it is {state}'
        deadline.wait(HEALTH_POLL, missing)


def _missing(aws: Aws, groups: Sequence[str], instance: str) -> str:
    """Return what the first target group says that does not find this machine healthy; nothing if all do."""
    for group in groups:
        health = aws.health(group, instance)
        if health.state != 'healthy':
            return f'{group.rpartition(":")[2]} says {health.state}: {health.why}'
    return ''
