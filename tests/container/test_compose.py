"""The set-ups that compose makes: the image with its database, and the one for developers."""

from collections.abc import Iterator
import os
from pathlib import Path
import re
import secrets
import shutil
import stat
import subprocess
import sys

from dotenv import dotenv_values
import pytest
import requests

from rehearsal.machines.engine import CommandFailed, Engine
from tests.support.containers.bases import BaseImages
from tests.support.containers.engine import Composed, counted, unique
from tests.support.containers.fixtures import default_of, Image
from tests.support.server import BROWSER, ROOT
from tests.support.waiting import eventually

AS_SHIPPED = ('docker-compose.yml',)
NEVER = '0001-01-01T00:00:00Z'
SECRETS = ('POSTGRES_PASSWORD', 'VISITOR_KEY')
# The settings of the application; compose passes some of them on and sets the others itself.
SETTING = re.compile(r"values, '([A-Z_]+)'|values.get\('([A-Z_]+)'|values\['([A-Z_]+)'\]")


@pytest.fixture
def variables(image: Image, postgres_image: str) -> dict[str, str]:
    """Give what .env would hold: the images, and secrets as `make up` makes them."""
    return {'IMAGE': image.name, 'POSTGRES_IMAGE': postgres_image, 'TRUSTED_PROXIES': '1', 'WORKERS': '2',
            **{name: secrets.token_hex(32) for name in SECRETS}}


@pytest.fixture
def set_up(engine: Engine, variables: dict[str, str]) -> Iterator[Composed]:
    """Give the set-up of docker-compose.yml alone, not yet started."""
    with Composed(engine, variables, AS_SHIPPED) as composed:
        yield composed


@pytest.mark.container
def test_the_schema_comes_up_once_and_before_the_application(set_up: Composed) -> None:
    set_up.up()
    schema, application = set_up.inspect('schema'), set_up.inspect('application')
    assert (schema['State']['Status'], schema['State']['ExitCode']) == ('exited', 0)
    assert schema['RestartCount'] == 0
    assert schema['State']['FinishedAt'] < application['State']['StartedAt']
    assert application['State']['Health']['Status'] == 'healthy'
    assert set_up.get('/readyz').json()['ready'] is True


@pytest.mark.container
def test_visits_outlive_the_containers_that_counted_them(set_up: Composed) -> None:
    set_up.up()
    assert counted(set_up.get()) == (1, 1)
    set_up('down')
    assert set_up.leftovers()['container'] == ''
    set_up.up()
    assert counted(set_up.get()) == (2, 1), 'the visit before `down` is lost'


@pytest.mark.container
def test_the_databases_image_may_be_of_the_next_major_version(engine: Engine, variables: dict[str, str],
                                                              base_images: BaseImages) -> None:
    with Composed(engine, {**variables, 'POSTGRES_IMAGE': base_images.next_postgres()}, AS_SHIPPED) as set_up:
        for expected in (1, 2):
            set_up.up()
            assert counted(set_up.get()) == (expected, 1)
            set_up('down')


def test_the_data_of_earlier_versions_stay_where_they_are() -> None:
    text = (ROOT / 'docker-compose.yml').read_text(encoding='utf-8')
    assert re.findall(r'PGDATA: (\S+)', text) == re.findall(r'- database:(\S+)', text) == ['/var/lib/postgresql/data']


@pytest.mark.container
def test_nothing_is_left_when_the_data_are_to_go_as_well(set_up: Composed) -> None:
    set_up.up()
    assert all(set_up.leftovers().values()), 'this test looks in the wrong place'
    set_up('down', '--volumes')
    assert not any(set_up.leftovers().values()), set_up.leftovers()


@pytest.mark.container
def test_the_application_is_not_started_on_a_schema_that_did_not_come_up(engine: Engine,
                                                                         variables: dict[str, str]) -> None:
    with Composed(engine, {**variables, 'VISITOR_KEY': 'too short'}, AS_SHIPPED) as set_up:
        with pytest.raises(CommandFailed, match='schema'):
            set_up.up()
        assert set_up.inspect('schema')['State']['ExitCode'] != 0
        assert set_up.inspect('application')['State']['StartedAt'] == NEVER
        assert 'VISITOR_KEY: a key has 32 to 64 bytes' in set_up('logs', 'schema')


@pytest.mark.container
@pytest.mark.parametrize('service', ['schema', 'application'])
def test_no_service_of_ours_can_change_its_files_or_gain_rights(set_up: Composed, service: str) -> None:
    set_up('create', '--no-build')
    rights = set_up.inspect(service)['HostConfig']
    assert rights['ReadonlyRootfs'] is True
    assert rights['CapDrop'] == ['ALL']
    assert rights['SecurityOpt'] == ['no-new-privileges:true']
    assert not rights['Privileged']


