"""A connection for each thread that counts: kept from one visit to the next, and checked before it is used."""

from collections.abc import Callable
import threading
from typing import Any

from sqlalchemy import Engine, PoolProxiedConnection

from visitors.deadline import connected
from visitors.engines import is_stale


class _Kept(threading.local):
    """The connection that this thread has taken from the pool, if it has."""

    connection: PoolProxiedConnection | None = None
    has_begun: bool = False


class Connections:
    def __init__(self, engine: Engine, prepare: str | None) -> None:
        """Give each thread a connection of an engine, on which a statement is prepared once.

        A thread does not give it back: taking one from the pool anew costs as much processor time as all else that
        is done for a visit on this side of the connection.
        """
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
            # Whatever happened, nobody shall get a connection in an unknown state.
            self._give_up()
            raise

    def is_open(self) -> bool:
        """Return whether this thread has a connection that the server has not closed."""
        kept = self._kept.connection
        return kept is not None and not is_stale(kept.dbapi_connection)

    def _own(self) -> Any:
        """Return this thread's connection; a new one where it has none, or one that the server has closed."""
        kept = self._kept.connection
        if kept and not is_stale(kept.dbapi_connection):
            return kept.dbapi_connection

        self._give_up()
        taken = self._kept.connection = connected(self._engine.raw_connection)
        # One that an ended thread has left to the pool is prepared already.
        if self._prepare and 'prepared' not in taken.info:
            taken.cursor().execute(self._prepare)
            taken.info['prepared'] = True
        return taken.dbapi_connection

    def _give_up(self) -> None:
        kept = self._kept.connection
        if kept:
            self._kept.connection, self._kept.has_begun = None, False
            kept.invalidate()
            kept.close()
