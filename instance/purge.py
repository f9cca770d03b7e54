"""Step purge: forget old visitors; a lock in the database lets only one instance do it."""

import json

from instance import container, subprocesses
from instance.container import COMMAND_MEMORY, Container, run_arguments
from instance.errors import StepFailed
from instance.machine import Machine

NAME = 'visitors-purge'
SECONDS = 3600


def run(machine: Machine) -> str:
    """Run `flask purge` if the installation has a retention, and return its last line."""
    if not machine.purge_settings.exists():
        return 'visitors are kept: PURGE_OLDER_THAN is not set'

    days = json.loads(machine.purge_settings.read_text(encoding='utf-8'))['older_than']
    container.check_image(machine.image)
    container.remove(NAME)
    command = run_arguments(machine, machine.image, Container(NAME, COMMAND_MEMORY),
                            ('flask', 'purge', '--older-than', str(days)))
    try:
        outcome = subprocesses.run(*container.followed(NAME, command), seconds=SECONDS)
    except StepFailed:
        container.stop(NAME)
        raise
    if outcome.code:
        raise StepFailed(f'flask purge ended with {outcome.code}: {outcome.last_line}')
    return subprocesses.last_line(outcome.stdout)
