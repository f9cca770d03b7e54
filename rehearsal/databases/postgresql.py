"""One PostgreSQL server: its programs, data folder and process."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from enum import Enum
import os
from pathlib import Path
import pwd
import re
import shutil
import signal
import subprocess
import time
from typing import Any

import psycopg2
from psycopg2 import sql

from rehearsal.authority import Issued
from rehearsal.databases.configuration import ADMINISTRATOR, FORCE_SSL, identity_map, OWN, Parameter, settings_file
from rehearsal.errors import RehearsalError

# Debian's folders of PostgreSQL's programs, and those of its makers' packages for other systems.
FOLDERS = ('usr/lib/postgresql/*/bin', 'usr/pgsql-*/bin')
# PostgreSQL refuses to run as root.
ROOTS_USER = 'postgres'
START_SECONDS, STOP_SECONDS = 60, 60
# The roles of RDS that a new server has beside the administrator.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Appendix.PostgreSQL.CommonDBATasks.Roles.html
ROLES = ('rds_superuser', 'rds_iam', 'rds_password', 'rds_replication')
# A loss of power costs nothing here; the end of the process loses no commit all the same.
SETTINGS = {'fsync': 'off', 'full_page_writes': 'off', 'timezone': 'UTC', 'log_timezone': 'UTC', 'ssl': 'on',
            'password_encryption': 'scram-sha-256',  # pragma: allowlist secret
            'unix_socket_permissions': '0700',
            'log_line_prefix': '%t:%r:%u@%d:[%p]:'}  # https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/
USAGE = """SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename <> %s),
    (SELECT sum(pg_database_size(oid)) FROM pg_database)"""
LIBRARIES = 'shared_preload_libraries'


class Stop(Enum):
    """The ways to stop a server: open transactions are rolled back, or the server ends as in a crash."""

    FAST = signal.SIGINT
    IMMEDIATE = signal.SIGQUIT


class Programs:
    """The programs of one version of PostgreSQL."""

    def __init__(self, folder: Path) -> None:
        """Use the programs in this folder."""
        self.folder = folder
        # Name and context of each setting that this version has.
        listing = subprocess.run([folder / 'postgres', '--describe-config'], capture_output=True, text=True,
                                 check=True).stdout
        self.contexts = dict(line.split('\t')[:2] for line in listing.splitlines())

    @property
    def major(self) -> int:
        """The major version."""
        output = subprocess.run([self.folder / 'postgres', '--version'], capture_output=True, text=True,
                                check=True).stdout
        return int(re.findall(r'\) (\d+)', output)[0])

    def has_library(self, name: str) -> bool:
        """Return whether a library that a server can load at its start is installed."""
        return (self.folder.parent / 'lib' / f'{name}.so').exists()


def find_programs(major: str) -> Programs:
    """Return the programs of a major version if this host has it, else those of the newest version it has."""
    folders = {int(re.findall(r'\d+', str(folder))[-1]): folder for pattern in FOLDERS
               for folder in Path('/').glob(pattern) if (folder / 'postgres').exists()}
    if not folders:
        raise RehearsalError('a database needs a PostgreSQL server on this host; the package postgresql of Debian '
                             'has it')
    wanted = int(major) if major.isdecimal() else 0
    return Programs(folders.get(wanted) or folders[max(folders)])


class Server:
    """A PostgreSQL server below a folder of its own, which the server's user owns."""

    def __init__(self, folder: Path, programs: Programs, address: str, port: int) -> None:
        """Describe a server; nothing of it exists yet."""
        self._folder = folder
        self._data = folder / 'data'
        self.programs = programs
        self.address = address
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """The end of its log."""
        log = self._folder / 'log'
        return log.read_text(encoding='utf-8', errors='replace')[-4096:] if log.exists() else ''

    def make(self, source: Path | None) -> None:
        """Make the data folder, empty or as a copy of a snapshot."""
        self._folder.mkdir(mode=0o700)
        self._give(self._folder)
        if source:
            subprocess.run(['cp', '--archive', '--reflink=auto', source, self._data], check=True)
        else:
            self._run('initdb', '--pgdata', str(self._data), '--username', ADMINISTRATOR, '--auth', 'reject',
                      '--encoding', 'UTF8', '--locale', 'C.UTF-8', '--no-sync')
        # The administrator is the user of this process, and the server's own for a snapshot.
        users = [pwd.getpwuid(os.geteuid()).pw_name, *([ROOTS_USER] if os.geteuid() == 0 else [])]
        self._write(self._data / 'pg_ident.conf', identity_map(users))

    def certify(self, issued: Issued, authority: bytes) -> None:
        """Install a certificate and its key."""
        self._write(self._folder / 'server.crt', (issued.certificate + authority).decode())
        self._write(self._folder / 'server.key', issued.key.decode())

    def configure(self, rules: str, parameters: Mapping[str, Parameter]) -> list[str]:
        """Write access rules and settings for the next start or reload, and return the ignored parameters."""
        self._write(self._data / 'pg_hba.conf', rules)
        usable = {name: each.value for name, each in parameters.items()
                  if name not in OWN and self._accepts(name, each.value)}
        own = {'listen_addresses': self.address, 'port': str(self.port), 'hba_file': str(self._data / 'pg_hba.conf'),
               'unix_socket_directories': str(self._folder), 'ssl_cert_file': str(self._folder / 'server.crt'),
               'ssl_key_file': str(self._folder / 'server.key')}
        self._write(self._data / 'postgresql.conf', settings_file({**SETTINGS, **usable, **own}))
        return sorted(parameters.keys() - usable.keys() - {FORCE_SSL})

    def start(self) -> None:
        """Start it, and return when it accepts connections; raise RehearsalError if it ends before."""
        # A server that was killed leaves the file, and another process may have its number by now.
        (self._data / 'postmaster.pid').unlink(missing_ok=True)
        command = [str(self.programs.folder / 'postgres'), '-D', str(self._data)]
        with (self._folder / 'log').open('ab') as log:
            # A session of its own, because Ctrl-C is for this process, which then stops the server in order.
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                             cwd=self._folder, start_new_session=True, **_its_user())
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self._connect('postgres').close()
                return
            except psycopg2.OperationalError as error:
                if not self.is_running or time.monotonic() > until:
                    raise RehearsalError(f'PostgreSQL does not start: {error}\n{self.log}') from error
            time.sleep(0.05)

    def stop(self, how: Stop) -> None:
        """Stop it, and return after the end of its process."""
        if not self._process or not self.is_running:
            return
        self._process.send_signal(how.value)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait(self) -> int:
        """Return the exit code of its process after its end."""
        assert self._process
        return self._process.wait()

    def reload(self) -> None:
        """Let it read its configuration again."""
        self.execute([sql.SQL('SELECT pg_reload_conf()')])

    def execute(self, statements: Sequence[sql.Composable], database: str = 'postgres') -> None:
        """Run statements as the administrator, each in a transaction of its own."""
        with closing(self._connect(database)) as connection:
            connection.autocommit = True
            for statement in statements:
                connection.cursor().execute(statement)

    def usage(self) -> tuple[int, int]:
        """Return the number of clients and the bytes of all databases."""
        with closing(self._connect('postgres')) as connection:
            cursor = connection.cursor()
            cursor.execute(USAGE, (ADMINISTRATOR,))
            connections, used = cursor.fetchone()
            return int(connections), int(used)

    def copy(self, target: Path) -> None:
        """Write a copy of the running server's data that a new server can start with."""
        target.parent.mkdir(mode=0o711, exist_ok=True)
        target.mkdir(mode=0o700)
        self._give(target)
        self._run('pg_basebackup', '--pgdata', str(target), '--checkpoint', 'fast', '--wal-method', 'stream',
                  '--no-sync', '--host', str(self._folder), '--port', str(self.port), '--username', ADMINISTRATOR)

    def keep_data(self, target: Path) -> None:
        """Move the data of the stopped server to where a new server can start with it."""
        target.parent.mkdir(mode=0o711, exist_ok=True)
        self._data.rename(target)

    def remove(self) -> None:
        """Delete everything of it."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accepts(self, name: str, value: str) -> bool:
        """Return whether PostgreSQL has a setting and takes a value for it."""
        if name not in self.programs.contexts:
            return False
        if name == LIBRARIES and not all(map(self.programs.has_library, filter(None, re.split(r'\s*,\s*', value)))):
            return False
        command = [str(self.programs.folder / 'postgres'), '-D', str(self._data), '-C', name, '-c', f'{name}={value}']
        return subprocess.run(command, capture_output=True, cwd=self._folder, check=False,
                              **_its_user()).returncode == 0

    def _connect(self, database: str) -> Any:
        return psycopg2.connect(host=str(self._folder), port=self.port, user=ADMINISTRATOR, dbname=database,
                                connect_timeout=10)

    def _run(self, program: str, *arguments: str) -> None:
        result = subprocess.run([self.programs.folder / program, *arguments], capture_output=True, text=True,
                                cwd=self._folder, check=False, **_its_user())
        if result.returncode:
            raise RehearsalError(f'{program} failed with {result.returncode}: {result.stderr.strip()}')

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text, encoding='utf-8')
        path.chmod(0o600)
        self._give(path)

    @staticmethod
    def _give(path: Path) -> None:
        """Let the user of the server own a file."""
        if os.geteuid() == 0:
            user = pwd.getpwnam(ROOTS_USER)
            os.chown(path, user.pw_uid, user.pw_gid)


def _its_user() -> dict[str, Any]:
    """Return the options of a process that runs as the user of the server."""
    if os.geteuid():
        return {'umask': 0o077}
    return {'user': ROOTS_USER, 'group': ROOTS_USER, 'extra_groups': [], 'umask': 0o077}


def first_statements(major: int, master: str, password: str, database: str | None) -> list[sql.Composable]:
    """Return the statements that make the roles and the database of a new server.

    The master may grant rds_iam: by CREATEROLE before PostgreSQL 16, by the admin option of the role since.
    """
    role = sql.Identifier(master)
    statements: list[sql.Composable] = [
        sql.SQL('CREATE ROLE {} NOLOGIN').format(sql.Identifier(name)) for name in ROLES]
    statements += [
        sql.SQL('GRANT pg_monitor, pg_signal_backend TO rds_superuser WITH ADMIN OPTION'),
        sql.SQL('CREATE ROLE {} LOGIN CREATEROLE CREATEDB PASSWORD {}').format(role, sql.Literal(password)),
        sql.SQL('GRANT rds_superuser TO {}').format(role),
        sql.SQL('ALTER DATABASE postgres OWNER TO {}').format(role)]
    if major >= 16:
        statements.append(sql.SQL('GRANT rds_iam TO {} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE').format(role))
    if database and database != 'postgres':
        statements.append(sql.SQL('CREATE DATABASE {} OWNER {}').format(sql.Identifier(database), role))
    return statements


def new_password(master: str, password: str) -> sql.Composable:
    """Return the statement that changes the password of the master."""
    return sql.SQL('ALTER ROLE {} PASSWORD {}').format(sql.Identifier(master), sql.Literal(password))
