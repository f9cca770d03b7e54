"""Step purge: an installation with a retention forgets old visitors, by one machine at a time."""

from contextlib import closing

import psycopg2
import pytest

from rehearsal.embedded import EmbeddedRehearsal
from tests.support.machine_folder import FolderMachine, IMAGE_ID, last_line, value_of
from tests.support.parameters import KEY, put_secrets, put_settings
from tests.support.postgresql import execute, value
from visitors.retention import PURGE_LOCK


@pytest.fixture
def serving(machine: FolderMachine, aws: EmbeddedRehearsal, postgresql_url: str) -> FolderMachine:
    """Give a machine whose database has an old visitor, with a retention of 60 days."""
    put_settings(aws, DATABASE_URL=postgresql_url, PURGE_OLDER_THAN='60')
    put_secrets(aws, VISITOR_KEY=KEY)
    for step in ('config', 'migrate'):
        result = machine.run(step)
        assert result.returncode == 0, result.stdout + result.stderr
    execute(postgresql_url, "INSERT INTO visitors (id, last_day) VALUES (md5('a')::uuid, '2020-01-01')")
    return machine


def test_who_has_not_come_for_long_is_forgotten(serving: FolderMachine, postgresql_url: str) -> None:
    result = serving.run('purge')
    assert result.returncode == 0, result.stdout
    assert 'forgot 1 visitors who had not come since ' in last_line(result.stdout)
    assert value(postgresql_url, 'SELECT count(*) FROM visitors') == 0
    assert 'PURGE_OLDER_THAN' not in serving.variables('application'), 'it is no setting of the application'


def test_another_machine_that_forgets_is_left_alone(serving: FolderMachine, postgresql_url: str) -> None:
    with closing(psycopg2.connect(postgresql_url)) as other:
        other.cursor().execute(str(PURGE_LOCK))
        result = serving.run('purge')
    assert result.returncode == 0
    assert last_line(result.stdout).endswith('another purge is running and forgets the rest')
    assert value(postgresql_url, 'SELECT count(*) FROM visitors') == 1


def test_without_a_retention_no_container_is_started(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    put_settings(aws, DATABASE_URL='postgresql://visitors@database/visitors')
    put_secrets(aws, VISITOR_KEY=KEY)
    assert machine.run('config').returncode == 0
    result = machine.run('purge')
    assert (result.returncode, machine.calls('docker')) == (0, [])
    assert last_line(result.stdout).endswith('visitors are kept: PURGE_OLDER_THAN is not set')


def test_it_runs_beside_the_application_with_its_own_memory(serving: FolderMachine) -> None:
    assert serving.run('purge').returncode == 0
    (call,) = [call for call in serving.calls('docker') if '--name=visitors-purge' in call]
    assert value_of(call, '--memory') == str(256 << 20)
    assert call[-4:] == ['flask', 'purge', '--older-than', '60']
    assert 'secrets/migration' not in ' '.join(call), 'it signs in as the application'


def test_an_unavailable_database_fails_with_its_error(serving: FolderMachine) -> None:
    serving.answer_docker({'image inspect': {'stdout': f'{IMAGE_ID}\n'},
                           'run': {'code': 3, 'stderr': 'the database failed: OperationalError: refused\n'}})
    result = serving.run('purge')
    assert result.returncode == 1
    reason = 'the database failed: OperationalError: refused'
    assert last_line(result.stdout).endswith(f'flask purge ended with 3: {reason}')
    assert not serving.was_turned_off, 'it serves on'
