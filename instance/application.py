"""Step application: the container that serves, from its start to its last answer."""

import os
import time
from typing import NoReturn

from instance import boot, container, lifecycle, local, systemd
from instance.boot import Deadline
from instance.container import Container, run_arguments, Size
from instance.errors import StepFailed
from instance.machine import Machine

NAME, UNIT = 'visitors', 'visitors.service'
# From its start to its first answer; a small machine with cold disks needs some.
ANSWER_SECONDS = 60
POLL_SECONDS = 0.2


def start(machine: Machine) -> NoReturn:
    """Become the docker command that runs the application: systemd watches it, and restarts it when it dies."""
    now = time.monotonic()
    boot.change(machine.boot_record, lambda record: record.with_application_started(now))
    container.check_image(machine.image)
    container.remove(NAME)
    memory = Size.of_this_machine().application_memory
    command = run_arguments(machine, machine.image, Container(NAME, memory))
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise StepFailed(f'{command[0]} cannot be started: {error.strerror}') from None


def wait(machine: Machine) -> str:
    """Return when the application answers."""
    deadline = Deadline(ANSWER_SECONDS)
    port = local.port(machine)
    with lifecycle.kept_waiting(lifecycle.heartbeat_of(machine, boot.read(machine.boot_record).instance_id)):
        _wait(port, deadline)
    return f'answers on port {port}'


def _wait(port: int, deadline: Deadline) -> None:
    while not local.answers(port, '/livez'):
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
