"""The session that migrates: one of the server's own, which both ends soon close when the other end is gone.

The reason of each value: docs/decisions/0003-leader-lock.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from sqlalchemy import Connection, create_engine, Engine, event, NullPool, text

from visitors import postgresql
from visitors.schema.errors import UnsafeConnection
from visitors.settings import Settings

SERVER_SETTINGS = {
    # At a stricter level a statement that another session has overtaken would fail.
    'default_transaction_isolation': 'read committed',
    # While a session waits for ACCESS EXCLUSIVE, each later query on the table queues behind it: abort soon, retry.
    'lock_timeout': '1s',
    'statement_timeout': '30s',
    # The client's host vanished: while the session is idle, with data not acknowledged, in a statement.
    'tcp_keepalives_idle': '10',
    'tcp_keepalives_interval': '5',
    'tcp_keepalives_count': '3',
    'tcp_user_timeout': '20s',
    'client_connection_check_interval': '5s',
}
# A pooler drops these or refuses them; either way the session is shared.
PROBES = ('lock_timeout', 'client_connection_check_interval')


class Sessions:
    """The sessions that migrate, one at a time: each a new connection, which SQLAlchemy may not replace silently."""

    def __init__(self, settings: Settings, idle_limit: float = 60.0) -> None:
        """Prepare the engine; nothing connects yet."""
        self._may_connect = False
        self._engine = self._make_engine(settings, idle_limit)

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """Yield a new session in autocommit mode; raise UnsafeConnection if it is not the server's own."""
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
        url = settings.migration_database_url
        name = session_name('waiter', settings.instance_id)
        arguments = postgresql.arguments(url, name, startup_options(idle_limit))
        engine = create_engine(url, connect_args=arguments, poolclass=NullPool)
        event.listen(engine, 'do_connect', self._refuse_reconnect)
        postgresql.sign_in(engine, settings.migration_database_password_file)
        return engine

    def _refuse_reconnect(self, _dialect: Any, _record: Any, _arguments: Any, _parameters: Any) -> None:
        # SQLAlchemy would replace a broken connection, and the migration would continue there without the lock.
        if not self._may_connect:
            raise psycopg2.OperationalError('lost the session that holds the lock; a new session would not hold it')


def session_name(role: str, instance_id: str) -> str:
    """Return the name of a session in the server's list of sessions, so that others can see the leader."""
    return postgresql.session_name(f'migrate-{role}', instance_id)


def startup_options(idle_limit: float) -> dict[str, str]:
    """Return the server's settings of a session."""
    # A frozen leader loses its session, in a transaction and between two. A live leader pauses for 30 s at most.
    idle = f'{int(idle_limit * 1000)}ms'
    return {**SERVER_SETTINGS, 'idle_in_transaction_session_timeout': idle, 'idle_session_timeout': idle}


def _check(connection: Connection) -> None:
    for name in PROBES:
        answer = connection.scalar(text(f'SHOW {name}'))
        if answer != SERVER_SETTINGS[name]:
            raise UnsafeConnection(f'{name} was sent as {SERVER_SETTINGS[name]} and came out as {answer}: a pooler is '
                                   'in between; MIGRATION_DATABASE_URL must name the server itself')
    connection.commit()
