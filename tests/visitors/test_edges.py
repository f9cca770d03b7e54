"""Unexpected files, folders and privileges end a command with one line, and never with a traceback."""

from collections.abc import Iterator
import os
from pathlib import Path
import subprocess
import sys

import pytest

from tests.support.postgresql import execute, free_port
from tests.support.server import bring_up, environment, flask, KEY, ROOT, Server
from tests.support.waiting import eventually
from visitors.errors import SettingsError
from visitors.settings import Settings

FOLDER = 'sqlite:////proc/nowhere/visitors.sqlite3'  # not even root may make a folder there
LONG_NAME = f'sqlite:////{"n" * 300}/visitors.sqlite3'
READY, STATUS, CURRENT = ('schema', 'ready', '--timeout', '0'), ('schema', 'status'), ('db', 'current')
COUNTS, PURGE, IMPORT = ('check-counts',), ('purge', '--older-than', '90'), ('import-original',)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with files of wrong content."""
    folder = tmp_path_factory.mktemp('edges')
    (folder / 'no-database').write_bytes(b'no database at all, but long enough for one' * 20)
    (folder / 'utf-16').write_bytes('a password'.encode('utf-16-le'))
    for name, key in (('empty', b''), ('binary', b'\xff' * 40)):
        (folder / name).mkdir()
        (folder / name / 'visitor.key').write_bytes(key)
    return folder


@pytest.mark.parametrize(('url', 'command', 'code', 'says'), [
    (FOLDER, READY, 3, '/proc/nowhere: No such file or directory'),
    (FOLDER, PURGE, 3, 'unable to open database file'),
    (LONG_NAME, READY, 3, 'File name too long'),
    (LONG_NAME, STATUS, 1, 'File name too long'),
    ('sqlite:///{folder}/no-database', READY, 3, 'file is not a database'),
    ('sqlite:///{folder}/no-database', STATUS, 1, 'file is not a database'),
    ('sqlite:///{folder}/no-database', CURRENT, 1, 'file is not a database'),
    ('sqlite:///{folder}/no-database', IMPORT, 3, 'file is not a database'),
    ('sqlite:///{folder}', READY, 3, 'unable to open database file'),
    ('sqlite:///{folder}', CURRENT, 1, 'unable to open database file'),
    ('{nothing}', CURRENT, 1, 'Connection refused'),
    ('{nothing}', COUNTS, 3, 'Connection refused'),
])
def test_a_database_that_is_none_ends_a_command_with_one_line(
        folder: Path, url: str, command: tuple[str, ...], code: int, says: str) -> None:
    nothing = f'postgresql://app@127.0.0.1:{free_port()}/visitors'
    result = flask(url.format(folder=folder, nothing=nothing), *command)
    assert_one_line(result, code, says)


@pytest.mark.parametrize(('name', 'says'), [
    ('empty', 'visitor.key is empty; restore the key from a backup'),
    ('binary', 'visitor.key: not text; restore the key from a backup'),
])
def test_a_kept_key_that_is_none_ends_every_start_with_one_line(folder: Path, name: str, says: str) -> None:
    url = f'sqlite:///{folder}/{name}/visitors.sqlite3'
    assert_one_line(flask(url, *COUNTS, VISITOR_KEY=''), 1, says)
    # gunicorn replaces a worker that ends; so its first process has to look.
    command = [sys.executable, '-m', 'gunicorn', '--config', 'gunicorn.conf.py', 'app:create_app()']
    result = subprocess.run(command, cwd=ROOT, env=environment(url, PORT='0', VISITOR_KEY=''), capture_output=True,
                            text=True, timeout=60, check=False)
    assert_one_line(result, 1, says)


def test_a_key_that_cannot_be_kept_ends_a_command_with_one_line() -> None:
    assert_one_line(flask(FOLDER, *COUNTS, VISITOR_KEY=''), 1, 'the key of the address hash cannot be kept in /proc/')


@pytest.mark.parametrize(('command', 'code'), [(COUNTS, 3), (CURRENT, 1)])
def test_a_password_file_in_utf_16_ends_a_command_with_one_line(
        folder: Path, command: tuple[str, ...], code: int) -> None:
    result = flask(f'postgresql://app@127.0.0.1:{free_port()}/visitors', *command,
                   DATABASE_PASSWORD_FILE=str(folder / 'utf-16'))
    assert_one_line(result, code, 'it holds a NUL, so it is probably UTF-16')


def test_an_owner_who_may_not_make_tables_gets_one_line_and_no_verdict(postgresql_url: str) -> None:
    role = f'creates_nothing_in_{postgresql_url.rpartition("/")[2]}'
    execute(postgresql_url, f'CREATE ROLE {role} LOGIN')
    url = postgresql_url.replace('owner@', f'{role}@')

    assert_one_line(flask(url, *READY, DEPLOY_ID='a-deploy'), 3, 'permission denied for schema public; the role')

    # Nothing of it stands in the way of the next try of the same deploy.
    execute(postgresql_url, f'GRANT CREATE ON SCHEMA public TO {role}')
    assert flask(url, *READY, DEPLOY_ID='a-deploy').returncode == 0


@pytest.fixture
def somebody_else() -> Iterator[None]:
    """Give this process the privileges of an ordinary user while a test runs, if it has more."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.mark.parametrize('name', ['DATABASE_PASSWORD_FILE', 'VISITOR_KEY_FILE'])
@pytest.mark.usefixtures('somebody_else')
def test_a_secret_in_a_closed_folder_is_refused(name: str) -> None:
    key = {'VISITOR_KEY': KEY} if name == 'DATABASE_PASSWORD_FILE' else {}
    with pytest.raises(SettingsError, match=f'{name}=/proc/1/cwd/secret: Permission denied'):
        Settings.from_environ({'DATABASE_URL': 'postgresql://app@db.example/visitors', **key,
                               name: '/proc/1/cwd/secret'})


def test_an_embedded_database_that_becomes_usable_is_brought_up_without_another_start(tmp_path: Path) -> None:
    place = tmp_path / 'place'
    place.write_text('a file where the folder should be', encoding='utf-8')
    with Server(f'sqlite:///{place}/visitors.sqlite3', WORKERS='1') as server:
        assert server.get('/').status_code == 503
        assert server.get('/readyz').status_code == 503
        assert 'Traceback' not in server.stderr()
        place.unlink()
        bring_up(f'sqlite:///{place}/visitors.sqlite3')
        # The application tries again once a second.
        eventually(lambda: server.get('/').status_code == 200, 'a visit is counted')
        assert server.visits() == 2


def assert_one_line(result: 'subprocess.CompletedProcess[str]', code: int, says: str) -> None:
    """Fail unless a command ended with this code and one line that says this."""
    assert (result.returncode, result.stderr.strip().count('\n')) == (code, 0), result.stderr
    assert says in result.stderr
