"""Step ready: this machine proves itself, tells its group, and returns when its group's load balancer agrees."""

import time

from instance import boot, local, selftest
from instance.aws import Aws
from instance.boot import Deadline
from instance.errors import StepFailed
from instance.lifecycle import Hook, kept_waiting
from instance.machine import Machine

READY_SECONDS = 600
LOCAL_POLL, HOOK_POLL, HEALTH_POLL = 0.2, 2.0, 3.0
# What a group's instance is in while the hook waits, and where it is once the hook has been answered.
ANSWERED = ('Pending:Proceed', 'InService')
LEAVING = ('Terminat', 'Detach', 'Quarantined')


def run(machine: Machine) -> str:
    """Return what this machine has proved; in a self-test that is all, and it is turned off."""
    if machine.settings.selftest:
        return selftest.run(machine)

    record = boot.read(machine.boot_record)
    deadline = Deadline(min(READY_SECONDS, record.remaining(time.monotonic())))
    aws = Aws(machine.settings)
    hook = Hook(aws, machine.settings, record.instance_id) if machine.settings.lifecycle_hook else None
    with kept_waiting(hook.heartbeat if hook else None):
        _wait_for_application(machine, deadline)
        _check_version(machine)
        told = _tell(hook, deadline) if hook else 'no lifecycle hook is named, so no group was told'
    if hook:
        told += _wait_for_balancers(aws, hook, record.instance_id, deadline)
    machine.served.touch()
    return f'{machine.image.version} serves; {told}'


def _wait_for_application(machine: Machine, deadline: Deadline) -> None:
    port = local.port(machine)
    while True:
        try:
            status, text = local.get(port, '/readyz')
            if status == 200:
                return
            missing = f'/readyz answers {status}: {text.strip()}'
        except StepFailed as error:
            missing = error.reason
        deadline.wait(LOCAL_POLL, missing)


def _check_version(machine: Machine) -> None:
    answered = local.get_json(local.port(machine), '/version').get('version')
    if answered != machine.image.version:
        raise StepFailed(f'the application says that it is {answered}, image.json that it is {machine.image.version}')


def _tell(hook: Hook, deadline: Deadline) -> str:
    return f'{hook.group} {"goes on" if _complete(hook, deadline) else "was told before"}'


def _complete(hook: Hook, deadline: Deadline) -> bool:
    """Tell the group to go on, as soon as it waits for that; return whether it still did."""
    while not hook.complete('CONTINUE'):
        # Too early, or it has been told: by this machine before it was restarted, or by somebody else.
        state = hook.state
        if state in ANSWERED:
            return False
        if state.startswith(LEAVING):
            raise StepFailed(f'{hook.group} is giving this machine up: it is {state}')
        deadline.wait(HOOK_POLL, f'{hook.group} does not wait for its lifecycle hook, this machine is {state}')
    return True


def _wait_for_balancers(aws: Aws, hook: Hook, instance: str, deadline: Deadline) -> str:
    groups = aws.target_groups(hook.group)
    for group in groups:
        _wait_for_health(aws, group, instance, deadline)
    return f', healthy in {len(groups)} target group{"" if len(groups) == 1 else "s"}'


def _wait_for_health(aws: Aws, group: str, instance: str, deadline: Deadline) -> None:
    while True:
        health = aws.health(group, instance)
        if health.state == 'healthy':
            return
        deadline.wait(HEALTH_POLL, f'{group.rpartition(":")[2]} says {health.state}: {health.why}')
