"""The application's connections: made with time limits, checked before use, given up when it is unavailable."""

from collections.abc import Callable
from enum import Enum
import logging
import select
import sqlite3
import threading
import time
from typing import Any, TypeVar

from flask_sqlalchemy import SQLAlchemy
import psycopg2
from psycopg2 import extensions
from sqlalchemy import Connection, create_engine, Engine, event, exc, NullPool

from visitors import libpq, passwordfile
from visitors.resolver import LookupFailed, Resolver
from visitors.settings import is_embedded, Settings

# A request may spend this long on the database in all: connecting, waiting for a connection, running statements.
# With it an answer comes within 3 seconds whatever the database does.
REQUEST_SECONDS = 2.0
# The server gives a statement up before that. Its answer says that it is there, and that only this statement waits.
STATEMENT_SECONDS = 1.5
COMMAND_SECONDS = 600
# While the database is away only one request in this time tries it; the others are refused at once. Otherwise
# requests would queue for threads that all wait for the same silent server.
RETRY_SECONDS = 1.0
# How often a refused visit is logged while the next ones are refused as well.
LOG_SECONDS = 10.0
BUSY_SECONDS = {'request': 1.5, 'command': 30}  # SQLite: how long to wait for another process's write
# libpq's own rescue for a server that vanished, should a connection ever be used without a deadline.
KEEPALIVES = {'keepalives': 1, 'keepalives_idle': 10, 'keepalives_interval': 5, 'keepalives_count': 3,
              'tcp_user_timeout': 20000}
# What says that the database cannot be used now, from the drivers and from SQLAlchemy; the last line is what people
# take away or have not made yet: privileges, tables, a search_path. Anything else is a defect and flies.
DRIVER_ERRORS = (psycopg2.Error, sqlite3.Error, exc.SQLAlchemyError)
AWAY_ERRORS = (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.InternalError, sqlite3.OperationalError,
               exc.TimeoutError,
               psycopg2.errors.InsufficientPrivilege, psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedColumn,
               psycopg2.errors.InvalidSchemaName)
ENDED = ('08', '57P')  # classes of SQLSTATE that end a connection
BACKEND = 'SELECT pg_backend_pid()'
Result = TypeVar('Result')

db = SQLAlchemy()


class Scope(Enum):
    """What a failure says of other requests."""

    STATEMENT = 'the server has answered, so only this statement failed'
    CONNECTION = 'an open connection has ended; the next one shows whether the server has'
    CONNECTING = 'no new connection can be made; those that are open may work'
    SERVER = 'an open connection gave no answer'


class DatabaseAway(Exception):
    """The database cannot be used now: it refuses, is silent or busy, or its schema is missing."""

    def __init__(self, message: str, scope: Scope = Scope.STATEMENT) -> None:
        """Say why, and what that means for other requests."""
        super().__init__(message)
        self.scope = scope


class Unreachable(Exception):
    """A new connection could not be made."""


class NoAnswer(psycopg2.OperationalError):
    """A server is silent."""


class PoolerBetween(psycopg2.OperationalError):
    """The session is a pooler's, and the next statement may run in another one."""


class _Deadline(threading.local):
    """The moment until which this thread may wait for the database; None for ever."""

    at: float | None = None


_deadline = _Deadline()


def wait_until_deadline(connection: Any) -> None:
    """Wait for PostgreSQL's answer, but not longer than the thread's deadline.

    The server's statement_timeout cannot help when the server itself is silent, and libpq has no limit of its own.
    """
    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            return

        _wait_for(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)


def _wait_for(descriptor: int, readiness: int) -> None:
    poll = select.poll()
    poll.register(descriptor, readiness)
    milliseconds = None if _deadline.at is None else max(0.0, (_deadline.at - time.monotonic()) * 1000)
    if not poll.poll(milliseconds):
        raise NoAnswer('the database did not answer in time')


