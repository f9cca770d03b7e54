"""Fixtures of the tests that need a Docker engine; one engine, one network and one build for the whole run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
from pathlib import Path
import re
import shutil
import subprocess
import tempfile

import pytest

from rehearsal.machines.engine import Engine, NoEngine, usable_engine
from tests.support.containers.bases import BaseImages
from tests.support.containers.engine import unique
from tests.support.server import ROOT

SECONDS = 900
REPORTED = pytest.StashKey[list[str]]()
# The inputs of a build; the rest of the working copy would only take time to copy.
CONTEXT = ('.dockerignore', 'Dockerfile', 'app.py', 'gunicorn.conf.py', 'migrations', 'requirements.txt', 'static',
           'templates', 'version.txt', 'visitors', 'docker-compose.yml', 'docker-compose.override.yml')


@dataclass(frozen=True)
class Image:
    """An image built from the Dockerfile, its base image, and its build arguments."""

    name: str
    base: str
    build: Mapping[str, str]

    @property
    def arguments(self) -> list[str]:
        """The build arguments that it was built with."""
        return [f'--build-arg={name}={value}' for name, value in {'PYTHON_IMAGE': self.base, **self.build}.items()]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line('markers', 'container: needs a Docker engine, or root and the packages to start one')
    config.stash[REPORTED] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests of containers more time than others: the first of them makes base images and builds ours."""
    for item in items:
        if item.get_closest_marker('container'):
            item.add_marker(pytest.mark.timeout(SECONDS))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Report the engine and the base images of the tests."""
    for line in config.stash[REPORTED]:
        terminalreporter.write_line(line)


@pytest.fixture(scope='session')
def engine(pytestconfig: pytest.Config) -> Iterator[Engine]:
    """Give a Docker engine; a test that requests it fails without one."""
    with ExitStack() as stack:
        try:
            usable = stack.enter_context(usable_engine())
        except NoEngine as error:
            pytest.fail(f'so the image cannot be tested: {error}', pytrace=False)
        origin = 'started for the tests' if usable.is_own else 'found running'
        version = usable.docker('version', '--format={{.Server.Version}}')
        pytestconfig.stash[REPORTED].append(f'containers ran on Docker {version}, {origin}')
        yield usable


@pytest.fixture(scope='session')
def network(engine: Engine) -> Iterator[str]:
    """Give the name of a network for containers."""
    name = unique('network')
    engine.docker('network', 'create', name)
    yield name
    engine.docker('network', 'rm', name)


@pytest.fixture(scope='session')
def base_images(engine: Engine, pytestconfig: pytest.Config) -> Iterator[BaseImages]:
    """Give the choice of base images."""
    images = BaseImages(engine, pytestconfig.stash[REPORTED].append)
    yield images
    images.remove()


@pytest.fixture(scope='session')
def postgres_image(base_images: BaseImages) -> str:
    """Give the name of an image of the database, which docker-compose.yml's default stands for."""
    return base_images.postgres(default_of('POSTGRES_IMAGE'))


@pytest.fixture(scope='session')
def image(engine: Engine, base_images: BaseImages) -> Iterator[Image]:
    """Give the image that the Dockerfile makes of the working copy."""
    with built_image(engine, base_images) as built:
        yield built


@contextmanager
def built_image(engine: Engine, base_images: BaseImages) -> Iterator[Image]:
    """Give the image that the Dockerfile makes of the working copy, for the time of the block."""
    number = (ROOT / 'version.txt').read_text(encoding='utf-8').strip()
    build = {'VERSION': f'{number}+build.7', 'REVISION': '5' * 40, 'CREATED': '2026-01-02T03:04:05Z'}
    built = Image(f'{unique("image")}:{number}-build.7', base_images.python(default_of('PYTHON_IMAGE')), build)
    engine.docker('build', *engine.build_options, *built.arguments, '--tag', built.name, str(ROOT))
    try:
        yield built
    finally:
        engine.docker('image', 'rm', '--force', built.name)


@pytest.fixture
def working_copy() -> Iterator[Path]:
    """Give a copy of an image's inputs, to be changed.

    It lies within the working copy, because an engine in another container sees only the shared folder of the tests.
    """
    (ROOT / 'build').mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / 'build', prefix='working-copy-') as folder:
        copy = Path(folder)
        copy.chmod(0o755)  # the container's user has to see into it
        for name in CONTEXT:
            source = ROOT / name
            copied = shutil.copytree if source.is_dir() else shutil.copy2
            copied(source, copy / name)
        yield copy


@pytest.fixture
def shared_clone() -> Iterator[Path]:
    """Give a clone within the working copy: an engine in another container sees nothing else."""
    (ROOT / 'build').mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / 'build', prefix='clone-') as folder:
        Path(folder).chmod(0o755)  # the container's user has to see into it
        yield cloned_into(Path(folder))


def cloned_into(clone: Path) -> Path:
    """Return a folder that holds the working copy's files, those not committed yet as well, in one commit."""
    listed = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split('\0')):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)  # with its time, or make would install everything again
    for command in (['init', '--quiet'], ['add', '--all'], ['commit', '--quiet', '--message', 'all']):
        subprocess.run(['git', '-c', 'user.name=a', '-c', 'user.email=a@example.org', *command], cwd=clone, check=True)
    return clone


@contextmanager
def built(engine: Engine, image: Image, folder: Path) -> Iterator[str]:
    """Build a changed working copy as the image was built, and give the name of the result."""
    name = unique('image')
    engine.docker('build', *engine.build_options, *image.arguments, '--tag', name, str(folder))
    yield name
    engine.docker('image', 'rm', '--force', name)


def default_of(variable: str) -> str:
    """Return compose's default for a variable."""
    match = re.search(rf'\${{{variable}:-([^}}]+)}}', (ROOT / 'docker-compose.yml').read_text(encoding='utf-8'))
    assert match, f'docker-compose.yml has no default for {variable}'
    return match[1]
