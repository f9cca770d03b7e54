"""The database that the replaced application left behind: taken over in place, each visit once."""

from collections.abc import Iterator
import random
import re
import signal
import subprocess

import pytest

from app import create_app
from tests.support.database import Database
from tests.support.server import bring_up, environment, flask, flask_command, ROOT, Server
from tests.support.waiting import eventually
from visitors.settings import Settings

# The tables of that application's own migration, and its revision then.
ORIGINAL = (
    'CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)',
    "INSERT INTO alembic_version VALUES ('e75588bf2531')",  # pragma: allowlist secret
    'CREATE TABLE visitor (id {serial} PRIMARY KEY, ip VARCHAR(40), visits INTEGER)',
    'CREATE UNIQUE INDEX ix_visitor_ip ON visitor (ip)',
)


@pytest.fixture
def left_behind(database_url: str) -> Database:
    """Give a database in the state in which the replaced application left it, with no rows."""
    database = Database(database_url)
    for statement in ORIGINAL:
        database.run(statement.format(serial='INTEGER' if database.embedded else 'SERIAL'))
    return database


@pytest.fixture
def many(left_behind: Database) -> Iterator[Database]:
    """Give one with 6000 visitors."""
    numbers = random.Random(4)
    rows = [(f'10.{number >> 8}.{number & 255}.7', numbers.randint(1, 9)) for number in range(6000)]
    for start in range(0, 6000, 1000):
        left_behind.fill(list(rows[start:start + 1000]))
    yield left_behind


def imported(database: Database, *options: str) -> str:
    result = flask(database.url, 'import-original', *options)
    assert result.returncode == 0, result.stderr
    assert flask(database.url, 'check-counts').returncode == 0
    return result.stdout


def test_a_database_left_behind_upgrades_in_place_and_keeps_its_rows(left_behind: Database) -> None:
    left_behind.fill([('198.51.100.1', 3), ('2001:db8::1', 4)])
    bring_up(left_behind.url)
    assert left_behind.query('SELECT ip, visits FROM visitor ORDER BY id') == [('198.51.100.1', 3), ('2001:db8::1', 4)]


def test_visits_are_moved_under_the_hash_and_go_on_from_there(left_behind: Database) -> None:
    left_behind.fill([('198.51.100.1', 3), ('127.0.0.1', 41)])
    bring_up(left_behind.url)
    assert 'read 2 rows, moved 44 visits of 2 rows' in imported(left_behind)
    with Server(left_behind.url) as server:
        assert server.visits() == 42
        assert server.statistics()['total'] == 2
    assert left_behind.visits_of('198.51.100.1') == 3


def test_rows_of_one_64_become_one_visitor(left_behind: Database) -> None:
    left_behind.fill([('2001:db8::1', 3), ('2001:db8::2', 4), ('::ffff:198.51.100.1', 1), ('198.51.100.1', 2)])
    bring_up(left_behind.url)
    imported(left_behind)
    assert left_behind.visits_of('2001:db8::9') == 7
    assert left_behind.visits_of('198.51.100.1') == 3


def test_rows_without_an_address_are_left_counted_and_told(left_behind: Database) -> None:
    left_behind.fill([('n/a', 7), (None, 2), ('10.0.0.1, 10.0.0.2', 5), ('198.51.100.1', 1)])
    bring_up(left_behind.url)
    output = imported(left_behind)
    assert 'read 4 rows, moved 1 visits of 1 rows' in output
    assert 'left 3 rows with 14 visits, because they hold no address that can be read' in output


def test_a_row_whose_visits_are_null_or_none_is_one_visit(left_behind: Database) -> None:
    left_behind.fill([('198.51.100.1', None), ('198.51.100.2', 0), ('198.51.100.3', -3)])
    bring_up(left_behind.url)
    imported(left_behind)
    assert [left_behind.visits_of(f'198.51.100.{number}') for number in (1, 2, 3)] == [1, 1, 1]


def test_an_import_again_moves_only_what_the_old_instances_have_added(left_behind: Database) -> None:
    left_behind.fill([('198.51.100.1', 3)])
    bring_up(left_behind.url)
    imported(left_behind)
    assert 'moved 0 visits of 0 rows' in imported(left_behind)
    left_behind.run("UPDATE visitor SET visits = 5 WHERE ip = '198.51.100.1'")
    left_behind.fill([('198.51.100.2', 1)])
    assert 'moved 3 visits of 2 rows' in imported(left_behind)
    assert left_behind.visits_of('198.51.100.1') == 5


def test_visits_counted_before_the_import_are_added_to(left_behind: Database) -> None:
    left_behind.fill([('127.0.0.1', 10)])
    bring_up(left_behind.url)
    with Server(left_behind.url) as server:
        assert [server.visits() for _ in range(2)] == [1, 2]
        imported(left_behind)
        assert server.visits() == 13
        assert server.statistics()['total'] == 1


