"""The precondition of all tests of containers: containers of one network reach each other."""

import pytest

from rehearsal.machines.engine import Engine
from tests.support.containers.bases import BaseImages
from tests.support.containers.fixtures import default_of
from tests.support.containers.forwarding import obstacle


@pytest.fixture(autouse=True)
def engine_that_forwards(request: pytest.FixtureRequest) -> None:
    """Let tests of containers run only where containers reach each other."""
    if request.node.get_closest_marker('container'):
        request.getfixturevalue('reachable_containers')


@pytest.fixture(scope='session')
def reachable_containers(engine: Engine, base_images: BaseImages) -> None:
    """End the run with one line if containers do not reach each other; else tests would fail far from the cause."""
    problem = obstacle(engine, base_images.python(default_of('PYTHON_IMAGE')))
    if problem:
        pytest.exit(problem, returncode=1)
