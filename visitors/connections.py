"""The connection of each thread that counts: kept from one visit to the next, and checked before each use."""

from collections.abc import Callable
import threading
from typing import Any, TypeVar

from sqlalchemy import Engine, PoolProxiedConnection

from visitors.deadline import connected
from visitors.engines import is_stale

Result = TypeVar('Result')


class _Thread(threading.local):
    """The connection that this thread keeps, if it has one."""

    connection: PoolProxiedConnection | None = None
    has_begun: bool = False


class Connections:
    """The connections of an engine, one for each thread, on each of which a statement is prepared once.

    A thread keeps its connection, because the pool is slow: to take a connection from it costs as much processor time
    as all other work for a visit on this side.
    """

    def __init__(self, engine: Engine, prepare: str | None) -> None:
        """Begin without connections."""
        self._engine = engine
        self._prepare = prepare
        self._thread = _Thread()

    def fetch(self, statement: str, parameters: Any,
              begin: Callable[[Any], bool] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a statement that commits by itself.

        `begin` is called with a cursor of a new connection before its statements, until it returns True.
        """
        def fetch(cursor: Any) -> list[tuple[Any, ...]]:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall())

        return self.use(fetch, begin)

    def use(self, act: Callable[[Any], Result], begin: Callable[[Any], bool] | None = None) -> Result:
        """Return the result of an act on a cursor, which commits its statements; `begin` is as in `fetch`."""
        try:
            cursor = self._own().cursor()
            if begin and not self._thread.has_begun:
                self._thread.has_begun = begin(cursor)
            return act(cursor)
        except BaseException:
            # After any error the state of the connection is unknown, so no later visit may use it.
            self._drop()
            raise

    def open(self) -> None:
        """Open the connection of this thread unless it is open."""
        if self._thread.connection is None:
            try:
                self._own()
            except BaseException:
                self._drop()
                raise

    def is_open(self) -> bool:
        """Return whether this thread has a connection that is open on the server's side."""
        connection = self._thread.connection
        return connection is not None and not is_stale(connection.dbapi_connection)

    def _own(self) -> Any:
        """Return this thread's connection; a new one at first, and after the server closed the last one."""
        connection = self._thread.connection
        if connection and not is_stale(connection.dbapi_connection):
            return connection.dbapi_connection

        self._drop()
        connection = self._thread.connection = connected(self._engine.raw_connection)
        # A connection from an ended thread is prepared already.
        if self._prepare and 'prepared' not in connection.info:
            connection.cursor().execute(self._prepare)
            connection.info['prepared'] = True
        return connection.dbapi_connection

    def _drop(self) -> None:
        connection = self._thread.connection
        if connection:
            self._thread.connection, self._thread.has_begun = None, False
            connection.invalidate()
            connection.close()
