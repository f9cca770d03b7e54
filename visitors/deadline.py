"""The time limit of a request for the database, which holds however silent the server is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import select
import threading
import time
from typing import Any, TypeVar

from psycopg2 import extensions

from visitors.database_errors import (
    DatabaseUnavailable, describe, DRIVER_ERRORS, is_unavailable, NoAnswer, Scope, scope_of, Unreachable,
)

# The limit of a request's time on the database in all: connecting, waiting for a connection, running statements.
# It bounds an answer to 3 seconds, whatever the database does.
REQUEST_SECONDS = 2.0
Result = TypeVar('Result')


class _Deadline(threading.local):
    """The moment until which this thread may wait for the database; None is no limit."""

    at: float | None = None


_deadline = _Deadline()


def deadline() -> float | None:
    """Return the moment until which this thread may wait for the database, by the monotonic clock."""
    return _deadline.at


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limit this thread's waiting for the database; limits are not nested."""
    _deadline.at = time.monotonic() + seconds
    try:
        yield
    finally:
        _deadline.at = None


def bounded(act: Callable[[], Result]) -> Result:
    """Return the result of an act on the database within a request's time; raise DatabaseUnavailable if it fails."""
    try:
        with time_limit(REQUEST_SECONDS):
            return act()
    except Unreachable as error:
        raise DatabaseUnavailable(str(error), Scope.CONNECTING) from error.__cause__
    except DRIVER_ERRORS as error:
        if not is_unavailable(error):
            raise
        raise DatabaseUnavailable(describe(error), scope_of(error)) from error


def connected(connect: Callable[[], Result]) -> Result:
    """Return a new connection; raise Unreachable, which says more than the same error of a statement."""
    try:
        return connect()
    except DRIVER_ERRORS as error:
        if not is_unavailable(error):
            raise
        raise Unreachable(describe(error)) from error


def wait_until_deadline(connection: Any) -> None:
    """Wait for PostgreSQL's answer, at most until the thread's deadline.

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
