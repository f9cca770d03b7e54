"""The schema of an embedded SQLite database: started in parallel, killed half-way, busy, failing."""

from contextlib import closing
from pathlib import Path
import signal
import sqlite3

import pytest

from tests.support.booting import boot_together, codes, Instances, leaders, logs
from tests.support.revisions import make_release, once
from tests.support.server import flask
from tests.support.waiting import eventually

# The body of a revision that makes its table and then sleeps, for the first leader only.
SLOW = once('Path(__file__).with_suffix(".in-it").touch()\ntime.sleep(60)')


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give the path of a database in a folder that does not exist yet."""
    return tmp_path / 'folder' / 'visitors.sqlite3'


@pytest.mark.fault(28)
def test_four_instances_on_one_file_have_one_leader_and_all_serve(file: Path, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 4)
    for number in range(5):
        database = file.with_name(f'{number}.sqlite3')

        outcomes, log = boot_together(4, url(database), release, tmp_path)

        assert outcomes == [0] * 4, log
        assert log.count('leading: attempt') == 1, log
        assert head(database) == 'r4'


@pytest.mark.fault(28)
def test_an_upgrade_killed_half_way_leaves_nothing_and_the_others_finish(
        instances: Instances, file: Path, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 3, {'r2': SLOW})
    boots = instances.boot_many(4, url(file), release)
    eventually((release / 'versions' / 'r2.in-it').exists, 'the second revision is half done')
    assert tables(file) == set(), 'others see an incomplete upgrade'

    instances.leader().send(signal.SIGKILL)

    assert sorted(codes(boots)) == [-9, 0, 0, 0], logs(boots)
    assert len(leaders(boots)) == 2
    assert head(file) == 'r3'
    assert tables(file) > {'r1', 'r2', 'r3'}


@pytest.mark.fault(28)
def test_an_upgrade_killed_half_way_alone_starts_again_from_the_old_revision(
        instances: Instances, file: Path, tmp_path: Path) -> None:
    instances.bring_up(url(file), make_release(tmp_path / 'old', 1))
    before = tables(file)
    release = make_release(tmp_path / 'new', 3, {'r3': SLOW})
    boot = instances.boot(url(file), release)
    eventually((release / 'versions' / 'r3.in-it').exists, 'the third revision is half done')
    boot.send(signal.SIGKILL)
    boot.ended()
    assert (head(file), tables(file)) == ('r1', before)

    again = instances.boot(url(file), release)

    assert again.ended() == 0, again.text
    assert head(file) == 'r3'


def test_a_failing_revision_leaves_the_file_as_it_was_but_for_the_verdict(
        instances: Instances, file: Path, tmp_path: Path) -> None:
    instances.bring_up(url(file), make_release(tmp_path / 'old', 1))
    broken = make_release(tmp_path / 'broken', 3, {'r3': 'raise RuntimeError("the disk of r3 is full")'})

    assert instances.boot(url(file), broken).ended() == 20

    assert head(file) == 'r1'
    assert not {'r2', 'r3'} & tables(file)
    late = instances.boot(url(file), broken)
    assert late.ended() == 20
    assert 'deploy deploy-1 failed before: RuntimeError: the disk of r3 is full' in late.text
    assert not late.has_led


@pytest.mark.parametrize(('newest', 'prefix', 'code'), [(2, 'r', 0), (3, 'r', 0), (2, 'x', 22)])
def test_on_a_newer_schema_the_old_code_serves_and_foreign_code_is_refused(
        instances: Instances, file: Path, tmp_path: Path, newest: int, prefix: str, code: int) -> None:
    instances.bring_up(url(file), make_release(tmp_path / 'new', 3))

    boot = instances.boot(url(file), make_release(tmp_path / 'image', newest, prefix=prefix))

    assert boot.ended() == code, boot.text
    assert head(file) == 'r3'


def test_an_instance_that_waits_too_long_for_another_writer_ends_with_21(
        instances: Instances, file: Path, tmp_path: Path) -> None:
    file.parent.mkdir()
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute('BEGIN IMMEDIATE')

        boot = instances.boot(url(file), make_release(tmp_path / 'new', 1), '--timeout', '1')

        assert boot.ended() == 21, boot.text
        assert 'another process is writing' in boot.text


def test_an_index_made_while_others_write_is_an_ordinary_one_here(
        instances: Instances, file: Path, tmp_path: Path) -> None:
    boot = instances.boot(url(file), make_release(tmp_path / 'new', 2, {'r2': "create_index('ix', 'r1', ['id'])"}))

    assert boot.ended() == 0, boot.text
    assert query(file, "SELECT name FROM sqlite_master WHERE type = 'index' AND name = 'ix'") == [('ix',)]


def test_the_status_makes_no_file(file: Path) -> None:
    result = flask(url(file), 'schema', 'status', '--json')

    assert result.returncode == 0, result.stderr
    assert '"state": "BEHIND"' in result.stdout
    assert not file.exists()


def test_the_status_shows_the_outcome_of_the_last_start(file: Path) -> None:
    flask(url(file), 'schema', 'ready', DEPLOY_ID='first')

    result = flask(url(file), 'schema', 'status')

    assert result.stdout.startswith('READY: the schema is the one of this code\nleader: none\n')
    assert 'deploy first: succeeded, attempt 1 by ' in result.stdout


@pytest.mark.parametrize('name', ['current', 'check'])
def test_reading_commands_of_alembic_make_no_file(file: Path, name: str) -> None:
    result = flask(url(file), 'db', name)

    assert result.returncode == 1
    assert 'does not exist yet: use `flask schema ready`' in result.stderr
    assert not file.exists()


def url(file: Path) -> str:
    """Return the URL of a database file."""
    return f'sqlite:///{file}'


def query(file: Path, statement: str) -> list[tuple[object, ...]]:
    """Return the rows of a query."""
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.execute(statement))


def head(file: Path) -> object:
    """Return the database's revision."""
    ((only,),) = query(file, 'SELECT version_num FROM alembic_version')
    return only


def tables(file: Path) -> set[object]:
    """Return the names of the database's tables."""
    return {name for (name,) in query(file, "SELECT name FROM sqlite_master WHERE type = 'table'")}
