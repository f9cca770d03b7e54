"""A real PostgreSQL server of the tests' own: made in a temporary folder, on a free port, gone afterwards."""

import atexit
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache
from itertools import count
import os
from pathlib import Path
import pwd
import shutil
import socket
import subprocess
import tempfile

import psycopg2
import pytest

from tests.tools.packages import program

DATABASES = count(1)
# Durability against a power cut costs time and proves nothing here; commits stay synchronous.
SETTINGS = {'fsync': 'off', 'full_page_writes': 'off', 'max_connections': '200', 'shared_buffers': '64MB',
            'log_min_messages': 'warning', 'deadlock_timeout': '1s'}


def free_port() -> int:
    """Return a free TCP port of the loopback interface."""
    with closing(socket.socket()) as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])


def newest_binaries() -> Path:
    """Return the folder of the newest PostgreSQL server that is installed."""
    server = program('postgres')
    if not server:
        pytest.fail('no PostgreSQL server: apt-get install postgresql, or let `make test` do it', pytrace=False)
    return server.resolve().parent


def as_its_user(*command: str) -> Sequence[str]:
    """Return the command line that runs a program of PostgreSQL, which refuses to run as root."""
    if os.geteuid() == 0:
        return ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups', *command]
    return command


def give_to_its_user(*paths: Path) -> None:
    """Let the user of PostgreSQL own files, so that its programs can write there."""
    if os.geteuid() == 0:
        user = pwd.getpwnam('postgres')
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)


@cache
def new_data(binaries: Path) -> Path:
    """Return the data folder of a new server that has never run; to copy it takes a tenth of making it."""
    folder = Path(tempfile.mkdtemp(prefix='visitors-postgresql-new-'))
    atexit.register(shutil.rmtree, folder)
    give_to_its_user(folder)
    subprocess.run(as_its_user(str(binaries / 'initdb'), '--pgdata', str(folder / 'data'), '--username', 'owner',
                               '--auth', 'trust', '--encoding', 'UTF8', '--no-sync'),
                   cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return folder / 'data'


class PostgresServer:
    """A PostgreSQL server of the tests' own, with its data below a temporary folder."""

    def __init__(self, address: str = '127.0.0.1', settings: dict[str, str] | None = None,
                 access: Sequence[str] = (), variables: Mapping[str, str] | None = None) -> None:
        """Make and start a server with one superuser, `owner`, who needs no password on this machine's loopback.

        `access` holds lines of pg_hba.conf for all other roles and addresses.
        """
        self.binaries = newest_binaries()
        self.address = address
        self._variables = variables or {}
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix='visitors-postgresql-'))
        self.data = self.folder / 'data'
        self.settings = {**SETTINGS, **(settings or {})}
        give_to_its_user(self.folder)
        subprocess.run(['cp', '--archive', '--reflink=auto', new_data(self.binaries), self.data], check=True)
        with open(self.data / 'pg_hba.conf', 'a', encoding='ascii') as file:
            file.writelines(f'{line}\n' for line in access)
        self.start()

    @property
    def log(self) -> str:
        """Everything that the server has logged so far."""
        return (self.folder / 'log').read_text(encoding='utf-8', errors='replace')

    def start(self) -> None:
        """Start the server and return when it takes connections."""
        settings = {**self.settings, 'listen_addresses': self.address, 'port': str(self.port),
                    'unix_socket_directories': str(self.folder)}
        options = ' '.join(f'-c {name}={value}' for name, value in settings.items())
        self._run('pg_ctl', 'start', '--pgdata', str(self.data), '--log', str(self.folder / 'log'),
                  '--options', options, '--wait', '--timeout', '60')

    def stop(self, mode: str = 'fast') -> None:
        """Stop the server; mode `immediate` is a crash: no checkpoint, connections cut."""
        self._run('pg_ctl', 'stop', '--pgdata', str(self.data), '--mode', mode, '--wait')

    def remove(self) -> None:
        """Stop the server if it runs, and delete everything it wrote."""
        if (self.data / 'postmaster.pid').exists():
            self.stop('immediate')
        shutil.rmtree(self.folder)

    def postmaster(self) -> int:
        """Return the process id of the server's first process."""
        return int((self.data / 'postmaster.pid').read_text(encoding='ascii').splitlines()[0])

    def create_database(self) -> str:
        """Return the URL of a new, empty database."""
        name = f'visitors_{next(DATABASES)}'
        execute(self.url('postgres'), f'CREATE DATABASE {name}')
        return self.url(name)

    def url(self, database: str, user: str = 'owner') -> str:
        """Return the URL of a database of this server."""
        return f'postgresql://{user}@{self.address}:{self.port}/{database}'

    def _run(self, program: str, *arguments: str) -> None:
        variables = [f'{name}={text}' for name, text in self._variables.items()]
        command = as_its_user('env', *variables, str(self.binaries / program), *arguments)
        # pg_ctl's child, the server, would keep a pipe open for ever: its output goes nowhere, the log has it.
        output = subprocess.DEVNULL if program == 'pg_ctl' else subprocess.PIPE
        result = subprocess.run(command, cwd=self.folder, stdout=output, stderr=output, text=True, check=False)
        if result.returncode:
            log = self.folder / 'log'
            raise RuntimeError(f'{program} ended with {result.returncode}: {result.stderr}\n'
                               f'{self.log if log.exists() else ""}')


def execute(url: str, statement: str, parameters: Sequence[object] = ()) -> None:
    """Run one statement outside any transaction."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(statement, parameters or None)


def rows(url: str, query: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
    """Return the answer of a query."""
    with closing(psycopg2.connect(url)) as connection:
        cursor = connection.cursor()
        cursor.execute(query, parameters or None)
        return list(cursor.fetchall())


def value(url: str, query: str, parameters: Sequence[object] = ()) -> object:
    """Return the single value that a query answers."""
    ((only,),) = rows(url, query, parameters)
    return only
