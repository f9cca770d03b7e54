"""Readiness and the start try the statements of a visit: a database that refuses visits is neither ready nor fit."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
import re
import subprocess
import sys

import pytest
from sqlalchemy import make_url

from tests.support.pooler import pooler
from tests.support.postgresql import execute, value
from tests.support.server import bring_up, environment, flask, json_lines, ROOT, Server

OLD_SQLITE = """
import sqlite3, sys
sqlite3.sqlite_version, sqlite3.sqlite_version_info = '3.34.1', (3, 34, 1)
sys.argv = ['flask', '--app', 'app', *sys.argv[1:]]
from flask.cli import main
main()
"""
READ_ONLY = 'ALTER ROLE {role} SET default_transaction_read_only = on'


@contextmanager
def role_of(url: str) -> Iterator[str]:
    """Give the URL of a database for a role that may do all that the application does."""
    role = f'counts_{make_url(url).database}'
    execute(url, f'CREATE ROLE {role} LOGIN')
    execute(url, f'GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}')
    yield make_url(url).set(username=role).render_as_string(hide_password=False)
    execute(url, f'DROP OWNED BY {role}')
    execute(url, f'DROP ROLE {role}')


@pytest.mark.parametrize(('damage', 'kind'), [
    ('REVOKE SELECT ON day_moves FROM {role}', 'InsufficientPrivilege 42501'),
    ('REVOKE SELECT ON day_versions FROM {role}', 'InsufficientPrivilege 42501'),
    ('REVOKE UPDATE ON visitors FROM {role}', 'InsufficientPrivilege 42501'),
    ('REVOKE SELECT ON alembic_version FROM {role}', 'InsufficientPrivilege 42501'),
    (READ_ONLY, 'ReadOnlySqlTransaction 25006'),
    ('ALTER TABLE days RENAME latest TO last', 'UndefinedColumn 42703'),
])
def test_a_database_that_refuses_visits_is_not_ready_and_does_not_pass_the_start(
        postgresql_url: str, damage: str, kind: str) -> None:
    bring_up(postgresql_url)
    with role_of(postgresql_url) as url:
        execute(postgresql_url, damage.format(role=make_url(url).username))
        with Server(url, WORKERS='1') as server:
            # A visit itself does not read the version.
            assert server.get('/').status_code == (200 if 'alembic_version' in damage else 503)
            answer = server.get('/readyz')
            assert (answer.status_code, answer.json()['ready']) == (503, False)
            assert answer.json()['reason'] == f'the database refuses the statements of a visit: {kind}'
            assert server.get('/livez').status_code == 200
            assert 'traceback' not in {name for line in json_lines(server.stderr()) for name in line}
        result = flask(url, 'schema', 'ready', '--timeout', '0')
    assert result.returncode == (21 if damage == READ_ONLY else 3)
    assert kind in result.stderr
    assert 'Traceback' not in result.stderr


def test_asking_for_readiness_writes_nothing(postgresql_url: str) -> None:
    with Server(bring_up(postgresql_url), WORKERS='1') as server:
        assert server.get('/readyz').status_code == 200
    assert value(postgresql_url, 'SELECT count(*) FROM visitors') == 0
    assert value(postgresql_url, 'SELECT count(*) FROM days') == 0
    assert value(postgresql_url, "SELECT pg_relation_size('visitors') + pg_relation_size('days')") == 0


def test_a_server_that_only_reads_for_a_while_is_waited_for(postgresql_url: str) -> None:
    bring_up(postgresql_url)
    with role_of(postgresql_url) as url:
        role = make_url(url).username
        execute(postgresql_url, READ_ONLY.format(role=role))
        with subprocess.Popen([sys.executable, '-m', 'flask', '--app', 'app', 'schema', 'ready', '--poll', '0.1'],
                              cwd=ROOT, env=environment(url), stderr=subprocess.PIPE, text=True) as start:
            assert start.stderr
            for line in start.stderr:
                if 'waiting for the database: ReadOnlySqlTransaction' in line:
                    break
            execute(postgresql_url, f'ALTER ROLE {role} RESET ALL')
            assert start.wait(60) == 0


@pytest.mark.parametrize('arguments', [('schema', 'ready'), ('check-counts',)])
def test_an_sqlite_without_returning_is_refused_by_name(sqlite_url: str, arguments: tuple[str, ...]) -> None:
    result = subprocess.run([sys.executable, '-c', OLD_SQLITE, *arguments], cwd=ROOT, env=environment(sqlite_url),
                            capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        'bad setting: DATABASE_URL: the SQLite 3.34.1 of this Python is too old, because it lacks RETURNING; '
        'use one from 3.35 on, or PostgreSQL\n')


def test_a_file_that_cannot_be_written_is_not_ready(sqlite_url: str) -> None:
    path = Path(bring_up(sqlite_url).removeprefix('sqlite:///'))
    path.write_bytes(b'this is not a database, but it is long enough to be taken for one' * 10)
    with Server(sqlite_url, WORKERS='1') as server:
        assert server.get('/').status_code == 503
        assert server.get('/readyz').status_code == 503
        assert 'file is not a database' in server.stderr()
        assert 'Traceback' not in server.stderr()
    result = flask(sqlite_url, 'schema', 'ready')
    assert (result.returncode, result.stderr.count('\n')) == (3, 1), result.stderr


@pytest.mark.parametrize('level', ['repeatable read', 'serializable'])
def test_no_default_isolation_level_of_the_database_costs_a_visit(postgresql_url: str, level: str) -> None:
    execute(postgresql_url, "ALTER DATABASE {} SET default_transaction_isolation = '{}'".format(
        make_url(postgresql_url).database, level))
    with Server(bring_up(postgresql_url)) as server, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: server.get('/').status_code, range(160))) == {200}
        assert server.visits() == 161
    result = flask(postgresql_url, 'purge', '--older-than', '30')
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('ignored', ['extra_float_digits,options', 'extra_float_digits'])
def test_a_pooler_before_the_database_that_counts_is_refused_at_the_start(postgresql_url: str, ignored: str) -> None:
    bring_up(postgresql_url)
    with pooler(postgresql_url, ignored=ignored) as url:
        result = flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=postgresql_url)
        assert result.returncode == 24, result.stderr
        assert re.search('pooler is in between|unsupported startup parameter', result.stderr)
        with Server(url, WORKERS='1') as server:
            assert server.get('/readyz').status_code == 503
            assert {server.get('/').status_code for _ in range(20)} == {503}
    assert value(postgresql_url, 'SELECT count(*) FROM visitors') == 0


def test_the_options_of_the_url_reach_the_server_beside_the_applications_own(postgresql_url: str) -> None:
    execute(postgresql_url, 'CREATE SCHEMA stats')
    url = f'{postgresql_url}?options=-csearch_path%3Dstats'
    with Server(bring_up(url), WORKERS='1') as server:
        assert server.visits() == 1
        assert server.get('/readyz').status_code == 200
    assert value(postgresql_url, 'SELECT sum(visits) FROM stats.visitors') == 1
    assert value(postgresql_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    assert flask(url, 'check-counts').stdout == 'the counts agree\n'
    # The other way round nothing of it is found, and the start says so.
    result = flask(postgresql_url, 'schema', 'ready', MIGRATION_DATABASE_URL=url)
    assert result.returncode == 3, result.stderr
    assert 'UndefinedTable' in result.stderr and 'compare search_path' in result.stderr