def engine_options(settings: Settings) -> dict[str, Any]:
    """Return what the pool and its connections need, as arguments of SQLAlchemy's create_engine."""
    if is_embedded(settings.database_url):
        return {'connect_args': {'timeout': BUSY_SECONDS['request'], 'isolation_level': None},
                'pool_size': settings.threads + 1, 'max_overflow': 0, 'pool_reset_on_return': None}
    return {
        'connect_args': _libpq_arguments(settings, 'visitors', STATEMENT_SECONDS),
        # One connection for each thread and one for the health check: a thread never waits for a connection.
        'pool_size': settings.threads + 1, 'max_overflow': 0, 'pool_timeout': REQUEST_SECONDS / 2,
        # The application commits each statement by itself, so there is nothing to reset: a round trip saved.
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
    _read_password_file(engine, settings)


def command_engine(settings: Settings) -> Engine:
    """Return an engine for commands, which may take their time and hold one connection."""
    embedded = is_embedded(settings.database_url)
    arguments = {'timeout': BUSY_SECONDS['command'], 'isolation_level': None} if embedded else _libpq_arguments(
        settings, 'visitors-command', COMMAND_SECONDS)
    engine = create_engine(settings.database_url, connect_args=arguments, poolclass=NullPool)
    if embedded:
        event.listen(engine, 'connect', _set_up_sqlite)
        event.listen(engine, 'begin', _begin_sqlite)
    else:
        _read_password_file(engine, settings)
    return engine


def trial_engine(settings: Settings) -> Engine:
    """Return an engine whose connections are as the application's, for a command that asks whether it can count."""
    options = {name: value for name, value in engine_options(settings).items() if not name.startswith('pool_')}
    options.pop('max_overflow')
    engine = create_engine(settings.database_url, **options, poolclass=NullPool)
    if not is_embedded(settings.database_url):
        event.listen(engine, 'connect', _refuse_pooler)
        _read_password_file(engine, settings)
    return engine


def _libpq_arguments(settings: Settings, role: str, statement_seconds: float) -> dict[str, Any]:
    name = f'{role}-{settings.instance_id}'[:63]
    options = libpq.options_of(settings.database_url, {
        'statement_timeout': f'{int(statement_seconds * 1000)}ms',
        'idle_in_transaction_session_timeout': '1min',
        # A visit waits for the row that it changes. At a stricter level it would fail instead.
        'default_transaction_isolation': 'read committed',
    })
    return {'application_name': name, 'connect_timeout': 5, 'options': options, **KEEPALIVES}


def _look_up_within(resolver: Resolver) -> Callable[[Any, Any, Any, dict[str, Any]], None]:
    def look_up(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        try:
            resolver.resolve(parameters, _deadline.at)
        except LookupFailed as error:
            raise psycopg2.OperationalError(str(error)) from error

    return look_up


def _refuse_pooler(connection: Any, _record: Any) -> None:
    """Refuse a connection behind which the server's sessions change: a prepared visit would not be found there.

    The server says at the start of a connection which of its processes serves it, and a pooler says something else.
    """
    was, connection.autocommit = connection.autocommit, True
    with connection.cursor() as cursor:
        cursor.execute(BACKEND)
        ((backend,),) = cursor.fetchall()
    connection.autocommit = was
    if backend != connection.info.backend_pid:
        raise PoolerBetween('there is a pooler in between; DATABASE_URL must name the server itself')


def _obey_deadlines(_dialect: Any, _record: Any, _arguments: Any, _parameters: Any) -> None:
    # The callback is the whole process's. It is set by the first connection of a server, not on import, so that
    # commands and migrations, which have no deadline, stay with libpq's own waiting and its connect_timeout.
    extensions.set_wait_callback(wait_until_deadline)


def _read_password_file(engine: Engine, settings: Settings) -> None:
    path = settings.database_password_file
    if not path:
        return

    @event.listens_for(engine, 'do_connect')
    def sign_in(dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]) -> Any:
        # At each new connection, because the file changes when the password is rotated or a token renewed.
        signed_in = passwordfile.SignIn(path, settings.database_password_socket, _deadline.at)
        return signed_in.connect(lambda known: dialect.connect(*arguments, **{**parameters, **known}))


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute('PRAGMA journal_mode=WAL')
    connection.execute('PRAGMA synchronous=NORMAL')


def _begin_sqlite(connection: Connection) -> None:
    # The driver's own way of opening transactions begins them late; a writer must have the lock when it reads.
    reads_only = connection.get_execution_options().get('reads_only')
    connection.exec_driver_sql('BEGIN' if reads_only else 'BEGIN IMMEDIATE')


def _refuse_stale(connection: Any, _record: Any, _proxy: Any) -> None:
    """Throw away idle connections that the server has closed, before a visit is lost on one."""
    if is_stale(connection):
        raise exc.InvalidatePoolError('the server has closed idle connections')


def is_stale(connection: Any) -> bool:
    """Return whether the server has closed an idle connection; a file has no server that could.

    An idle connection has nothing to read; if there is something, it is the server's farewell.
    """
    if isinstance(connection, sqlite3.Connection):
        return False

    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def bounded(act: Callable[[], Result]) -> Result:
    """Return what an act on the database returns, within a request's time; raise DatabaseAway where it cannot."""
    _deadline.at = time.monotonic() + REQUEST_SECONDS
    try:
        return act()
    except Unreachable as error:
        raise DatabaseAway(str(error), Scope.CONNECTING) from error.__cause__
    except DRIVER_ERRORS as error:
        if not _is_away(error):
            raise
        raise DatabaseAway(describe(error), _scope_of(error)) from error
    finally:
        _deadline.at = None


def connected(connect: Callable[[], Result]) -> Result:
    """Return a new connection, or raise Unreachable, which says more than the same error of a statement."""
    try:
        return connect()
    except DRIVER_ERRORS as error:
        if not _is_away(error):
            raise
        raise Unreachable(describe(error)) from error


def _scope_of(error: Exception) -> Scope:
    cause = getattr(error, 'orig', None) or error
    if isinstance(cause, sqlite3.Error):
        # The lock of an embedded database is one for all of it.
        return Scope.SERVER if _sqlite_name(cause).startswith('SQLITE_BUSY') else Scope.STATEMENT
    if isinstance(cause, NoAnswer):
        return Scope.SERVER
    code = getattr(cause, 'pgcode', None) or ''
    return Scope.CONNECTION if not code or code.startswith(ENDED) else Scope.STATEMENT


def _is_away(error: Exception) -> bool:
    cause = getattr(error, 'orig', None) or error
    if isinstance(cause, AWAY_ERRORS):
        return True
    return isinstance(cause, sqlite3.Error) and _sqlite_name(cause).startswith(('SQLITE_NOTADB', 'SQLITE_CORRUPT'))


def _sqlite_name(error: sqlite3.Error) -> str:
    return getattr(error, 'sqlite_errorname', '')  # errors of the driver itself have none


class Breaker:
    """The memory of whether the database is unavailable: it lets one request at a time find out, and refuses the rest.

    Only a silent server and connections that cannot be made open it. An error that the server itself has answered with
    belongs to one statement, and while other requests are answered, a silence belongs to one connection.
    """

    def __init__(self, has_connection: Callable[[], bool] = lambda: False) -> None:
        """Begin closed; a thread that has an open connection needs none of those that cannot be made."""
        self._has_connection = has_connection
        self._away_until = 0.0
        self._is_silent = False
        self._answered_at = float('-inf')
        self._trying = threading.Lock()
        self._log = logging.getLogger(__name__)
        self._refused = 0
        self._refusal_logged_at = float('-inf')

    def call(self, act: Callable[[], Result]) -> Result:
        """Return what an act on the database returns; raise DatabaseAway when it fails or would have to wait."""
        if not self._away_until:
            return self._watched(act)
        if not self._is_silent and self._has_connection():
            return self._watched(act, closes=False)

        if time.monotonic() < self._away_until or not self._trying.acquire(blocking=False):
            raise DatabaseAway('the database did not answer a moment ago')
        try:
            return self._watched(act)
        finally:
            self._trying.release()

    def _watched(self, act: Callable[[], Result], closes: bool = True) -> Result:
        try:
            result = bounded(act)
        except DatabaseAway as error:
            self._note_failure(error, closes)
            raise
        self._note_answer(closes)
        return result

    def _note_failure(self, error: DatabaseAway, closes: bool) -> None:
        now = time.monotonic()
        if error.scope is Scope.STATEMENT:
            self._note_refusal(error, now)
            self._note_answer(closes)
        elif self._is_one_connections(error, now):
            self._note_refusal(error, now)
        else:
            # Logged once an outage and not for each visitor that it turns away.
            if not self._away_until:
                self._log.error('the database is away: %s', error)
            self._is_silent = self._is_silent or error.scope is Scope.SERVER
            self._away_until = now + RETRY_SECONDS

    def _is_one_connections(self, error: DatabaseAway, now: float) -> bool:
        if error.scope is Scope.CONNECTION:
            return not self._away_until
        return error.scope is Scope.SERVER and now - self._answered_at < RETRY_SECONDS

    def _note_refusal(self, error: DatabaseAway, now: float) -> None:
        self._refused += 1
        if now - self._refusal_logged_at < LOG_SECONDS:
            return
        self._log.warning('%d requests were refused by the database, the last one by %s', self._refused, error)
        self._refused, self._refusal_logged_at = 0, now

    def _note_answer(self, closes: bool) -> None:
        self._answered_at = time.monotonic()
        if self._away_until and closes:
            self._log.warning('the database is back')
            self._away_until, self._is_silent = 0.0, False


def describe(error: Exception) -> str:
    """Return an error's kind, SQLSTATE and first line; a statement's parameters (a visitor's hash) stay out."""
    cause = getattr(error, 'orig', None) or error
    first_line = (str(cause).strip().splitlines() or [''])[0]
    return f'{kind_and_code(error)}: {first_line}'


def kind_and_code(error: BaseException | None) -> str:
    """Return an error's kind and SQLSTATE alone: its text may name hosts and users, which are not for everybody."""
    cause = getattr(error, 'orig', None) or error
    code = getattr(cause, 'pgcode', None)
    return f'{type(cause).__name__}{f" {code}" if code else ""}'
