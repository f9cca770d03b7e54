"""Step application: start, wait for and stop the container that serves."""

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
# From the start to the first answer; a small instance with cold disks needs some of it.
ANSWER_SECONDS = 60
POLL_SECONDS = 0.2


def start(machine: Machine) -> NoReturn:
    """Become the process that follows the application's container, which systemd watches and restarts.

    A running container of the right image is adopted, because a follower that was killed left it behind.
    """
    now = time.monotonic()
    boot_record.change(machine.boot_record, lambda record: record.with_application_started(now))
    command = _attach_command(machine) or _run_command(machine)
    # A small process replaces this one, which has loaded the AWS SDK.
    os.execv(sys.executable, container.followed(NAME, command))


def _attach_command(machine: Machine) -> list[str]:
    """Return the command that attaches to the application's container, nothing if none of the right image runs."""
    try:
        image = follow.image_of(NAME)
    except (follow.EngineLost, OSError) as error:
        raise StepFailed(str(error)) from None
    if image != machine.image.image_id:
        return []
    print(f'container {NAME} is already running and is kept', file=sys.stderr, flush=True)
    return follow.attach(NAME)


def _run_command(machine: Machine) -> list[str]:
    container.check_image(machine.image)
    container.remove(NAME)
    memory = Size.of_this_instance().application_memory
    return run_arguments(machine, machine.image, Container(NAME, memory))


def wait(machine: Machine) -> str:
    """Return when the application answers."""
    deadline = Deadline(ANSWER_SECONDS)
    port = probe.port(machine)
    instance = boot_record.read(machine.boot_record).instance_id
    with lifecycle.heartbeats(lifecycle.heartbeat_of(machine, instance)):
        _wait(port, deadline)
    return f'answers on port {port}'


def _wait(port: int, deadline: Deadline) -> None:
    while not probe.answers(port, '/livez'):
        if systemd.has_failed(UNIT):
            raise StepFailed(f'it ended before it answered: {systemd.last_lines(UNIT)}')
        if not deadline.left:
            raise StepFailed(f'/livez does not answer on port {port} within {ANSWER_SECONDS} s: '
                             f'{systemd.last_lines(UNIT)}')
        time.sleep(POLL_SECONDS)


def stop(_machine: Machine) -> str:
    """Stop the application after its last answers."""
    container.stop(NAME)
    return 'stopped'
