"""Step migrate: the application's own command decides, and the step ends with its exit code."""

from pathlib import Path
import re
import signal
import threading

import pytest

from instance import container, lifecycle, migrate
from instance.errors import StepFailed
from instance.lifecycle import heartbeats
from instance.migrate import last_messages, meaning
from rehearsal.calls import Call
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.launched_group import HEARTBEAT, LaunchedGroup
from tests.support.local_aws import operations, texts_of
from tests.support.machine_folder import DEPLOY, FolderMachine, IMAGE_ID, last_line, STEP_SECONDS, value_of
from tests.support.parameters import OWNER_PASSWORD, PASSWORD, put_secrets, put_settings
from tests.support.postgresql import execute, free_port, PostgresServer, rows, value
from tests.support.server import flask

KEY = 'k' * 32


def configure(machine: FolderMachine, aws: EmbeddedRehearsal, url: str, **secrets: str) -> None:
    put_settings(aws, DATABASE_URL=url)
    put_secrets(aws, VISITOR_KEY=KEY, **secrets)
    result = machine.run('config')
    assert result.returncode == 0, result.stdout


def migrate_until_beats(machine: FolderMachine, aws: EmbeddedRehearsal, file: Path, number: int) -> None:
    """Let the migration run until this many heartbeats have arrived."""
    machine.answer_docker({'image inspect': {'stdout': f'{IMAGE_ID}\n'}, 'run': {'until': str(file)}})

    def count(_call: Call) -> None:
        if operations(aws).count(HEARTBEAT) >= number:
            file.touch()

    aws.faults.watch(HEARTBEAT, act=count)


def result(machine: FolderMachine) -> tuple[int, str]:
    result = machine.run('migrate')
    return result.returncode, last_line(result.stdout)


def test_an_empty_database_gets_its_schema(
        machine: FolderMachine, aws: EmbeddedRehearsal, postgresql_url: str) -> None:
    configure(machine, aws, postgresql_url)
    code, line = result(machine)
    assert code == 0
    assert re.fullmatch(r'visitors migrate: [0-9.]+ s: the schema fits', line)
    assert value(postgresql_url, 'SELECT count(*) FROM alembic_version') == 1
    attempts = rows(postgresql_url, 'SELECT deploy_id, instance_id FROM migration_attempt')
    assert attempts == [(DEPLOY, machine.instance)], 'the verdict is kept under the deploy of the user data'
    assert machine.boot['phases'][-1]['phase'] == 'migrate'


