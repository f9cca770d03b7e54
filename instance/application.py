"""Step application: the container that serves, from its start to its last answer."""

import os
import sys
import time
from typing import NoReturn

from instance import boot_record, container, follow, lifecycle, probe, systemd
from instance.container import Container, run_arguments, Size
from instance.deadline import Deadline
from instance.errors import StepFailed
from instance.machine import Machine

NAME, UNIT = 'visitors', 'visitors.service'
# From its start to its first answer; a small machine with cold disks needs some.
ANSWER_SECONDS = 60
POLL_SECONDS = 0.2


def start(machine: Machine) -> NoReturn:
    """Become the process that follows the application's container: systemd watches it, and restarts it when it dies.

    A container of the right image that runs already is adopted: it was left by a follower that was killed.
    """
    now = time.monotonic()
    boot_record.change(machine.boot_record, lambda record: record.with_application_started(now))
    command = _adoption(machine) or _beginning(machine)
    # A small process instead of this one, which has loaded the AWS SDK.
    os.execv(sys.executable, container.followed(NAME, command))


def _adoption(machine: Machine) -> list[str]:
    """Return the command that follows the application's container, nothing if none of the right image runs."""
    try:
        image = follow.image_of(NAME)
    except (follow.EngineLost, OSError) as error:
        raise StepFailed(str(error)) from None
    if image != machine.image.image_id:
        return []
    print(f'container {NAME} runs already and is kept', file=sys.stderr, flush=True)
    return follow.attach(NAME)


def _beginning(machine: Machine) -> list[str]:
    container.check_image(machine.image)
    container.remove(NAME)
    memory = Size.of_this_machine().application_memory
    return run_arguments(machine, machine.image, Container(NAME, memory))


def wait(machine: Machine) -> str:
    """Return when the application answers."""
    deadline = Deadline(ANSWER_SECONDS)
    port = probe.port(machine)
    with lifecycle.kept_waiting(lifecycle.heartbeat_of(machine, boot_record.read(machine.boot_record).instance_id)):
        _wait(port, deadline)
    return f'answers on port {port}'


def _wait(port: int, deadline: Deadline) -> None:
    while not probe.answers(port, '/livez'):
        if systemd.has_failed(UNIT):
            raise StepFailed(f'it ended before it answered: {systemd.last_words(UNIT)}')
        if not deadline.left:
            raise StepFailed(f'/livez does not answer on port {port} within {ANSWER_SECONDS} s: '
                             f'{systemd.last_words(UNIT)}')
        time.sleep(POLL_SECONDS)


def stop(_machine: Machine) -> str:
    """Let the application finish its answers and end, and return when it has."""
    container.stop(NAME)
    return 'stopped'