@pytest.mark.container
def test_by_default_only_this_machine_reaches_the_application(engine: Engine, variables: dict[str, str]) -> None:
    with Composed(engine, {**variables, 'PUBLISH_ADDRESS': ''}, AS_SHIPPED) as set_up:
        set_up('create', '--no-build')
        bindings = set_up.inspect('application')['HostConfig']['PortBindings']
        assert [binding['HostIp'] for binding in bindings['8000/tcp']] == ['127.0.0.1']
        assert set_up.inspect('database')['HostConfig']['PortBindings'] == {}


@pytest.mark.container
def test_a_developer_sees_changes_of_code_and_templates_without_a_rebuild(
        engine: Engine, variables: dict[str, str], working_copy: Path) -> None:
    with Composed(engine, variables, folder=working_copy) as set_up:
        set_up.up()
        container, visits = set_up.inspect('application')['Id'], counted(set_up.get())
        replace(working_copy / 'templates' / 'layout.html', '</main>', 'a changed template</main>')
        eventually(lambda: 'a changed template' in set_up.get().text, 'the template shows')
        replace(working_copy / 'visitors' / 'views.py', "'/stats.json'", "'/moved.json'")
        eventually(lambda: is_served(set_up, '/moved.json'), 'the module shows')
        assert set_up.inspect('application')['Id'] == container
        assert counted(set_up.get())[0] > visits[0], 'the visits are lost'


@pytest.mark.container
def test_the_working_copy_is_safe_from_the_developers_containers(engine: Engine, variables: dict[str, str],
                                                                 working_copy: Path) -> None:
    with Composed(engine, variables, folder=working_copy) as set_up:
        set_up('create', '--no-build')
        for service in ('schema', 'application'):
            (mount,) = [mount for mount in set_up.inspect(service)['Mounts'] if mount['Destination'] == '/app']
            assert mount['Source'] == str(working_copy)
            assert mount['RW'] is False


# A docker command for the verbs of make, with this engine's way to package indexes and its compose.
DOCKER = """#!/bin/sh
case "$1" in
    build) shift; exec {docker} build {options} "$@" ;;
    compose) shift; exec {compose} "$@" ;;
    *) exec {docker} "$@" ;;
esac
"""


