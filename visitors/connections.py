"""The connection of each thread that counts: kept from one visit to the next, and checked before each use."""

from collections.abc import Callable
import threading
from typing import Any

from sqlalchemy import Engine, PoolProxiedConnection

from visitors.deadline import connected
from visitors.engines import is_stale


class _Kept(threading.local):
    """The connection that this thread keeps, if it has one."""

    connection: PoolProxiedConnection | None = None
    has_begun: bool = False


class Connections:
    """The connections of an engine, one for each thread, on each of which a statement is prepared once.

    A thread keeps its connection, because to take one from the pool costs as much processor time as all other work
    for a visit on this side of the connection.
    """

    def __init__(self, engine: Engine, prepare: str | None) -> None:
        """Begin without connections."""
        self._engine = engine
        self._prepare = prepare
        self._kept = _Kept()

    def fetch(self, statement: str, parameters: Any,
              begin: Callable[[Any], bool] | None = None) -> list[tuple[Any, ...]]:
        """Return the rows of a statement that commits by itself.

        `begin` is called with a cursor of a new connection before its statements, until it returns True.
        """
        try:
            cursor = self._own().cursor()
            if begin and not self._kept.has_begun:
                self._kept.has_begun = begin(cursor)
            cursor.execute(statement, parameters)
            return list(cursor.fetchall())
        except BaseException:
            # After any error the state of the connection is unknown, so no later visit may use it.
            self._drop()
            raise

    def is_open(self) -> bool:
        """Return whether this thread has a connection that is open on the server's side."""
        kept = self._kept.connection
        return kept is not None and not is_stale(kept.dbapi_connection)

    def _own(self) -> Any:
        """Return this thread's connection; a new one at first, and after the server closed the last one."""
        kept = self._kept.connection
        if kept and not is_stale(kept.dbapi_connection):
            return kept.dbapi_connection

        self._drop()
        taken = self._kept.connection = connected(self._engine.raw_connection)
        # A connection from an ended thread is prepared already.
        if self._prepare and 'prepared' not in taken.info:
            taken.cursor().execute(self._prepare)
            taken.info['prepared'] = True
        return taken.dbapi_connection

    def _drop(self) -> None:
        kept = self._kept.connection
        if kept:
            self._kept.connection, self._kept.has_begun = None, False
            kept.invalidate()
            kept.close()