def test_the_owner_migrates_and_the_application_never_has_its_password(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                                       postgresql: PostgresServer) -> None:
    url = postgresql.create_database()
    database = url.rpartition('/')[2]
    put_settings(aws, MIGRATION_DATABASE_URL=url)
    configure(machine, aws, postgresql.url(database, 'reader'), DATABASE_PASSWORD=PASSWORD,
              MIGRATION_DATABASE_PASSWORD=OWNER_PASSWORD)
    assert result(machine)[0] == 0
    assert value(url, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'reader'") is True
    (migration,) = [call for call in machine.calls('docker') if call[0] == 'run']
    assert [option.partition('target=')[2] for option in migration if option.startswith('--mount=')] == [
        '/run/visitors/secrets/application,readonly', '/run/visitors/secrets/migration,readonly']
    assert value_of(migration, '--env-file').endswith('/migration.env')


def test_it_runs_the_image_that_was_baked_and_no_other(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                       postgresql_url: str) -> None:
    configure(machine, aws, postgresql_url)
    machine.answer_docker({'image inspect': {'stdout': f'sha256:{"0" * 64}\n'}})
    code, line = result(machine)
    assert code == 1
    assert f'has the id sha256:{"0" * 64}, and not {IMAGE_ID} as in image.json' in line
    assert not [call for call in machine.calls('docker') if call[0] == 'run']


def test_an_image_that_is_missing_is_named(
        machine: FolderMachine, aws: EmbeddedRehearsal, postgresql_url: str) -> None:
    configure(machine, aws, postgresql_url)
    machine.answer_docker({'image inspect': {'stderr': 'Error: No such image: visitors:1.0.2-build.41', 'code': 1}})
    code, line = result(machine)
    assert (code, line.partition('FAILED (1): ')[2]) == (
        1, 'image visitors:1.0.2-build.41: Error: No such image: visitors:1.0.2-build.41')


def test_a_failed_deploy_is_reported_with_its_reason(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                     postgresql_url: str) -> None:
    configure(machine, aws, postgresql_url)
    # A table that the first revision creates as well: the revision fails each time, and is tried once.
    execute(postgresql_url, 'CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)')
    execute(postgresql_url, "INSERT INTO alembic_version VALUES ('e75588bf2531')")  # pragma: allowlist secret
    execute(postgresql_url, 'CREATE TABLE visitors (id integer)')
    code, line = result(machine)
    assert code == 20
    assert 'FAILED (20): the migration of this deploy has failed: ' in line
    assert 'visitors' in line
    assert 'Traceback' not in line
    assert machine.boot['failure']['code'] == 20
    again, repeated = result(machine)
    assert again == 20
    assert f'deploy 7/ami-0123456789abcdef0 failed on {machine.instance}' in repeated


def test_a_schema_that_this_image_does_not_fit_is_reported(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                           postgresql_url: str) -> None:
    configure(machine, aws, postgresql_url)
    execute(postgresql_url, 'CREATE TABLE of_another_application (id integer)')
    code, line = result(machine)
    assert code == 22
    assert 'FAILED (22): this image does not fit the schema: the database has tables, but no record of' in line


def test_an_unavailable_database_is_reported_with_its_error() -> None:
    url = f'postgresql://visitors:secret-word@127.0.0.1:{free_port()}/visitors'  # pragma: allowlist secret
    result = flask(url, 'schema', 'ready', '--timeout', '1')
    assert result.returncode == 21
    words = last_messages(result.stderr.splitlines())
    assert re.search('waiting for the database: OperationalError: .*; timed out after 1 s', words)
    assert 'secret-word' not in words


@pytest.mark.parametrize(('code', 'says'), [
    (20, 'the migration of this deploy has failed'), (21, 'another instance was migrating for too long'),
    (22, 'does not fit'), (23, 'uses another time zone'), (24, 'pooler'), (1, 'flask schema ready ended with 1'),
    (125, 'docker could not run it (125)'), (137, 'flask schema ready ended with 137'),
])
def test_each_exit_code_is_passed_on_and_explained(
        machine: FolderMachine, aws: EmbeddedRehearsal, code: int, says: str) -> None:
    configure(machine, aws, 'postgresql://visitors@database/visitors')
    machine.answer_migration(code, 'its last words\n')
    ended_with, line = result(machine)
    assert ended_with == code
    assert says in line
    assert line.endswith('its last words')
    assert says in meaning(code)


def test_a_container_that_was_left_over_is_removed_first(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    configure(machine, aws, 'postgresql://visitors@database/visitors')
    machine.answer_migration(0)
    assert result(machine)[0] == 0
    calls = machine.calls('docker')
    assert [call[0] for call in calls[:4]] == ['image', 'stop', 'rm', 'run']
    assert calls[2] == ['rm', '--force', 'visitors-migrate']


def test_a_migration_that_takes_longer_than_the_boot_is_ended(
        machine: FolderMachine, aws: EmbeddedRehearsal, tmp_path: Path, postgresql_url: str, monkeypatch:
        pytest.MonkeyPatch) -> None:
    configure(machine, aws, postgresql_url)
    begun, stopped = str(tmp_path / 'begun'), str(tmp_path / 'stopped')
    machine.answer_docker({'image inspect': {'stdout': f'{IMAGE_ID}\n'}, 'stop': {'until': begun, 'touches': stopped},
                           'run': {'stderr': 'I am at work\n', 'begins': begun, 'until': stopped}})
    entered = machine.enter(monkeypatch)
    monkeypatch.setattr(container, 'remove', lambda name: None)  # it stops first, and here a stop waits for the start
    machine.age_boot(1200 - 300 - 1)
    with pytest.raises(StepFailed, match=r'^the schema was not ready within [01] s: I am at work$') as failed:
        migrate.run(entered)
    assert failed.value.exit_code == 1
    assert ['stop', '--time=15', 'visitors-migrate'] in machine.calls('docker')


def test_a_boot_that_has_no_time_left_migrates_nothing(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                       postgresql_url: str) -> None:
    configure(machine, aws, postgresql_url)
    machine.age_boot(1000)
    code, line = result(machine)
    assert code == 1
    assert 'no time is left of the 1200 s of a boot' in line
    assert not machine.calls('docker')


def test_a_terminated_step_ends_its_container(machine: FolderMachine, aws: EmbeddedRehearsal, tmp_path: Path,
                                              postgresql_url: str) -> None:
    configure(machine, aws, postgresql_url)
    stopped = str(tmp_path / 'stopped')
    machine.answer_docker({'image inspect': {'stdout': f'{IMAGE_ID}\n'}, 'stop': {'touches': stopped},
                           'run': {'stderr': 'I am at work\n', 'until': stopped}})
    with machine.start('migrate') as process:
        assert process.stderr
        assert process.stderr.readline() == 'I am at work\n'
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STEP_SECONDS)
    assert process.returncode == 143
    assert ['stop', '--time=15', 'visitors-migrate'] in machine.calls('docker')
    assert machine.boot['failure'] is None, 'SIGTERM is no failure'


def test_heartbeats_are_sent_while_something_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, 'HEARTBEAT_SECONDS', 0.05)
    beats: list[int] = []
    third = threading.Event()

    def beat() -> None:
        beats.append(len(beats))
        if len(beats) == 3:
            third.set()

    before = set(threading.enumerate())
    with heartbeats(beat):
        (heart,) = set(threading.enumerate()) - before
        assert third.wait(STEP_SECONDS)
    heart.join(STEP_SECONDS)
    assert not heart.is_alive(), 'nothing is kept waiting after the end'