@pytest.mark.container
def test_make_up_and_down_can_be_called_again_and_again(engine: Engine, image: Image, postgres_image: str,
                                                        shared_clone: Path, tmp_path: Path) -> None:
    compose = Path(sys.executable).with_name('docker-compose')
    (tmp_path / 'docker').write_text(DOCKER.format(docker=shutil.which('docker'), compose=compose,
                                                   options=' '.join(engine.build_options)), encoding='utf-8')
    (tmp_path / 'docker').chmod(0o755)
    name, number = unique('made'), (ROOT / 'version.txt').read_text(encoding='utf-8').strip()
    variables = {'NAME': name, 'IMAGE': f'{name}:latest', 'PYTHON_IMAGE': image.base, 'POSTGRES_IMAGE': postgres_image,
                 'COMPOSE_PROJECT_NAME': name, 'PUBLISH_ADDRESS': engine.publish_address, 'PORT': '0',
                 'TRUSTED_PROXIES': '1'}

    def make(verb: str) -> str:
        environment = {**engine.environment, **variables, 'PATH': f'{tmp_path}:{os.environ["PATH"]}'}
        result = subprocess.run(['make', verb], cwd=shared_clone, env=environment, capture_output=True, text=True,
                                timeout=300, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def visits() -> int:
        port = engine.docker('port', f'{name}-application-1', '8000').splitlines()[0].rpartition(':')[2]
        # Always the same visitor: docker's network, which the request comes from, is another one after each `down`.
        headers = {'User-Agent': BROWSER, 'X-Forwarded-For': '198.51.100.7'}
        return counted(requests.get(f'http://{engine.host}:{port}', headers=headers, timeout=30))[0]

    try:
        output = make('up')
        assert f'built {name}:{number}-build.1\n' in output
        assert 'made .env with new secrets' in output
        assert re.search(r'^serving on http://[0-9.]+:[0-9]+$', output, re.MULTILINE)
        assert visits() == 1
        assert 'made .env' not in make('up')
        assert visits() == 2
        for _ in range(2):
            make('down')
            assert engine.docker('ps', '--all', '--quiet', f'--filter=name={name}-') == ''
        make('up')
        assert visits() == 3, '`make down` has thrown the data away'
    finally:
        subprocess.run([compose, 'down', '--volumes', '--timeout=5'], cwd=shared_clone, capture_output=True,
                       env={**engine.environment, **variables}, check=False)
        engine.docker('image', 'rm', '--force', f'{name}:latest', f'{name}:{number}-build.1')


@pytest.mark.container
@pytest.mark.parametrize('secret', SECRETS)
def test_nothing_starts_without_a_secret_and_the_message_says_what_to_do(engine: Engine, variables: dict[str, str],
                                                                         secret: str) -> None:
    with Composed(engine, variables, AS_SHIPPED) as usual:
        lacking = Composed(engine, {**variables, secret: ''}, AS_SHIPPED)
        with pytest.raises(CommandFailed, match=f'(?s){secret}.*make up, or see .env.example'):
            lacking.up()
        assert not any(usual.leftovers().values())


# Docker without a current Compose: Debian's docker.io brings no Compose, and Debian 12's own is 1.29.
@pytest.mark.parametrize(('docker', 'says'), [
    (None, 'no docker command: apt-get install docker.io'),
    ('echo "docker: \\047compose\\047 is not a docker command." >&2; exit 1',
     'docker has no compose command (Compose v2). Its package: docker-compose on Debian 13, docker-compose-v2 on'),
], ids=['no docker', 'no compose'])
@pytest.mark.parametrize('verb', ['up', 'down'])
def test_without_compose_the_package_is_named_before_anything_is_made(tmp_path: Path, verb: str, docker: str | None,
                                                                      says: str) -> None:
    for name in ('bash', 'make', 'python3', 'sh'):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    if docker:
        script = f'#!/bin/sh\necho "docker $*" >> {tmp_path}/calls\n{docker}\n'
        (tmp_path / 'docker').write_text(script, encoding='utf-8')
        (tmp_path / 'docker').chmod(0o755)
    folder = tmp_path / 'copy'
    folder.mkdir()
    for name in ('Makefile', '.env.example'):
        shutil.copy(ROOT / name, folder)
    result = subprocess.run(['make', verb], cwd=folder, env={'PATH': str(tmp_path)}, capture_output=True, text=True,
                            timeout=60, check=False)
    assert result.returncode
    assert result.stderr.startswith(says)
    assert result.stderr.count('\n') == 2, 'more is said than what is missing, and that make has failed'
    assert not (folder / '.env').exists()
    assert not docker or (tmp_path / 'calls').read_text(encoding='utf-8') == 'docker compose version\n'


def test_make_writes_secrets_of_its_own_that_only_the_owner_can_read(tmp_path: Path) -> None:
    one, another = made_settings(tmp_path / 'one'), made_settings(tmp_path / 'another')
    for name in SECRETS:
        assert re.fullmatch('[0-9a-f]{64}', one[name] or ''), name
        assert one[name] != another[name], f'{name} is the same everywhere'
    assert stat.S_IMODE((tmp_path / 'one' / '.env').stat().st_mode) == 0o600


def test_make_keeps_the_secrets_that_are_there(tmp_path: Path) -> None:
    assert made_settings(tmp_path / 'one') == made_settings(tmp_path / 'one'), 'every visitor would be new'


def test_the_example_holds_no_secret_and_names_everything_that_can_be_set() -> None:
    example = (ROOT / '.env.example').read_text(encoding='utf-8')
    named = set(re.findall('^#?([A-Z_]+)=', example, re.MULTILINE))
    read = {name for names in SETTING.findall((ROOT / 'visitors' / 'settings.py').read_text(encoding='utf-8'))
            for name in names if name}
    compose = set(re.findall(r'\$\{([A-Z_]+)', (ROOT / 'docker-compose.yml').read_text(encoding='utf-8')))
    assert 'DATABASE_URL' in read and 'POSTGRES_PASSWORD' in compose, 'this test looks in the wrong place'
    assert named == read | compose
    assert dotenv_values(ROOT / '.env.example') == {name: '' for name in SECRETS}


@pytest.mark.parametrize('variable', ['IMAGE', 'PORT', 'POSTGRES_IMAGE', 'PUBLISH_ADDRESS', 'PYTHON_IMAGE'])
def test_the_example_tells_the_default_that_compose_takes(variable: str) -> None:
    assert f'\n#{variable}={default_of(variable)}\n' in (ROOT / '.env.example').read_text(encoding='utf-8')


def is_served(set_up: Composed, path: str) -> bool:
    """Return whether a set-up answers 200, also while its workers are just being replaced."""
    try:
        return set_up.get(path).status_code == 200
    except requests.RequestException:
        return False


def made_settings(folder: Path) -> dict[str, str | None]:
    """Return the .env that make leaves in a folder."""
    folder.mkdir(exist_ok=True)
    for name in ('Makefile', '.env.example'):
        shutil.copy(ROOT / name, folder)
    subprocess.run(['make', '.env'], cwd=folder, capture_output=True, check=True)
    return dotenv_values(folder / '.env')


def replace(path: Path, before: str, after: str) -> None:
    """Change a file as editors do: the new one takes the place of the old one."""
    text = path.read_text(encoding='utf-8')
    assert before in text, f'{path.name} has no {before} any more'
    changed = path.with_suffix('.new')
    changed.write_text(text.replace(before, after), encoding='utf-8')
    changed.replace(path)
