"""Names and numbers that an instance shares with the image, the application and the bake."""

import ast
import os
from pathlib import Path
import re
import socket
import subprocess
import sys

import pytest

from instance import container, failed, migrate, urls
from instance.machine import Machine
from instance.parameters import MACHINE_SETTINGS, PORT
from rehearsal.names.programs import ENTER, RESOLV_CONF
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


def test_a_silent_resolver_costs_every_program_of_an_instance_the_same_two_seconds() -> None:
    options = container.RESOLVER_OPTIONS
    system = text_of('packer/ansible/roles/tuning/files/etc/systemd/system.conf.d/10-tuning.conf')
    assert f'DefaultEnvironment="RES_OPTIONS={options}"\n' in system
    assert f'\noptions {options}\n' in text_of('rehearsal/machines/files/machine/etc/resolv.conf')


@pytest.mark.skipif(os.geteuid() != 0, reason='a program sees another resolver in a mount namespace of its own only')
def test_a_look_up_ends_after_two_short_tries_by_the_options_of_an_instance(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(('127.0.53.97', 53))
        settings = tmp_path / 'resolv.conf'
        settings.write_text('nameserver 127.0.53.97\n', encoding='ascii')
        program = ('import socket, time\nbegun = time.monotonic()\ntry:\n    socket.getaddrinfo("db.example.com", 0)\n'
                   'except socket.gaierror:\n    print(time.monotonic() - begun)')
        result = subprocess.run([*ENTER, str(settings), os.path.realpath(RESOLV_CONF), sys.executable, '-c', program],
                                env={**os.environ, 'RES_OPTIONS': container.RESOLVER_OPTIONS}, capture_output=True,
                                text=True, check=True, timeout=60)
    assert float(result.stdout) < 10, 'without the options two tries of five seconds each'


def test_each_setting_of_the_instance_itself_is_a_setting_of_the_application() -> None:
    source = text_of('visitors/settings.py')
    assert [name for name in (*MACHINE_SETTINGS, 'PORT', 'WORKERS', 'DATABASE_URL') if f"'{name}'" not in source] == []
