"""Step purge: forget visitors who have not come for a long time; a lock in the database lets one machine do it."""

import json

from instance import container, subprocesses
from instance.container import COMMAND_MEMORY, Container, run_arguments
from instance.errors import StepFailed
from instance.machine import Machine

NAME = 'visitors-purge'
SECONDS = 3600


def run(machine: Machine) -> str:
    """Forget visitors, if this installation forgets any, and return what the application says of it."""
    if not machine.purge_settings.exists():
        return 'nobody is forgotten: the setting PURGE_OLDER_THAN is not there'

    days = json.loads(machine.purge_settings.read_text(encoding='utf-8'))['older_than']
    container.check_image(machine.image)
    container.remove(NAME)
    command = run_arguments(machine, machine.image, Container(NAME, COMMAND_MEMORY),
                            ('flask', 'purge', '--older-than', str(days)))
    try:
        ended = subprocesses.outcome(*container.followed(NAME, command), seconds=SECONDS)
    except StepFailed:
        container.stop(NAME)
        raise
    if ended.code:
        raise StepFailed(f'flask purge ended with {ended.code}: {ended.last_words}')
    return subprocesses.last_line(ended.stdout)
