"""The image that the Dockerfile makes: its content, and the start, life and end of its container."""

from collections.abc import Iterator
import json
from pathlib import Path
import re

import pytest

from rehearsal.machines.engine import CommandFailed, Engine
from tests.support.containers.engine import answers, Container, counted, EMBEDDED, READ_ONLY
from tests.support.containers.fixtures import built, default_of, Image
from tests.support.server import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.container

MEGABYTES_OVER_BASE = 200
LABELS = {'version': 'VERSION', 'revision': 'REVISION', 'created': 'CREATED'}
# The content of /app besides bytecode. Anything else is a file that .dockerignore must hold back.
CODE = {'app.py', 'build.json', 'data', 'gunicorn.conf.py', 'migrations', 'static', 'templates', 'version.txt',
        'visitors'}
# Takes the database's only write lock, waits for a request from outside (no health check), stops the server while the
# request waits for the lock, and releases the lock. All of it in one process in the container: a visit waits 1.5 s at
# most, and the commands of an engine may take as long as that.
STOP_DURING_A_REQUEST = """
import os, pathlib, signal, sqlite3, time
database = sqlite3.connect('/app/data/visitors.sqlite3', isolation_level=None)
database.execute('BEGIN IMMEDIATE')
open('/tmp/locked', 'w').close()
PORT, LOOPBACK, ESTABLISHED = ':1F40', '0100007F', '01'
def has_request():
    rows = [line.split() for line in pathlib.Path('/proc/net/tcp').read_text().splitlines()[1:]]
    return any(row[1].endswith(PORT) and not row[1].startswith(LOOPBACK) and row[3] == ESTABLISHED for row in rows)
while not has_request():
    time.sleep(0.01)
time.sleep(0.3)
os.kill(1, signal.SIGTERM)
time.sleep(0.5)
database.execute('ROLLBACK')
"""


@pytest.fixture(scope='module')
def container(engine: Engine, network: str, image: Image) -> Iterator[Container]:
    """Give a container that counts in its own memory; nothing else of it can be written."""
    with Container(engine, network, image.name, *READ_ONLY, *EMBEDDED, '--env=WORKERS=2',
                   '--health-interval=1s') as running:
        running.run('flask', 'schema', 'ready')
        running.wait_until_served()
        yield running


@pytest.fixture
def own_container(engine: Engine, network: str, image: Image) -> Iterator[Container]:
    """Give a container that a test may end."""
    with Container(engine, network, image.name, *READ_ONLY, *EMBEDDED, '--env=WORKERS=2', '--health-interval=1s',
                   '--health-retries=1', '--health-start-period=0s') as running:
        running.run('flask', 'schema', 'ready')
        running.wait_until_served()
        yield running


def configuration(engine: Engine, image: str) -> dict[str, object]:
    return dict(json.loads(engine.docker('image', 'inspect', '--format={{json .Config}}', image)))


def layers(engine: Engine, image: str) -> list[str]:
    return list(json.loads(engine.docker('image', 'inspect', '--format={{json .RootFS.Layers}}', image)))


def size(engine: Engine, image: str) -> int:
    return int(engine.docker('image', 'inspect', '--format={{.Size}}', image))


def workers(container: Container) -> list[str]:
    return container.run('cat', '/proc/1/task/1/children').split()


def send(signal: str, container: Container, *processes: str) -> None:
    container.run('sh', '-c', f'kill -{signal} {" ".join(processes)}')  # the shell's own: slim images have no other


@pytest.mark.parametrize('label', LABELS)
def test_the_labels_tell_the_build(engine: Engine, image: Image, label: str) -> None:
    labels = configuration(engine, image.name)['Labels']
    assert isinstance(labels, dict)
    assert labels[f'org.opencontainers.image.{label}'] == image.build[LABELS[label]]


def test_the_application_tells_the_same_build_as_the_labels(container: Container, image: Image) -> None:
    version = container.get('/version').json()
    assert (version['version'], version['commit'], version['build_time']) == tuple(image.build.values())
    assert image.build['VERSION'] in container.get('/').text


