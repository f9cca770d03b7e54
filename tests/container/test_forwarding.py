"""A machine whose firewall keeps containers apart is named before the first test of a container runs."""

from collections.abc import Iterator
from pathlib import Path
import shutil
import signal
import subprocess
import tempfile

import pytest

from rehearsal.machines.engine import CommandFailed, Engine
from tests.support.containers.bases import BaseImages
from tests.support.containers.fixtures import default_of
from tests.support.containers.forwarding import obstacle
from tests.support.waiting import eventually, PATIENCE

pytestmark = pytest.mark.container

# An engine that leaves the firewall as it is, in a network of its own, whose firewall a test may change. Its files in
# /run and /opt end with it.
DAEMON = """
mount -t tmpfs run /run && mount -t tmpfs opt /opt && ip link set lo up
sysctl --quiet --write net.bridge.bridge-nf-call-iptables=1
exec dockerd --config-file={folder}/daemon.json --host=unix://{folder}/socket --pidfile={folder}/pid \
    --exec-root={folder}/exec --data-root={folder}/data \
    --bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false
"""


class Walled:
    """An engine behind a firewall of its own."""

    def __init__(self, folder: Path, process: 'subprocess.Popen[bytes]') -> None:
        """Store the engine's folder and its process."""
        self.engine = Engine(f'unix://{folder}/socket', is_own=True)
        self._process = process

    def iptables(self, *arguments: str) -> None:
        """Change the firewall of the engine's network."""
        subprocess.run(['nsenter', f'--target={self._process.pid}', '--net', 'iptables', *arguments], check=True)

    def answers(self) -> bool:
        """Return whether the engine answers; fail if it is not running."""
        assert self._process.poll() is None, 'dockerd ended'
        try:
            return bool(self.engine.docker('version'))
        except CommandFailed:
            return False


@pytest.fixture
def walled(engine: Engine) -> Iterator[Walled]:
    """Give an engine behind a firewall of its own."""
    folder = Path(tempfile.mkdtemp(prefix='walled-'))
    (folder / 'daemon.json').write_text('{}', encoding='ascii')
    with (folder / 'log').open('wb') as log:
        process = subprocess.Popen(['unshare', '--net', '--mount', 'sh', '-c', DAEMON.format(folder=folder)],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    walled = Walled(folder, process)
    try:
        eventually(walled.answers, 'the engine answers')
        yield walled
    finally:
        print((folder / 'log').read_text(encoding='utf-8')[-2000:])
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        shutil.rmtree(folder)


def test_a_firewall_that_drops_what_is_forwarded_is_named_with_what_to_do(
        engine: Engine, base_images: BaseImages, walled: Walled) -> None:
    image = base_images.python(default_of('PYTHON_IMAGE'))
    subprocess.run(f'docker save {image} | docker --host {walled.engine.environment["DOCKER_HOST"]} load', shell=True,
                   env=engine.environment, check=True)
    assert obstacle(walled.engine, image) is None

    walled.iptables('--policy', 'FORWARD', 'DROP')

    problem = obstacle(walled.engine, image)
    assert problem and '\n' not in problem
    assert problem.startswith('containers of one network do not reach each other (timed out): a firewall')
    assert 'iptables --policy FORWARD ACCEPT' in problem
