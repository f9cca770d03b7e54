"""The commands of operators: purge and check-counts."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
import re

import psycopg2
import pytest

from instance.parameters import PURGE_RANGE
from tests.support.database import Database
from tests.support.postgresql import free_port
from tests.support.server import bring_up, flask, Server, today
from visitors.commands import MOST_DAYS
from visitors.days import CHART_DAYS
from visitors.retention import PURGE_LOCK


@pytest.fixture
def database(database_url: str) -> Database:
    """Give a database with one visitor of today and one each of 31, 60 and 90 days ago."""
    return purgeable(database_url)


def purgeable(url: str) -> Database:
    database = Database(bring_up(url))
    for age in (90, 60, 31, 0):
        mark = f'{age:032x}'
        database.run(f"INSERT INTO visitors (id, last_day) VALUES ({blob(database, mark)}, '{days_ago(age)}')")
    return database


def blob(database: Database, text: str) -> str:
    return f"x'{text}'" if database.embedded else f"'{text}'"


def days_ago(days: int) -> str:
    return (today() - timedelta(days)).isoformat()


def last_days(database: Database) -> list[str]:
    return [str(day) for day, in database.query('SELECT last_day FROM visitors ORDER BY last_day')]


def test_purge_forgets_who_has_not_come_since_and_keeps_all_totals(database: Database) -> None:
    with Server(database.url) as server:
        before = server.statistics()
        result = flask(database.url, 'purge', '--older-than', '60')
        assert result.returncode == 0, result.stderr
        assert f'forgot 1 visitors who had not come since {days_ago(60)}' in result.stdout
        assert {**server.statistics(), 'as_of': before['as_of']} == before
    assert last_days(database) == [days_ago(60), days_ago(31), days_ago(0)]
    assert flask(database.url, 'check-counts').stdout == 'the counts agree\n'


def test_purge_works_batch_by_batch(database: Database) -> None:
    assert 'forgot 3 visitors' in flask(database.url, 'purge', '--older-than', '30', '--batch', '1').stdout
    assert last_days(database) == [days_ago(0)]
    assert 'forgot 0 visitors' in flask(database.url, 'purge', '--older-than', '30').stdout


def test_a_purge_leaves_it_to_another_one_that_is_at_work(postgresql_url: str) -> None:
    database = purgeable(postgresql_url)
    with closing(psycopg2.connect(postgresql_url)) as other:
        # Another purge holds this lock in each of its transactions; a second purge does not wait for it.
        other.cursor().execute(str(PURGE_LOCK))
        result = flask(database.url, 'purge', '--older-than', '30', timeout=20)
        assert (result.returncode, result.stdout) == (
            0, 'forgot 0 visitors; another purge is running and forgets the rest\n')
        assert len(last_days(database)) == 4
    assert 'forgot 3 visitors who' in flask(database.url, 'purge', '--older-than', '30').stdout


def test_two_purges_at_once_forget_each_visitor_once(postgresql_url: str) -> None:
    database = purgeable(postgresql_url)
    database.run("INSERT INTO visitors (id, last_day) SELECT md5(number::text)::uuid, '2020-01-01' "
                 'FROM generate_series(1, 2000) AS number')
    with ThreadPoolExecutor() as pool:
        outputs = [result.stdout for result in pool.map(
            lambda _: flask(database.url, 'purge', '--older-than', '30', '--batch', '20'), range(2))]
    forgotten = [int(re.findall(r'forgot (\d+) visitors', line)[0]) for line in outputs]
    assert sum(forgotten) == 2003, outputs
    assert last_days(database) == [days_ago(0)]
    assert flask(database.url, 'check-counts').stdout == 'the counts agree\n'


@pytest.mark.parametrize('days', ['29', '0', '-1', 'x', '36501', '1000000', '9' * 30])
def test_purge_refuses_a_time_that_would_change_what_is_shown_or_is_before_all_calendars(
        sqlite_url: str, days: str) -> None:
    result = flask(sqlite_url, 'purge', '--older-than', days)
    assert result.returncode == 2
    assert "Invalid value for '--older-than'" in result.stderr.splitlines()[-1]
    assert days in result.stderr
    assert 'Traceback' not in result.stderr


def test_purge_takes_a_century_and_instances_have_the_same_limits(sqlite_url: str) -> None:
    database = purgeable(sqlite_url)
    assert 'forgot 0 visitors' in flask(sqlite_url, 'purge', '--older-than', str(MOST_DAYS)).stdout
    assert len(last_days(database)) == 4
    assert (PURGE_RANGE[0], PURGE_RANGE[-1]) == (CHART_DAYS, MOST_DAYS)


@pytest.mark.parametrize(('damage', 'says'), [
    ("UPDATE days SET latest = latest + 1 WHERE day = '{today}'", 'the buckets of all days add up to 1 instead of 0'),
    ("UPDATE days SET latest = latest + 1 WHERE day = '{today}'",
     '{today}: 1 visitors came last on this day, its bucket holds 2'),
    ("UPDATE days SET newcomers = newcomers + 2 WHERE day = '{today}'",
     'newcomers of all days are 6, the total is 4'),
    ("UPDATE days SET newcomers = newcomers + 2 WHERE day = '{today}'",
     '{today}: 1 visitors, 3 of them new and 1 not seen since, cannot be'),
    ("DELETE FROM visitors WHERE last_day = '{today}'", 'visitors kept and purged are 3, the total is 4'),
    ("UPDATE visitors SET visits = 0 WHERE last_day = '{today}'", '{today}: 1 visitors have less than one visit'),
    ("UPDATE days SET visitors = 0 WHERE day = '{today}'",
     '{today}: 0 visitors, 1 of them new and 1 not seen since, cannot be'),
    ("DELETE FROM days WHERE day = '{today}'", '{today}: 1 visitors came last on this day, its bucket holds 0'),
])
def test_check_counts_tells_each_difference_and_repairs_nothing(database: Database, damage: str, says: str) -> None:
    day = days_ago(0)
    database.run(damage.format(today=day))
    for _ in range(2):
        result = flask(database.url, 'check-counts')
        assert result.returncode == 1
        assert says.format(today=day) in result.stdout.splitlines()


@pytest.mark.parametrize('command', [('check-counts',), ('purge', '--older-than', '90')])
def test_a_database_that_is_away_ends_a_command_with_3_and_a_line(command: tuple[str, ...]) -> None:
    result = flask(f'postgresql://app:hunter2@127.0.0.1:{free_port()}/visitors', *command)
    assert result.returncode == 3
    assert re.match('the database failed: OperationalError: .*', result.stderr)
    assert 'hunter2' not in result.stderr


def test_purge_may_run_while_visitors_come(database: Database) -> None:
    with Server(database.url) as server:
        for _ in range(3):
            server.visits()
            assert flask(database.url, 'purge', '--older-than', '30').returncode == 0
        assert server.visits() == 4
    assert flask(database.url, 'check-counts').returncode == 0


def test_the_help_of_check_counts_names_its_exit_code(sqlite_url: str) -> None:
    text = flask(sqlite_url, 'check-counts', '--help').stdout
    assert 'print each difference and exit with 1' in ' '.join(text.split())
