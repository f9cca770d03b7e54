"""Backups restore: of the embedded database under running visits, and of PostgreSQL by its own tools."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path
import re
import subprocess
import threading

from app import create_app
from tests.support.database import Database
from tests.support.postgresql import newest_binaries, PostgresServer
from tests.support.server import bring_up, environment, flask, ROOT, Server
from visitors.settings import Settings


def backup(url: str, file: Path) -> tuple[int, str]:
    app = create_app(Settings.from_environ(environment(url)))
    result = app.test_cli_runner().invoke(args=['backup', str(file)])
    return result.exit_code, result.output.strip()


def test_a_backup_under_running_visits_restores_to_counts_that_agree(sqlite_url: str, tmp_path: Path) -> None:
    bring_up(sqlite_url)
    copy, over = tmp_path / 'copy.sqlite3', threading.Event()
    with Server(sqlite_url, TRUSTED_PROXIES='1') as server, ThreadPoolExecutor(1) as pool:
        for number in range(100):
            server.visits(X_Forwarded_For=f'198.51.100.{number}')

        def come() -> int:
            visits = 0
            while not over.is_set():
                server.visits(X_Forwarded_For=f'203.0.113.{visits % 200}')
                visits += 1
            return visits

        coming = pool.submit(come)
        result = flask(sqlite_url, 'backup', str(copy))
        over.set()
        assert (result.returncode, coming.result(20) > 0) == (0, True), result.stderr
        assert server.visits(X_Forwarded_For='198.51.100.7') == 2
    assert 'back up the key of the hash' in result.stdout
    assert copy.stat().st_mode & 0o077 == 0
    assert {path.name for path in tmp_path.iterdir() if 'copy' in path.name} == {'copy.sqlite3'}
    restored = f'sqlite:///{copy}'
    assert flask(restored, 'check-counts').stdout == 'the counts agree\n'
    with Server(restored, TRUSTED_PROXIES='1', WORKERS='1') as server:
        assert server.visits(X_Forwarded_For='198.51.100.7') == 2
        assert server.statistics()['total'] >= 100


def test_a_backup_replaces_no_file(sqlite_url: str, tmp_path: Path) -> None:
    bring_up(sqlite_url)
    file = tmp_path / 'mine'
    file.write_text('mine', encoding='ascii')
    assert backup(sqlite_url, file) == (1, f'Error: {file} exists; name a new file')
    assert file.read_text(encoding='ascii') == 'mine'


def test_a_backup_into_no_folder_or_of_nothing_is_refused_in_one_line(sqlite_url: str, tmp_path: Path) -> None:
    database = sqlite_url.removeprefix('sqlite:///')
    assert backup(sqlite_url, tmp_path / 'copy') == (
        1, f'Error: {database} does not exist; check DATABASE_URL')
    bring_up(sqlite_url)
    for folder, reason in ((tmp_path / 'nowhere', 'No such file or directory'), (Path(database), 'Not a directory')):
        assert backup(sqlite_url, folder / 'copy') == (
            1, f'Error: {folder}/copy: {reason}; name a file in a folder that you may write to')


def test_a_server_is_backed_up_by_its_own_tool(postgresql_url: str, tmp_path: Path) -> None:
    assert backup(postgresql_url, tmp_path / 'copy') == (
        1, 'Error: the database is a PostgreSQL server; back it up with pg_dump (docs/operations.md)')
    assert not (tmp_path / 'copy').exists()


def test_the_documented_lines_restore_a_server(postgresql: PostgresServer, tmp_path: Path) -> None:
    document = (ROOT / 'docs' / 'operations.md').read_text(encoding='utf-8')
    (dump,) = re.findall(r'^\$ (pg_dump .*)$', document, re.MULTILINE)
    (restore,) = re.findall(r'^\$ (pg_restore .*)$', document, re.MULTILINE)
    url, new = bring_up(postgresql.create_database()), postgresql.create_database()
    with Server(url, TRUSTED_PROXIES='1', WORKERS='1') as server:
        for number in range(20):
            server.visits(X_Forwarded_For=f'198.51.100.{number}')
        shell(dump, url, tmp_path)
    shell(restore, new, tmp_path)
    assert flask(new, 'schema', 'ready').returncode == 0
    assert flask(new, 'check-counts').stdout == 'the counts agree\n'
    assert Database(new).query('SELECT count(*), sum(visits) FROM visitors') == [(20, 20)]


def shell(line: str, url: str, folder: Path) -> None:
    command: Sequence[str] = ['sh', '-c', line]
    path = f'{newest_binaries()}:{os.environ["PATH"]}'
    subprocess.run(command, cwd=folder, check=True, env={'PATH': path, 'DATABASE_URL': url}, timeout=60)