def test_the_first_heartbeat_is_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, 'HEARTBEAT_SECONDS', 3600)
    beaten = threading.Event()
    with heartbeats(beaten.set):
        assert beaten.wait(60), 'a hook may have been waiting for almost a minute'


@pytest.mark.parametrize('group', ['', 'visitors'])
def test_a_hook_is_kept_waiting_while_the_schema_is_brought_up(
        machine: FolderMachine, aws: EmbeddedRehearsal, group: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    launched = LaunchedGroup(aws, machine)
    configure(machine, aws, 'postgresql://visitors@database/visitors')
    machine.write_user_data(**launched.user_data, AUTO_SCALING_GROUP=group)
    migrate_until_beats(machine, aws, tmp_path / 'enough', 2)
    monkeypatch.setattr(lifecycle, 'HEARTBEAT_SECONDS', 0.3)
    assert migrate.run(machine.enter(monkeypatch)) == 'the schema fits'
    beats = texts_of(aws, HEARTBEAT)
    assert len(beats) >= 2
    assert f'InstanceId={launched.instance}' in beats[0]
    assert 'LifecycleHookName=launch' in beats[0]
    assert 'AutoScalingGroupName=visitors' in beats[0]


def test_a_heartbeat_that_fails_changes_nothing(machine: FolderMachine, aws: EmbeddedRehearsal, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch,
                                                capfd: pytest.CaptureFixture[str]) -> None:
    launched = LaunchedGroup(aws, machine)
    configure(machine, aws, 'postgresql://visitors@database/visitors')
    machine.write_user_data(**launched.user_data)
    # The first failure was printed before the second heartbeat.
    migrate_until_beats(machine, aws, tmp_path / 'enough', 2)
    aws.faults.refuse(HEARTBEAT, status=400, code='AccessDenied', message='not for you')
    monkeypatch.setattr(lifecycle, 'HEARTBEAT_SECONDS', 0.3)
    assert migrate.run(machine.enter(monkeypatch)) == 'the schema fits'
    assert 'heartbeat: lifecycle hook launch of visitors: AccessDenied: not for you' in capfd.readouterr().err


def test_the_last_message_before_a_traceback_is_reported() -> None:
    lines = ['2026-01-01 00:00:00,000 INFO schema: leading', 'Traceback (most recent call last):', '  File "x"',
             '2026-01-01 00:00:01,000 ERROR schema: deploy 7 failed: ProgrammingError', 'Exception: unrelated']
    assert last_messages(lines) == 'leading; deploy 7 failed: ProgrammingError'
    assert last_messages(['one', 'two', 'three']) == 'two; three'
    assert last_messages([]) == 'no output'
