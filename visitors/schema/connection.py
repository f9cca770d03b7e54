"""The connection that migrates: one session of the server's own, which both ends give up soon when the other is gone.

Why each value: docs/decisions/0003-leader-lock.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from sqlalchemy import Connection, create_engine, Engine, event, NullPool, text

from visitors import libpq, passwordfile
from visitors.schema.errors import UnsafeConnection
from visitors.settings import Settings

NAME_LENGTH = 63  # PostgreSQL cuts names there
SERVER_SETTINGS = {
    # At a stricter level a statement that another session has overtaken would fail.
    'default_transaction_isolation': 'read committed',
    # Who waits for ACCESS EXCLUSIVE makes every later query on the table queue behind: give up soon, try again.
    'lock_timeout': '1s',
    'statement_timeout': '30s',
    # The host of the client has vanished: while the session is idle, with data not acknowledged, in a statement.
    'tcp_keepalives_idle': '10',
    'tcp_keepalives_interval': '5',
    'tcp_keepalives_count': '3',
    'tcp_user_timeout': '20s',
    'client_connection_check_interval': '5s',
}
CLIENT_SETTINGS = {
    'connect_timeout': 5,
    'keepalives': 1,
    'keepalives_idle': 10,
    'keepalives_interval': 5,
    'keepalives_count': 3,
    'tcp_user_timeout': 20_000,
}
# A pooler drops these or refuses them; either way the session is not ours alone.
PROBES = ('lock_timeout', 'client_connection_check_interval')


class Sessions:
    def __init__(self, settings: Settings, idle_limit: float = 60.0) -> None:
        """Open sessions for migrating, one at a time, each connected anew and none ever replaced behind one's back."""
        self._may_connect = False
        self._password_file = settings.migration_database_password_file
        self._engine = self._make_engine(settings, idle_limit)

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """Give a new session in autocommit mode; raise UnsafeConnection where it is not the server's own."""
        self._may_connect = True
        try:
            connection = self._engine.connect()
        finally:
            self._may_connect = False
        with connection:
            connection.execution_options(isolation_level='AUTOCOMMIT')
            _check(connection)
            yield connection

    def _make_engine(self, settings: Settings, idle_limit: float) -> Engine:
        arguments = {
            **CLIENT_SETTINGS,
            'application_name': session_name('waiter', settings.instance_id),
            'options': libpq.options_of(settings.migration_database_url, startup_options(idle_limit)),
        }
        engine = create_engine(settings.migration_database_url, connect_args=arguments, poolclass=NullPool)
        event.listen(engine, 'do_connect', self._before_connect)
        return engine

    def _before_connect(self, _dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        # SQLAlchemy would connect again for a connection that broke, and go on there without the lock.
        if not self._may_connect:
            raise psycopg2.OperationalError('the session with the lock is gone, and another one is none')
        if self._password_file:
            parameters.update(passwordfile.read(self._password_file).arguments)


def session_name(role: str, instance_id: str) -> str:
    """Return what a session is called in the server's list of sessions, so that others can tell who leads."""
    return f'migrate-{role}-{instance_id}'[:NAME_LENGTH]


def startup_options(idle_limit: float) -> dict[str, str]:
    """Return the server's settings of a session."""
    # A frozen leader loses its session, in a transaction and between two. It pauses for 30 s at most by itself.
    idle = f'{int(idle_limit * 1000)}ms'
    return {**SERVER_SETTINGS, 'idle_in_transaction_session_timeout': idle, 'idle_session_timeout': idle}


def _check(connection: Connection) -> None:
    for name in PROBES:
        answer = connection.scalar(text(f'SHOW {name}'))
        if answer != SERVER_SETTINGS[name]:
            raise UnsafeConnection(f'{name} was sent as {SERVER_SETTINGS[name]} and came out as {answer}: there is a '
                                   'pooler in between; MIGRATION_DATABASE_URL must name the server itself')
    connection.commit()
