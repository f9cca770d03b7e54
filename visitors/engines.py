"""The engines of the application: of the server's pool, of commands, and of the trial before serving."""

from collections.abc import Callable
import select
import sqlite3
import time
from typing import Any

import psycopg2
from psycopg2 import extensions
from sqlalchemy import Connection, create_engine, Engine, event, exc, NullPool

from visitors import postgresql
from visitors.database_errors import PoolerBetween
from visitors.deadline import deadline, REQUEST_SECONDS, wait_until_deadline
from visitors.resolver import LookupFailed, Resolver
from visitors.settings import is_embedded, Settings

# The server aborts a statement before the request's deadline. Its answer shows that the server is available, and that
# only this statement waits.
STATEMENT_SECONDS = 1.5
COMMAND_SECONDS = 600
BUSY_SECONDS = {'request': 1.5, 'command': 30}  # SQLite: the limit of waiting for another process's write
SWITCH_PAUSE_SECONDS = 0.01
# A table of few rows looks cheap to read through, but an open snapshot may keep any number of replaced rows in it. The
# plan of a prepared statement would not change then, so it takes the index from the beginning.
# A table without an index then looks so dear that the server would compile the plan, which takes a second.
BY_INDEX = {'enable_seqscan': 'off', 'jit': 'off'}
BACKEND = 'SELECT pg_backend_pid()'


def engine_options(settings: Settings) -> dict[str, Any]:
    """Return the options of the server's pool and its connections, as arguments of SQLAlchemy's create_engine."""
    if is_embedded(settings.database_url):
        return {'connect_args': {'timeout': BUSY_SECONDS['request'], 'isolation_level': None},
                'pool_size': settings.threads + 1, 'max_overflow': 0, 'pool_reset_on_return': None}
    return {
        'connect_args': _libpq_arguments(settings, 'visitors', STATEMENT_SECONDS, **BY_INDEX),
        # One connection for each thread and one for the health check: a thread never waits for a connection.
        'pool_size': settings.threads + 1, 'max_overflow': 0, 'pool_timeout': REQUEST_SECONDS / 2,
        # Nothing needs a reset, because each statement commits by itself. That saves a round trip.
        'pool_reset_on_return': None, 'pool_use_lifo': True,
        'isolation_level': 'AUTOCOMMIT',
    }


def prepare_engine(engine: Engine, settings: Settings) -> None:
    """Make an engine's connections obey time limits, read the password file, and be checked before use."""
    if is_embedded(settings.database_url):
        event.listen(engine, 'connect', _set_up_sqlite)
        return

    event.listen(engine, 'do_connect', _obey_deadlines)
    event.listen(engine, 'do_connect', _look_up_within(Resolver()))
    event.listen(engine, 'connect', _refuse_pooler)
    event.listen(engine, 'checkout', _refuse_stale)
    _sign_in(engine, settings)


def command_engine(settings: Settings) -> Engine:
    """Return an engine for commands, whose statements have minutes and which hold one connection."""
    embedded = is_embedded(settings.database_url)
    arguments = {'timeout': BUSY_SECONDS['command'], 'isolation_level': None} if embedded else _libpq_arguments(
        settings, 'visitors-command', COMMAND_SECONDS)
    engine = create_engine(settings.database_url, connect_args=arguments, poolclass=NullPool)
    if embedded:
        event.listen(engine, 'connect', _set_up_sqlite)
        event.listen(engine, 'begin', _begin_sqlite)
    else:
        _sign_in(engine, settings)
    return engine


def trial_engine(settings: Settings) -> Engine:
    """Return an engine without a pool whose connections are the server's, to try whether a visit can be counted."""
    options = {name: value for name, value in engine_options(settings).items() if not name.startswith('pool_')}
    options.pop('max_overflow')
    engine = create_engine(settings.database_url, **options, poolclass=NullPool)
    if not is_embedded(settings.database_url):
        event.listen(engine, 'connect', _refuse_pooler)
        _sign_in(engine, settings)
    return engine


def _libpq_arguments(settings: Settings, role: str, statement_seconds: float, **others: str) -> dict[str, Any]:
    name = postgresql.session_name(role, settings.instance_id)
    return postgresql.arguments(settings.database_url, name, {
        'statement_timeout': f'{int(statement_seconds * 1000)}ms',
        'idle_in_transaction_session_timeout': '1min',
        # A visit waits for the row that it changes. At a stricter level it would fail instead.
        'default_transaction_isolation': 'read committed',
        **others,
    })


def _sign_in(engine: Engine, settings: Settings) -> None:
    postgresql.sign_in(engine, settings.database_password_file, settings.database_password_socket, deadline)


def _look_up_within(resolver: Resolver) -> Callable[[Any, Any, Any, dict[str, Any]], None]:
    def look_up(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        try:
            resolver.resolve(parameters, deadline())
        except LookupFailed as error:
            raise psycopg2.OperationalError(str(error)) from error

    return look_up


def _refuse_pooler(connection: Any, _record: Any) -> None:
    """Refuse a connection whose sessions of the server change, because a prepared visit would be missing there.

    The server names its process at the start of a connection. A pooler names another process.
    """
    autocommit, connection.autocommit = connection.autocommit, True
    with connection.cursor() as cursor:
        cursor.execute(BACKEND)
        ((backend,),) = cursor.fetchall()
    connection.autocommit = autocommit
    if backend != connection.info.backend_pid:
        raise PoolerBetween('a pooler is in between; DATABASE_URL must name the server itself')


def _obey_deadlines(_dialect: Any, _record: Any, _arguments: Any, _parameters: Any) -> None:
    # The callback belongs to the whole process. The server's first connection sets it, not the import, so that
    # commands and migrations, which have no deadline, keep libpq's own waiting and its connect_timeout.
    extensions.set_wait_callback(wait_until_deadline)


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    _use_write_ahead_log(connection)
    connection.execute('PRAGMA synchronous=NORMAL')


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch a new file to its write-ahead log, within the connection's time limit of waiting for a lock.

    SQLite refuses the switch at once while another connection writes or switches, so each refusal is retried here.
    """
    ((milliseconds,),) = connection.execute('PRAGMA busy_timeout')
    until = time.monotonic() + milliseconds / 1000
    while True:
        try:
            connection.execute('PRAGMA journal_mode=WAL')
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != 'SQLITE_BUSY' or time.monotonic() >= until:
                raise
        time.sleep(SWITCH_PAUSE_SECONDS)


def _begin_sqlite(connection: Connection) -> None:
    # The driver itself opens transactions late; a writer must have the lock when it reads.
    reads_only = connection.get_execution_options().get('reads_only')
    connection.exec_driver_sql('BEGIN' if reads_only else 'BEGIN IMMEDIATE')


def _refuse_stale(connection: Any, _record: Any, _proxy: Any) -> None:
    """Drop idle connections that the server closed, before a visit is lost on one."""
    if is_stale(connection):
        raise exc.InvalidatePoolError('the server has closed idle connections')


def is_stale(connection: Any) -> bool:
    """Return whether the server closed an idle connection; a file has no server that could.

    An idle connection has nothing to read; anything to read is the server's farewell.
    """
    if isinstance(connection, sqlite3.Connection):
        return False

    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
