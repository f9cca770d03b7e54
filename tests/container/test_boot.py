"""The containers of a machine on a real engine: that it takes every option, and what it then knows of them."""

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
from rehearsal.machines.engine import CommandFailed, Engine
from tests.support.cloud import Cloud
from tests.support.containers.engine import unique
from tests.support.containers.fixtures import Image
from tests.support.machine_folder import FolderMachine, last_line, machine_in
from tests.support.metadata_service import MetadataService
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
    def __init__(self, machine: FolderMachine, engine: Engine, image: Image, name: str) -> None:
        """Give a machine a real engine, which holds the image that the Dockerfile makes."""
        self.machine, self.engine, self.name = machine, engine, name
        docker = shutil.which('docker')
        machine.install('docker', RENAME.format(prefix=name, docker=docker))
        found = engine.docker('image', 'inspect', '--format={{.Id}}', image.name)
        machine.write('etc/visitors/image.json', json.dumps(
            {'image': image.name, 'id': found, 'version': image.build['VERSION']}))

    @property
    def environment(self) -> dict[str, str]:
        """What tells the docker command of a step where the engine is."""
        return {name: value for name, value in self.engine.environment.items() if name.startswith('DOCKER_')}

    def run(self, *step: str) -> subprocess.CompletedProcess[str]:
        """Return how a step has ended."""
        return self.machine.run(*step, **self.environment)

    def inspect(self) -> dict[str, Any]:
        """Return what the engine knows of the application's container."""
        (known,) = json.loads(self.engine.docker('inspect', self.name))
        return dict(known)


@pytest.fixture
def on_engine(engine: Engine, image: Image, cloud: Cloud, metadata: MetadataService) -> Iterator[EngineMachine]:
    """Give a machine on a real engine that has been configured; its database is in its container's own memory."""
    (ROOT / 'build').mkdir(exist_ok=True)
    # Within the working copy, because an engine in another container sees only what it shares with the tests.
    with tempfile.TemporaryDirectory(dir=ROOT / 'build', prefix='machine-') as folder:
        Path(folder).chmod(0o755)
        machine = machine_in(Path(folder), cloud, metadata)
        put_settings(cloud, DATABASE_URL='sqlite:////tmp/visitors.sqlite3', PORT=str(free_port()), WORKERS='2')
        put_secrets(cloud, VISITOR_KEY=KEY, MIGRATION_DATABASE_PASSWORD=OWNER_PASSWORD)
        on_engine = EngineMachine(machine, engine, image, unique('machine'))
        done = on_engine.run('config')
        assert done.returncode == 0, done.stdout
        yield on_engine
        subprocess.run(['docker', 'rm', '--force', on_engine.name], env=engine.environment, capture_output=True,
                       check=False)


def test_the_engine_takes_it_all_and_shows_no_secret(on_engine: EngineMachine) -> None:
    done = on_engine.run('migrate')
    assert done.returncode == 0, done.stdout + done.stderr
    with on_engine.machine.start('application', 'start', **on_engine.environment) as process:
        waited = on_engine.run('application', 'wait')
        assert waited.returncode == 0, waited.stdout
        known = on_engine.inspect()
        readable = engine_says(on_engine, 'cat', '/run/visitors/secrets/application/VISITOR_KEY')
        with pytest.raises(CommandFailed, match='Read-only file system'):
            engine_says(on_engine, 'touch', '/app/intruder')
        begun = time.monotonic()
        stopped = on_engine.run('application', 'stop')
        assert (stopped.returncode, last_line(stopped.stdout).endswith(': stopped')) == (0, True)
        assert time.monotonic() - begun < STOP_SECONDS, 'it ended by itself, before it would have been killed'
        assert process.wait(20) == 0
    assert readable == KEY, 'the user of the container reads its own secret'
    shown = json.dumps(known)
    assert KEY not in shown
    assert OWNER_PASSWORD not in shown
    assert 'secrets/migration' not in shown
    host = known['HostConfig']
    assert host['NetworkMode'] == 'host'
    assert host['ReadonlyRootfs'] is True
    assert host['CapDrop'] == ['ALL']
    assert host['SecurityOpt'] == ['no-new-privileges']
    assert host['Memory'] == host['MemorySwap'] > 192 * MEBIBYTE
    assert host['LogConfig']['Type'] == 'none'
    assert not known['Mounts'][0]['RW']
    assert known['Config']['User'].startswith('10001')


def engine_says(on_engine: EngineMachine, *command: str) -> str:
    """Return what a command prints in the application's container."""
    return on_engine.engine.docker('exec', on_engine.name, *command)


def test_another_image_under_the_same_name_is_not_started(on_engine: EngineMachine, image: Image) -> None:
    on_engine.machine.write('etc/visitors/image.json', json.dumps(
        {'image': image.base, 'id': f'sha256:{"0" * 64}', 'version': '1'}))
    done = on_engine.run('application', 'start')
    assert done.returncode == 1
    assert 'it is not the image of the bake' in last_line(done.stdout)
