"""The containers of an instance on a real engine: it accepts every option, and its inspection shows each of them."""

from collections.abc import Iterator
import json
from pathlib import Path
import shutil
import subprocess
import tempfile
import time
from typing import Any

import pytest

from instance.container import MEBIBYTE, STOP_SECONDS
from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.machines.engine import CommandFailed, Engine
from tests.support.containers.engine import unique
from tests.support.containers.fixtures import Image
from tests.support.machine_folder import FolderMachine, last_line, machine_in
from tests.support.parameters import KEY, OWNER_PASSWORD, put_secrets, put_settings
from tests.support.postgresql import free_port
from tests.support.server import ROOT

pytestmark = pytest.mark.container

# The names of containers are the same on each machine; here several runs may share an engine.
RENAME = """for argument; do
    case $argument in
        --name=visitors*) argument=--name={prefix}${{argument#--name=visitors}} ;;
        visitors|visitors-migrate) argument={prefix}${{argument#visitors}} ;;
    esac
    set -- "$@" "$argument"; shift
done
exec {docker} "$@\""""


class EngineMachine:
    """An instance in a folder, with a real engine that holds the image of the Dockerfile."""

    def __init__(self, machine: FolderMachine, engine: Engine, image: Image, name: str) -> None:
        """Install a docker command that leads to the engine, and the record of the image."""
        self.machine, self.engine, self.name = machine, engine, name
        docker = shutil.which('docker')
        machine.install('docker', RENAME.format(prefix=name, docker=docker))
        image_id = engine.docker('image', 'inspect', '--format={{.Id}}', image.name)
        machine.write('etc/visitors/image.json', json.dumps(
            {'image': image.name, 'id': image_id, 'version': image.build['VERSION']}))

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead the docker command of a step to the engine."""
        return {name: value for name, value in self.engine.environment.items() if name.startswith('DOCKER_')}

    def run(self, *step: str) -> subprocess.CompletedProcess[str]:
        """Return the result of a step."""
        return self.machine.run(*step, **self.environment)

    def inspect(self) -> dict[str, Any]:
        """Return the engine's description of the application's container."""
        (description,) = json.loads(self.engine.docker('inspect', self.name))
        return dict(description)


@pytest.fixture
def on_engine(engine: Engine, image: Image, aws: EmbeddedRehearsal) -> Iterator[EngineMachine]:
    """Give a configured instance on a real engine; its database is in its container's own memory."""
    (ROOT / 'build').mkdir(exist_ok=True)
    # Within the working copy, because an engine in another container shares only that folder with the tests.
    with tempfile.TemporaryDirectory(dir=ROOT / 'build', prefix='machine-') as folder:
        Path(folder).chmod(0o755)
        with machine_in(Path(folder), aws) as machine:
            put_settings(aws, DATABASE_URL='sqlite:////tmp/visitors.sqlite3', PORT=str(free_port()), WORKERS='2')
            put_secrets(aws, VISITOR_KEY=KEY, MIGRATION_DATABASE_PASSWORD=OWNER_PASSWORD)
            on_engine = EngineMachine(machine, engine, image, unique('machine'))
            result = on_engine.run('config')
            assert result.returncode == 0, result.stdout
            yield on_engine
            subprocess.run(['docker', 'rm', '--force', on_engine.name], env=engine.environment, capture_output=True,
                           check=False)


def test_the_engine_takes_it_all_and_shows_no_secret(on_engine: EngineMachine) -> None:
    result = on_engine.run('migrate')
    assert result.returncode == 0, result.stdout + result.stderr
    with on_engine.machine.start('application', 'start', **on_engine.environment) as process:
        waited = on_engine.run('application', 'wait')
        assert waited.returncode == 0, waited.stdout
        description = on_engine.inspect()
        readable = engine_says(on_engine, 'cat', '/run/visitors/secrets/application/VISITOR_KEY')
        with pytest.raises(CommandFailed, match='Read-only file system'):
            engine_says(on_engine, 'touch', '/app/intruder')
        begun = time.monotonic()
        stopped = on_engine.run('application', 'stop')
        assert (stopped.returncode, last_line(stopped.stdout).endswith(': stopped')) == (0, True)
        assert time.monotonic() - begun < STOP_SECONDS, 'it ended by itself, before it would have been killed'
        assert process.wait(20) == 0
    assert readable == KEY, 'the user of the container reads its own secret'
    shown = json.dumps(description)
    assert KEY not in shown
    assert OWNER_PASSWORD not in shown
    assert 'secrets/migration' not in shown
    host = description['HostConfig']
    assert host['NetworkMode'] == 'host'
    assert host['ReadonlyRootfs'] is True
    assert host['CapDrop'] == ['ALL']
    assert host['SecurityOpt'] == ['no-new-privileges']
    assert host['Memory'] == host['MemorySwap'] > 192 * MEBIBYTE
    assert host['LogConfig']['Type'] == 'none'
    assert not description['Mounts'][0]['RW']
    assert description['Config']['User'].startswith('10001')


def engine_says(on_engine: EngineMachine, *command: str) -> str:
    """Return the output of a command in the application's container."""
    return on_engine.engine.docker('exec', on_engine.name, *command)


def test_another_image_under_the_same_name_is_not_started(on_engine: EngineMachine, image: Image) -> None:
    on_engine.machine.write('etc/visitors/image.json', json.dumps(
        {'image': image.base, 'id': f'sha256:{"0" * 64}', 'version': '1'}))
    result = on_engine.run('application', 'start')
    assert result.returncode == 1
    assert 'it is not the image of the bake' in last_line(result.stdout)