def test_it_is_less_than_200_megabytes_larger_than_its_base(engine: Engine, image: Image) -> None:
    assert size(engine, image.name) - size(engine, image.base) < MEGABYTES_OVER_BASE * 1_000_000


@pytest.mark.parametrize('program', ['gcc', 'cc', 'c++', 'clang', 'make', 'ld', 'curl', 'git'])
def test_there_is_no_compiler_nor_anything_else_to_build_or_fetch_with(container: Container, program: str) -> None:
    assert container.run('sh', '-c', f'command -v {program} || echo none') == 'none'


def test_the_environment_has_no_pip_and_no_cache_of_it(engine: Engine, container: Container, image: Image) -> None:
    assert container.run('python', '-c', 'import importlib.util as u; print(u.find_spec("pip"))') == 'None'
    look = 'find / -xdev -path "*/.cache/?*" -o -path "/tmp/?*" -o -path "/venv/*.whl"'
    assert engine.docker('run', '--rm', '--network=none', '--user=0', image.name, 'sh', '-c', look) == ''


def test_only_the_code_is_in_the_image(container: Container) -> None:
    assert set(container.run('ls', '-A', '/app').split()) - {'__pycache__'} == CODE


def test_its_user_is_a_number_and_not_root(engine: Engine, container: Container, image: Image) -> None:
    assert re.fullmatch(r'[1-9][0-9]+:[1-9][0-9]+', str(configuration(engine, image.name)['User']))
    assert container.run('id', '-u') == '10001'


def test_its_user_can_change_neither_code_nor_packages(engine: Engine, network: str, image: Image) -> None:
    with Container(engine, network, image.name) as writable:
        for folder in ('/', '/app', '/app/visitors', '/app/templates', '/venv', '/venv/bin'):
            with pytest.raises(CommandFailed, match='Permission denied'):
                writable.run('touch', f'{folder}/intruder')
        with pytest.raises(CommandFailed, match='Permission denied'):
            writable.run('sh', '-c', 'echo >> /app/app.py')


def test_code_that_only_its_owner_may_read_is_readable_in_the_image(engine: Engine, network: str, image: Image,
                                                                    working_copy: Path) -> None:
    for path in working_copy.rglob('*'):
        path.chmod(0o700 if path.is_dir() else 0o600)
    with built(engine, image, working_copy) as name, Container(engine, network, name, '--env=WORKERS=1') as running:
        running.wait_until_served()


def test_it_counts_visits_with_a_read_only_file_system(container: Container) -> None:
    visits, _ = counted(container.get())
    assert counted(container.get()) == (visits + 1, 1)


def test_its_own_check_calls_it_healthy_and_is_no_visit(own_container: Container) -> None:
    own_container.wait_for_health('healthy')
    assert counted(own_container.get()) == (1, 1)


def test_a_server_that_is_silent_becomes_unhealthy(own_container: Container) -> None:
    own_container.wait_for_health('healthy')
    send('STOP', own_container, *workers(own_container))
    own_container.wait_for_health('unhealthy')
    assert '/livez does not answer' in own_container.health_log()


def test_the_health_check_asks_at_the_port_that_is_set(engine: Engine, network: str, image: Image) -> None:
    with Container(engine, network, image.name, *EMBEDDED, '--env=PORT=9000', '--health-interval=1s',
                   port=9000) as running:
        running.wait_for_health('healthy')
        assert answers(running.address)


def test_the_first_process_is_gunicorn(container: Container) -> None:
    first = container.run('cat', '/proc/1/cmdline').split('\0')
    assert first[:2] == ['/venv/bin/python', '/venv/bin/gunicorn']


def test_a_worker_that_is_killed_is_replaced(own_container: Container) -> None:
    before = workers(own_container)
    send('KILL', own_container, before[0])
    eventually(lambda: len(set(workers(own_container)) - set(before)) == 1, 'there is a new worker')
    assert counted(own_container.get()) == (1, 1)