@pytest.mark.parametrize('batch', ['1', '7', '1000'])
def test_the_size_of_a_batch_changes_nothing(left_behind: Database, batch: str) -> None:
    left_behind.fill([(f'198.51.100.{number}', number) for number in range(1, 22)])
    bring_up(left_behind.url)
    assert 'read 21 rows, moved 231 visits of 21 rows' in imported(left_behind, '--batch', batch)


def test_an_import_killed_again_and_again_moves_each_visit_once(many: Database) -> None:
    bring_up(many.url)
    expected = int(str(many.query('SELECT sum(visits) FROM visitor')[0][0]))
    killed = 0
    for _ in range(4):
        process = subprocess.Popen(flask_command('import-original', '--batch', '50'), cwd=ROOT,
                                   env=environment(many.url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = many.total()
        eventually(lambda: many.total() >= before + 1500 or process.poll() is not None, 'the import goes on')
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed
    imported(many)
    assert many.total() == expected


def test_two_imports_at_once_move_each_visit_once(many: Database) -> None:
    bring_up(many.url)
    expected = int(str(many.query('SELECT sum(visits) FROM visitor')[0][0]))
    both = [subprocess.Popen(flask_command('import-original', '--batch', '100'), cwd=ROOT, text=True,
                             env=environment(many.url), stdout=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    moved = [re.search(r'moved (\d+) visits', each) for each in outputs]
    assert sum(int(match[1]) for match in moved if match) == expected
    assert many.total() == expected
    assert flask(many.url, 'check-counts').returncode == 0


def test_an_import_while_old_instances_count_loses_nothing(many: Database) -> None:
    bring_up(many.url)
    process = subprocess.Popen(flask_command('import-original', '--batch', '100'), cwd=ROOT,
                               env=environment(many.url), stdout=subprocess.DEVNULL)
    for number in range(40):
        many.run(f"UPDATE visitor SET visits = visits + 1 WHERE ip = '10.0.{number}.7'")
    assert process.wait(100) == 0
    imported(many)
    assert many.total() == int(str(many.query('SELECT sum(visits) FROM visitor')[0][0]))


def test_a_database_without_the_schema_is_told_how_to_bring_it_up(database_url: str) -> None:
    result = flask(database_url, 'import-original')
    assert result.returncode == 3
    assert 'flask schema ready' in result.stderr


def command(database: Database, *arguments: str) -> str:
    """Return the output of a command that is run in this process, which is faster than a process for each."""
    app = create_app(Settings.from_environ(environment(database.url)))
    result = app.test_cli_runner().invoke(args=arguments)
    assert result.exit_code == 0, result.output
    return str(result.output)


def forgotten_by_purge(database: Database, days: int) -> int:
    match = re.search(r'forgot (\d+) visitors', command(database, 'purge', '--older-than', str(days)))
    assert match
    assert 'agree' in command(database, 'check-counts')
    return int(match[1])


def test_an_imported_visitor_is_kept_until_the_retention_has_passed_since_the_import(left_behind: Database) -> None:
    left_behind.fill([*((f'198.51.100.{number}', 2) for number in range(99)), ('127.0.0.1', 41)])
    bring_up(left_behind.url)
    command(left_behind, 'import-original')
    assert forgotten_by_purge(left_behind, 365) == 0
    with Server(left_behind.url, WORKERS='1') as server:
        assert server.visits() == 42
        assert server.statistics()['total'] == 100

    age_imports(left_behind, 365)
    assert forgotten_by_purge(left_behind, 365) == 0
    age_imports(left_behind, 1)
    # Whom the old instances have counted since is imported again, and so is known to have come since.
    left_behind.run("UPDATE visitor SET visits = visits + 1 WHERE ip = '198.51.100.7'")
    command(left_behind, 'import-original')
    assert forgotten_by_purge(left_behind, 365) == 98
    assert left_behind.visits_of('198.51.100.7') == 3
    assert left_behind.visits_of('127.0.0.1') == 42, 'a visit is younger than the import'
    assert 'moved 0 visits of 0 rows' in command(left_behind, 'import-original')


def age_imports(database: Database, days: int) -> None:
    aged = f"date(imported_on, '-{days} days')" if database.embedded else f'imported_on - {days}'
    database.run(f'UPDATE visitors SET imported_on = {aged}')


def test_an_import_by_an_older_release_counts_from_the_first_purge_that_meets_it(left_behind: Database) -> None:
    bring_up(left_behind.url)
    # The rows of the former release's import: no day of its own, counted by the trigger.
    name = "x'0123456789abcdef0123456789abcdef'" if left_behind.embedded else "'0123456789abcdef0123456789abcdef'"
    left_behind.run(f"INSERT INTO visitors (id, visits, last_day) VALUES ({name}, 3, '1970-01-01')")
    assert forgotten_by_purge(left_behind, 30) == 0
    age_imports(left_behind, 30)
    assert forgotten_by_purge(left_behind, 30) == 0
    age_imports(left_behind, 1)
    assert forgotten_by_purge(left_behind, 30) == 1
