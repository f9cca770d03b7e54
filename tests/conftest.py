"""Fixtures that several subjects share: one PostgreSQL server for the run, a fresh database for each test."""

from collections.abc import Iterator
import os
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
import pytest

from tests.support.postgresql import PostgresServer

# A plugin that another one imports stands before it, so that pytest explains its assertions.
pytest_plugins = ['tests.support.local_aws', 'tests.support.account', 'tests.support.containers.fixtures',
                  'tests.support.machine_folder', 'tests.support.instances', 'tests.support.workshop',
                  'tests.support.installation']

# The duration of an example depends on the load of this machine.
settings.register_profile('patient', settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('patient')
# Of a mutant it is enough to know that a test notices it; the smallest example of that would take minutes to find.
settings.register_profile('mutants', settings.get_profile('ci'), phases=(Phase.explicit, Phase.generate))


def pytest_configure(config: pytest.Config) -> None:
    """Name the marker that ties a test to its row of the table of faults, and the one of virtual machines."""
    config.addinivalue_line('markers', 'packer: needs Packer 1.6.6 or newer')
    config.addinivalue_line('markers', 'vm: boots virtual machines, which takes minutes; needs root and QEMU')
    config.addinivalue_line('markers', 'drill: one of many tests of a kind, of which `make test` runs a sample')
    config.addinivalue_line('markers', 'stack: applies terraform/ to a rehearsal; needs root and Terraform')
    config.addinivalue_line('markers', 'fault(row): proves this row of the table of faults that the schema survives')


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run twice as many tests side by side as there are processors, because tests wait half of their time."""
    return min(8, 2 * len(os.sched_getaffinity(0)))


@pytest.fixture(scope='session')
def postgresql() -> Iterator[PostgresServer]:
    """Give a running PostgreSQL server; tests that stop or freeze a server make one of their own."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture
def postgresql_url(postgresql: PostgresServer) -> str:
    """Give the URL of an empty PostgreSQL database."""
    return postgresql.create_database()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Give the URL of an SQLite database that does not exist yet."""
    return f'sqlite:///{tmp_path / "visitors.sqlite3"}'


@pytest.fixture(params=['postgresql', 'sqlite'])
def database_url(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty database, once on PostgreSQL and once on SQLite."""
    return str(request.getfixturevalue(f'{request.param}_url'))
