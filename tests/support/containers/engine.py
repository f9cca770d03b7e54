"""One container of a test, and one set-up of compose: started, asked, and removed with all that they wrote."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
import re
from types import TracebackType
from typing import Any
import uuid

import requests

from rehearsal.machines.engine import Engine
from tests.support.server import BROWSER, ROOT
from tests.support.waiting import eventually, PATIENCE

PORT = 8000
ANSWER_SECONDS = 30
READ_ONLY = ('--read-only', '--tmpfs=/tmp', '--cap-drop=ALL', '--security-opt=no-new-privileges')
# For the embedded database, with nothing but the container's own memory.
EMBEDDED = ('--tmpfs=/app/data:uid=10001,mode=0700',)


def unique(name: str) -> str:
    """Return a name that no other run uses on the same engine."""
    return f'visitors-test-{name}-{uuid.uuid4().hex[:8]}'


class Container:
    """A running container of an image."""

    def __init__(self, engine: Engine, network: str, image: str, *options: str, command: Sequence[str] = (),
                 port: int = PORT) -> None:
        """Start a container of an image; its port is published on a free one."""
        self._engine = engine
        self._port = port
        self.name = unique('container')
        engine.docker('run', '--detach', f'--name={self.name}', f'--network={network}',
                      f'--publish={engine.publish_address}::{port}', *options, image, *command)

    def __enter__(self) -> 'Container':
        """Return the started container."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Remove the container; its log goes to pytest, which shows it with a failure."""
        print(self.logs)
        self._engine.docker('rm', '--force', '--volumes', self.name)

    @property
    def logs(self) -> str:
        """The output of the container on both of its streams."""
        return self._engine.logs(self.name)

    @property
    def state(self) -> dict[str, Any]:
        """The engine's record of the container's state and health."""
        return dict(json.loads(self._engine.docker('inspect', '--format={{json .State}}', self.name)))

    @property
    def address(self) -> str:
        """The URL that the container answers at; another one after each start."""
        published = self._engine.docker('port', self.name, str(self._port)).splitlines()[0]
        return f'http://{self._engine.host}:{published.rpartition(":")[2]}'

    def run(self, *command: str) -> str:
        """Return the output of a command in the container."""
        return self._engine.docker('exec', self.name, *command)

    def get(self, path: str = '/') -> requests.Response:
        """Return the answer to a browser's request."""
        return requests.get(self.address + path, headers={'User-Agent': BROWSER}, timeout=ANSWER_SECONDS)

    def wait_until_served(self) -> None:
        """Return when the application answers."""
        eventually(lambda: answers(self.address), 'the container serves')

    def wait_for_health(self, health: str) -> None:
        """Return when the container's own health check says this: healthy or unhealthy."""
        eventually(lambda: bool(self.state['Health']['Status'] == health), f'the container is {health}')

    def health_log(self) -> str:
        """Return the last output of the health check."""
        return str(self.state['Health']['Log'][-1]['Output'])


class Composed:
    """A set-up of compose files, with variables in place of those of .env."""

    def __init__(self, engine: Engine, variables: Mapping[str, str], files: Sequence[str] = (),
                 folder: Path = ROOT) -> None:
        """Make a set-up from a folder's compose files, none of it started yet; variables stand for those of .env."""
        self._engine = engine
        self._folder = folder
        self._options = [f'--project-name={unique("compose")}', *(f'--file={file}' for file in files),
                         '--env-file=/dev/null']
        self._variables = {'PUBLISH_ADDRESS': engine.publish_address, 'PORT': '0', **variables}

    def __enter__(self) -> 'Composed':
        """Return the set-up."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Remove all of it; its log goes to pytest, which shows it with a failure."""
        print(self('logs'))
        self('down', '--volumes', '--timeout=5')

    def __call__(self, *arguments: str) -> str:
        """Return the output of a compose command for this set-up."""
        return self._engine.compose(*self._options, *arguments, environment=self._variables, cwd=self._folder)

    def up(self) -> None:
        """Start everything that is not running, and return when all of it is healthy or done."""
        self('up', '--detach', '--no-build', '--wait', f'--wait-timeout={2 * PATIENCE}')

    def inspect(self, service: str) -> dict[str, Any]:
        """Return the engine's record of a service's only container."""
        (container,) = self('ps', '--all', '--quiet', service).split()
        (inspected,) = json.loads(self._engine.docker('inspect', container))
        return dict(inspected)

    @property
    def address(self) -> str:
        """The URL that the application answers at; another one after each start."""
        published = self('port', 'application', str(PORT)).strip()
        return f'http://{self._engine.host}:{published.rpartition(":")[2]}'

    def get(self, path: str = '/') -> requests.Response:
        """Return the answer to a browser's request that comes through a proxy, always from the same address."""
        headers = {'User-Agent': BROWSER, 'X-Forwarded-For': '198.51.100.7'}
        return requests.get(self.address + path, headers=headers, timeout=ANSWER_SECONDS)

    def leftovers(self) -> dict[str, str]:
        """Return the containers, networks and volumes that the engine still has of this set-up."""
        project = self._options[0].partition('=')[2]
        label = f'--filter=label=com.docker.compose.project={project}'
        return {kind: self._engine.docker(kind, 'ls', '--quiet', label, *(['--all'] if kind == 'container' else []))
                for kind in ('container', 'network', 'volume')}


def counted(page: requests.Response) -> tuple[int, int]:
    """Return the numbers of a page: this visitor's visits, and all visitors."""
    assert page.status_code == 200, page.text
    visits = re.search(r'You have visited this page ([0-9]+) time', page.text)
    total = re.search(r'Total visitors: ([0-9]+)', page.text)
    assert visits and total, page.text
    return int(visits[1]), int(total[1])


def answers(address: str) -> bool:
    """Return whether an application answers at an address."""
    try:
        return requests.get(f'{address}/livez', timeout=5).ok
    except requests.RequestException:
        return False
