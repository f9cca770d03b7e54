"""The fixture of the tests of the schema: instances that boot."""

from collections.abc import Iterator
from pathlib import Path
import tempfile

import pytest

from tests.support.booting import Instances


@pytest.fixture
def instances() -> Iterator[Instances]:
    """Give instances that end with the test."""
    with tempfile.TemporaryDirectory(prefix='visitors-instances-') as folder:
        instances = Instances(Path(folder))
        try:
            yield instances
        finally:
            instances.remove()