def test_a_request_in_flight_is_answered_before_a_stopped_container_ends(engine: Engine,
                                                                         own_container: Container) -> None:
    assert counted(own_container.get()) == (1, 1)
    engine.docker('exec', '--detach', own_container.name, 'python', '-c', STOP_DURING_A_REQUEST)
    eventually(lambda: 'locked' in own_container.run('ls', '/tmp'), 'the lock is held')
    assert counted(own_container.get()) == (2, 1)
    # The time that Docker gives by default, before it kills.
    engine.docker('stop', '--time=10', own_container.name)
    (*_, milliseconds) = re.findall(r'"path": "/", "status": 200.*"milliseconds": ([0-9.]+)', own_container.logs)
    assert float(milliseconds) > 500, 'the server answered before it was stopped, so this proves nothing'
    assert own_container.state['ExitCode'] == 0, 'it did not end by itself'


def test_a_killed_container_starts_again_with_its_visits(engine: Engine, network: str, image: Image) -> None:
    volume = engine.docker('volume', 'create')
    try:
        with Container(engine, network, image.name, *READ_ONLY, f'--volume={volume}:/app/data') as running:
            running.run('flask', 'schema', 'ready')
            running.wait_until_served()
            assert counted(running.get()) == (1, 1)
            engine.docker('kill', running.name)
            assert not running.state['Running']
            engine.docker('start', running.name)
            running.wait_until_served()
            assert counted(running.get()) == (2, 1)
    finally:
        engine.docker('volume', 'rm', '--force', volume)


def test_a_change_of_code_leaves_the_layer_of_packages_as_it_is(engine: Engine, image: Image,
                                                                working_copy: Path) -> None:
    with (working_copy / 'app.py').open('a', encoding='utf-8') as code:
        code.write('# changed\n')
    with built(engine, image, working_copy) as name:
        before, after = layers(engine, image.name), layers(engine, name)
    packages = len(layers(engine, image.base)) + 2  # WORKDIR makes a layer, then come the packages
    assert after[:packages] == before[:packages], 'the packages were installed anew'
    assert after != before, 'the change did not get into the image'


def test_secrets_of_the_working_copy_stay_out_of_the_image(engine: Engine, image: Image, working_copy: Path) -> None:
    unwanted = 'nobody may see this'
    for name in ('.env', 'data/visitor.key', '.git/config', 'visitors/.env', 'notes.txt'):
        (working_copy / name).parent.mkdir(exist_ok=True)
        (working_copy / name).write_text(unwanted, encoding='utf-8')
    with built(engine, image, working_copy) as name:
        found = engine.docker('run', '--rm', '--network=none', name, 'sh', '-c', f'grep -r "{unwanted}" /app || true')
        described = engine.docker('history', '--no-trunc', name) + engine.docker('image', 'inspect', name)
    assert found == ''
    assert unwanted not in described


def test_a_package_that_is_not_the_pinned_one_ends_the_build(engine: Engine, image: Image, working_copy: Path) -> None:
    pinned = (working_copy / 'requirements.txt').read_text(encoding='utf-8')
    other = re.sub(r'sha256:[0-9a-f]{64}', f'sha256:{"0" * 64}', pinned)
    (working_copy / 'requirements.txt').write_text(other, encoding='utf-8')
    with pytest.raises(CommandFailed, match='DO NOT MATCH THE HASHES'), built(engine, image, working_copy):
        pass


def test_the_port_is_the_same_wherever_it_is_written(engine: Engine, image: Image) -> None:
    compose = (ROOT / 'docker-compose.yml').read_text(encoding='utf-8')
    configured = configuration(engine, image.name)
    assert configured['ExposedPorts'] == {'8000/tcp': {}}
    assert 'PORT=8000' in str(configured['Env'])
    assert ':8000\n' in compose


def test_the_base_is_the_same_wherever_it_is_written() -> None:
    dockerfile = (ROOT / 'Dockerfile').read_text(encoding='utf-8')
    example = (ROOT / '.env.example').read_text(encoding='utf-8')
    assert f'ARG PYTHON_IMAGE={default_of("PYTHON_IMAGE")}\n' in dockerfile
    assert f'#PYTHON_IMAGE={default_of("PYTHON_IMAGE")}\n' in example
