"""Names and numbers that an instance shares with the image, the application and the bake."""

import ast
import re

from instance import container, failed, migrate, urls
from instance.machine import Machine
from instance.parameters import MACHINE_SETTINGS, PORT
from tests.support.documents import text_of
from tests.support.units import unit
from visitors.schema.errors import Exit


def graceful_timeout() -> int:
    """Return the seconds that gunicorn gives its last answers."""
    assignments = [node for node in ast.parse(text_of('gunicorn.conf.py')).body if isinstance(node, ast.Assign)]
    settings = {ast.unparse(node.targets[0]): node.value for node in assignments}
    return int(ast.literal_eval(settings['graceful_timeout']))


def test_the_times_to_stop_the_application_are_nested() -> None:
    # The step itself needs a moment, and waits five seconds longer for docker than docker for the application.
    docker_stop = container.STOP_SECONDS + 5
    assert graceful_timeout() < container.STOP_SECONDS < docker_stop
    assert docker_stop < unit('visitors.service').seconds('TimeoutStopSec')
    assert docker_stop < unit('visitors-migrate.service').seconds('TimeoutStopSec')


def test_port_and_user_are_those_of_the_image() -> None:
    dockerfile = text_of('Dockerfile')
    assert f'EXPOSE {PORT}' in dockerfile
    assert re.search(rf'\bPORT={PORT}\b', dockerfile)
    assert f'USER {container.USER}:{container.USER}' in dockerfile


def test_the_exit_codes_of_the_migration_are_those_of_the_application() -> None:
    assert set(migrate.MEANINGS) == {int(code) for code in Exit if code}
    assert set(failed.MIGRATION_CODES) <= set(migrate.MEANINGS)


def test_the_bake_puts_the_authorities_where_containers_read_them() -> None:
    assert f'dest: {urls.AUTHORITIES}\n' in text_of('packer/ansible/roles/application/tasks/identity.yml')
    assert str(Machine().authorities) == urls.AUTHORITIES


def test_each_setting_of_the_instance_itself_is_a_setting_of_the_application() -> None:
    source = text_of('visitors/settings.py')
    assert [name for name in (*MACHINE_SETTINGS, 'PORT', 'WORKERS', 'DATABASE_URL') if f"'{name}'" not in source] == []
