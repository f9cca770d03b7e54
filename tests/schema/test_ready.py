"""`flask schema ready` by real processes on a real PostgreSQL: which leads, which wait, which are refused."""

from pathlib import Path
import re
import time

import pytest

from tests.support.booting import boot_together, codes, head, Instances, leaders, logs, tables, verdict
from tests.support.postgresql import execute, free_port, PostgresServer, rows, value
from tests.support.revisions import make_release
from tests.support.server import flask
from tests.support.waiting import eventually

# Instances that do not wait end within this time on a busy machine; instances that wait would need 180 s.
AT_ONCE = 60.0
UNTIL_RELEASED = """
while not Path(__file__).with_suffix('.released').exists():
    time.sleep(0.02)
"""


@pytest.mark.fault(1)
def test_eight_instances_on_an_older_database_have_one_leader_and_all_serve(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    instances.bring_up(postgresql_url, make_release(tmp_path / 'old', 2))

    boots = instances.boot_many(8, postgresql_url, make_release(tmp_path / 'new', 5))

    assert codes(boots) == [0] * 8, logs(boots)
    assert len(leaders(boots)) == 1
    assert head(postgresql_url) == 'r5'
    assert verdict(postgresql_url) == ('succeeded', 1)


@pytest.mark.fault(2)
def test_eight_instances_on_an_empty_database_have_one_leader_and_none_refuses(
        postgresql: PostgresServer, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 3)
    for _ in range(12):
        url = postgresql.create_database()

        outcomes, log = boot_together(8, url, release, tmp_path)

        assert outcomes == [0] * 8, log
        assert log.count('leading: attempt') == 1, log
        assert head(url) == 'r3'


@pytest.mark.fault(3)
def test_a_failing_revision_is_tried_once_and_stops_every_instance_at_the_last_good_one(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    instances.bring_up(postgresql_url, make_release(tmp_path / 'old', 2))

    boots = instances.boot_many(8, postgresql_url, broken_release(tmp_path))

    assert codes(boots) == [20] * 8, logs(boots)
    assert len(leaders(boots)) == 1
    assert verdict(postgresql_url) == ('failed', 1)
    assert head(postgresql_url) == 'r4'
    assert 'r5' not in tables(postgresql_url)
    assert 'the disk of r5 is full' in str(value(postgresql_url, 'SELECT error FROM migration_attempt '
                                                                 "WHERE deploy_id = 'deploy-1'"))


@pytest.mark.fault(4)
def test_in_one_transaction_a_failing_revision_leaves_the_database_as_it_was(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    instances.bring_up(postgresql_url, make_release(tmp_path / 'old', 2))

    boots = instances.boot_many(8, postgresql_url, broken_release(tmp_path), '--one-transaction')

    assert codes(boots) == [20] * 8, logs(boots)
    assert len(leaders(boots)) == 1
    assert verdict(postgresql_url) == ('failed', 1)
    assert head(postgresql_url) == 'r2'
    assert not {'r3', 'r4', 'r5'} & tables(postgresql_url)
    assert value(postgresql_url, 'SELECT count(*) FROM schema_revision_log') == 2


def test_in_one_transaction_all_revisions_are_applied(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    boot = instances.boot(postgresql_url, make_release(tmp_path / 'new', 3), '--one-transaction')

    assert boot.ended() == 0, boot.text
    assert head(postgresql_url) == 'r3'
    assert log(postgresql_url) == [('r1', 'deploy-1'), ('r2', 'deploy-1'), ('r3', 'deploy-1')]


@pytest.mark.fault(5)
def test_a_late_replacement_of_a_failed_deploy_ends_at_once_and_tries_nothing(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    release = broken_release(tmp_path)
    assert instances.boot(postgresql_url, release).ended() == 20
    started = time.monotonic()

    late = instances.boot(postgresql_url, release)

    assert late.ended() == 20
    assert time.monotonic() - started < AT_ONCE
    assert not late.has_led
    assert 'failed on instance-0' in late.text
    assert verdict(postgresql_url) == ('failed', 1)


def test_a_failed_deploy_that_is_started_again_gets_a_verdict_of_its_own(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    assert instances.boot(postgresql_url, broken_release(tmp_path)).ended() == 20

    again = instances.boot(postgresql_url, make_release(tmp_path / 'mended', 5), deploy='deploy-2')

    assert again.ended() == 0, again.text
    assert verdict(postgresql_url, 'deploy-1') == ('failed', 1)
    assert verdict(postgresql_url, 'deploy-2') == ('succeeded', 1)


@pytest.mark.fault(6)
def test_the_old_image_serves_on_what_a_failed_release_has_left(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    old = make_release(tmp_path / 'old', 2)
    instances.bring_up(postgresql_url, old)
    assert instances.boot(postgresql_url, broken_release(tmp_path)).ended() == 20

    boot = instances.boot(postgresql_url, old)

    assert boot.ended() == 0, boot.text
    assert 'which can live with it' in boot.text
    assert head(postgresql_url) == 'r4'


@pytest.mark.fault(13)
@pytest.mark.parametrize(('newest', 'prefix', 'code', 'says'), [
    (3, 'r', 0, 'which can live with it'),
    (5, 'r', 0, 'the schema is the one of this code'),
    (2, 'x', 22, 'unknown to this code'),
])
def test_on_a_newer_schema_the_old_image_serves_and_a_foreign_one_is_refused(
        instances: Instances, postgresql_url: str, tmp_path: Path, newest: int, prefix: str, code: int,
        says: str) -> None:
    instances.bring_up(postgresql_url, make_release(tmp_path / 'new', 5))

    boot = instances.boot(postgresql_url, make_release(tmp_path / 'image', newest, prefix=prefix))

    assert boot.ended() == code, boot.text
    assert says in boot.text
    assert head(postgresql_url) == 'r5'


@pytest.mark.fault(14)
@pytest.mark.parametrize(('newest', 'code', 'says'), [
    (3, 22, 'can no longer live with it'),
    (4, 0, 'which can live with it'),
    (6, 0, 'which can live with it'),
])
def test_after_a_contract_only_code_from_its_floor_on_serves(
        instances: Instances, postgresql_url: str, tmp_path: Path, newest: int, code: int, says: str) -> None:
    instances.bring_up(postgresql_url, make_release(tmp_path / 'new', 7, floors={'r7': 'r4'}))

    boot = instances.boot(postgresql_url, make_release(tmp_path / 'image', newest))

    assert boot.ended() == code, boot.text
    assert says in boot.text


def test_a_floor_that_was_never_applied_rolls_the_revision_back(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    boot = instances.boot(postgresql_url, make_release(tmp_path / 'new', 3, floors={'r3': 'r9'}))

    assert boot.ended() == 20, boot.text
    assert head(postgresql_url) == 'r2'
    assert 'r3' not in tables(postgresql_url)


@pytest.mark.fault(16)
def test_two_releases_at_once_never_have_two_leaders_and_end_at_the_newer_one(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    execute(postgresql_url, 'CREATE TABLE turns (backend integer, began timestamptz, ended timestamptz)')
    execute(postgresql_url, 'CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)')
    execute(postgresql_url, "INSERT INTO alembic_version VALUES ('r1')")
    turn = ("op.execute('INSERT INTO turns SELECT pg_backend_pid(), now(), clock_timestamp() FROM pg_sleep(0.3)')")
    bodies = {f'r{number}': turn for number in range(2, 6)}
    older = make_release(tmp_path / 'older', 3, bodies)
    newer = make_release(tmp_path / 'newer', 5, bodies)

    boots = [instances.boot(postgresql_url, release, deploy=release.name) for release in (older, newer) * 4]

    assert codes(boots) == [0] * 8, logs(boots)
    assert head(postgresql_url) == 'r5'
    assert value(postgresql_url, 'SELECT count(*) FROM turns') == 4
    overlaps = 'FROM turns AS a JOIN turns AS b ON a.backend <> b.backend AND a.began < b.ended AND b.began < a.ended'
    assert value(postgresql_url, f'SELECT count(*) {overlaps}') == 0
    assert len(leaders(boots)) <= 2


@pytest.mark.fault(17)
def test_the_old_image_scales_out_during_a_migration_without_waiting(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    old = make_release(tmp_path / 'old', 2)
    instances.bring_up(postgresql_url, old)
    new = make_release(tmp_path / 'new', 3, {'r3': UNTIL_RELEASED})
    migrating = instances.boot(postgresql_url, new)
    eventually(lambda: migrating.has_led, 'the migration runs')
    started = time.monotonic()

    boot = instances.boot(postgresql_url, old)

    assert boot.ended() == 0, boot.text
    assert time.monotonic() - started < AT_ONCE
    assert migrating.process.poll() is None, 'the migration was over already'
    (new / 'versions' / 'r3.released').touch()
    assert migrating.ended() == 0


@pytest.mark.fault(18)
def test_an_instance_that_waits_too_long_ends_with_21_and_the_leader_continues(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 1, {'r1': UNTIL_RELEASED})
    migrating = instances.boot(postgresql_url, release)
    eventually(lambda: migrating.has_led, 'the migration runs')

    waiting = instances.boot(postgresql_url, release, '--timeout', '1.5')

    assert waiting.ended() == 21, waiting.text
    (release / 'versions' / 'r1.released').touch()
    assert 'waiting for migrate-leader-instance-0' in waiting.text
    assert migrating.ended() == 0
    assert verdict(postgresql_url) == ('succeeded', 1)


@pytest.mark.fault(19)
def test_a_database_older_than_the_log_gets_its_past_revisions_logged_in_order(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    for statement in ('CREATE TABLE r1 (id integer)', 'CREATE TABLE r2 (id integer)',
                      'CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)',
                      "INSERT INTO alembic_version VALUES ('r2')"):
        execute(postgresql_url, statement)

    new = instances.boot(postgresql_url, make_release(tmp_path / 'new', 4))
    assert new.ended() == 0, new.text
    old = instances.boot(postgresql_url, make_release(tmp_path / 'old', 2))
    assert old.ended() == 0, old.text

    assert log(postgresql_url) == [('r1', 'seed'), ('r2', 'seed'), ('r3', 'deploy-1'), ('r4', 'deploy-1')]
    assert 'which can live with it' in old.text


@pytest.mark.fault(20)
def test_tables_without_a_version_are_refused_and_left_alone(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    execute(postgresql_url, 'CREATE TABLE somebodys (id integer)')

    boot = instances.boot(postgresql_url, make_release(tmp_path / 'new', 2))

    assert boot.ended() == 22, boot.text
    assert 'no record of their revision' in boot.text
    assert tables(postgresql_url) == {'somebodys'}


@pytest.mark.fault(27)
def test_two_heads_in_the_code_are_refused_before_a_table_is_touched(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 2)
    (release / 'versions' / 'x2.py').write_text(
        (release / 'versions' / 'r2.py').read_text().replace("'r2'", "'x2'"))

    boot = instances.boot(postgresql_url, release)

    assert boot.ended() == 22, boot.text
    assert 'r2, x2' in boot.text
    assert tables(postgresql_url) == set()


def test_without_a_deploy_each_start_tries_again(instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    assert instances.boot(postgresql_url, broken_release(tmp_path), deploy='').ended() == 20

    mended = instances.boot(postgresql_url, make_release(tmp_path / 'mended', 5), deploy='')

    assert mended.ended() == 0, mended.text
    assert head(postgresql_url) == 'r5'


def test_the_status_shows_the_leader_and_the_last_deploys(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 2, {'r2': UNTIL_RELEASED})
    assert instances.boot(postgresql_url, broken_release(tmp_path / 'x', 1), deploy='bad').ended() == 20
    migrating = instances.boot(postgresql_url, release)
    eventually(lambda: migrating.has_led, 'the migration runs')

    result = flask(postgresql_url, 'schema', '--directory', str(release), 'status')

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('BEHIND: ')
    assert 'leader: migrate-leader-instance-1 (pid ' in result.stdout
    assert 'deploy deploy-1: running, attempt 1 by instance-1' in result.stdout
    assert 'deploy bad: failed, attempt 1 by instance-0' in result.stdout
    assert 'the disk of r1 is full' in result.stdout
    (release / 'versions' / 'r2.released').touch()
    assert migrating.ended() == 0


def test_the_status_of_an_unavailable_database_is_an_error_of_one_line() -> None:
    result = flask(f'postgresql://owner@127.0.0.1:{free_port()}/visitors', 'schema', 'status')

    assert result.returncode == 1
    assert result.stderr.startswith('Error: OperationalError: connection to server')
    assert len(result.stderr.splitlines()) == 1


def test_an_unavailable_database_is_waited_for_and_logged_once(
        instances: Instances, tmp_path: Path) -> None:
    unavailable = f'postgresql://owner@127.0.0.1:{free_port()}/visitors'

    boot = instances.boot(unavailable, make_release(tmp_path / 'new', 1), '--timeout', '2')

    assert boot.ended() == 21, boot.text
    assert boot.text.count('waiting for the database: OperationalError: connection to server') == 1


def test_a_version_table_of_another_shape_ends_at_once_with_one_line(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    execute(postgresql_url, 'CREATE TABLE alembic_version (another_name text)')

    boot = instances.boot(postgresql_url, make_release(tmp_path / 'new', 1))

    assert boot.ended() == 3, boot.text
    assert 'UndefinedColumn' in boot.text
    assert boot.text.count('\n') == 1


def test_the_log_names_the_leader_and_the_duration_of_each_revision(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    boot = instances.boot(postgresql_url, make_release(tmp_path / 'new', 2, {'r2': 'time.sleep(0.5)'}))

    assert boot.ended() == 0
    assert 'leading: attempt 1 of deploy deploy-1, from nothing to r2' in boot.text
    seconds = dict(re.findall(r'applied (r\d) \(Revision r\d\) in (\d+\.\d+) s', boot.text))
    assert set(seconds) == {'r1', 'r2'}
    assert float(seconds['r2']) >= 0.5


def broken_release(tmp_path: Path, newest: int = 5) -> Path:
    """Return a release whose newest revision fails after it made its table."""
    return make_release(tmp_path / 'broken', newest,
                        {f'r{newest}': f'raise RuntimeError("the disk of r{newest} is full")'})


def log(url: str) -> list[tuple[object, ...]]:
    """Return the log's revisions in the order of their application, each with its deploy."""
    return rows(url, 'SELECT revision, deploy_id FROM schema_revision_log ORDER BY seq')
