"""The circuit breaker: it refuses requests at once while the database is unavailable."""

from collections.abc import Callable
import logging
import threading
import time
from typing import TypeVar

from visitors.database_errors import DatabaseUnavailable, Scope
from visitors.deadline import bounded

# While the database is unavailable, one request in this time tries it and the others are refused at once. Otherwise
# requests would queue for threads that all wait for the same silent server.
RETRY_SECONDS = 1.0
# The shortest time between two log lines about refused visits.
LOG_SECONDS = 10.0
Result = TypeVar('Result')


class Breaker:
    """The memory of whether the database is unavailable: one request at a time tries it, the rest are refused.

    Only a silent server and connections that cannot be made open it. An error in the server's answer belongs to one
    statement, and while other requests are answered, a silence belongs to one connection.
    """

    def __init__(self, has_connection: Callable[[], bool] = lambda: False) -> None:
        """Begin closed; a thread with an open connection is not refused while no new connection can be made."""
        self._has_connection = has_connection
        self._unavailable_until = 0.0
        self._is_silent = False
        self._answered_at = float('-inf')
        self._trying = threading.Lock()
        self._log = logging.getLogger(__name__)
        self._refused = 0
        self._refusal_logged_at = float('-inf')

    def call(self, act: Callable[[], Result]) -> Result:
        """Return the result of an act on the database; raise DatabaseUnavailable if it fails or would have to wait."""
        if not self._unavailable_until:
            return self._watched(act)
        if not self._is_silent and self._has_connection():
            return self._watched(act, closes=False)

        if time.monotonic() < self._unavailable_until or not self._trying.acquire(blocking=False):
            raise DatabaseUnavailable('the database did not answer a moment ago')
        try:
            return self._watched(act)
        finally:
            self._trying.release()

    def _watched(self, act: Callable[[], Result], closes: bool = True) -> Result:
        try:
            result = bounded(act)
        except DatabaseUnavailable as error:
            self._note_failure(error, closes)
            raise
        self._note_answer(closes)
        return result

    def _note_failure(self, error: DatabaseUnavailable, closes: bool) -> None:
        now = time.monotonic()
        if error.scope is Scope.STATEMENT:
            self._note_refusal(error, now)
            self._note_answer(closes)
        elif self._is_one_connections(error, now):
            self._note_refusal(error, now)
        else:
            # Once an outage, not for each visitor who is refused.
            if not self._unavailable_until:
                self._log.error('the database is unavailable: %s', error)
            self._is_silent = self._is_silent or error.scope is Scope.SERVER
            self._unavailable_until = now + RETRY_SECONDS

    def _is_one_connections(self, error: DatabaseUnavailable, now: float) -> bool:
        if error.scope is Scope.CONNECTION:
            return not self._unavailable_until
        return error.scope is Scope.SERVER and now - self._answered_at < RETRY_SECONDS

    def _note_refusal(self, error: DatabaseUnavailable, now: float) -> None:
        self._refused += 1
        if now - self._refusal_logged_at < LOG_SECONDS:
            return
        self._log.warning('the database refused %d requests, the last one with %s', self._refused, error)
        self._refused, self._refusal_logged_at = 0, now

    def _note_answer(self, closes: bool) -> None:
        self._answered_at = time.monotonic()
        if self._unavailable_until and closes:
            self._log.warning('the database is available again')
            self._unavailable_until, self._is_silent = 0.0, False
