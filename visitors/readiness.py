"""Whether a visit could be counted now."""

from dataclasses import dataclass
import logging
import threading
import time
from zoneinfo import ZoneInfo

from sqlalchemy import Engine

from visitors.counting import check_visits
from visitors.database_errors import DatabaseUnavailable, kind_and_code, Scope
from visitors.days import Calendar
from visitors.deadline import bounded
from visitors.schema import CodeRevisions, Fitness

FRESH_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """Whether visitors can be served, the reason, and the state of the schema if it is known."""

    ready: bool
    reason: str
    schema: str | None = None


class Readiness:
    """The readiness of an instance: its database answers, on a schema that fits this code, and in this time zone."""

    def __init__(self, engine: Engine, zone: ZoneInfo, revisions: CodeRevisions) -> None:
        """Store the database's engine, the time zone, and the revisions that this code brings along."""
        self._engine = engine
        self._calendar = Calendar(zone, engine)
        self._revisions = revisions
        self._verdict: Verdict | None = None
        self._checked_at = 0.0
        self._checking = threading.Lock()

    def verdict(self) -> Verdict:
        """Return the verdict, which is at most a second old; callers that arrive during a check share its result.

        A check ends within the time limit of a request, and the database gets at most one a second.
        """
        with self._checking:
            if not self._verdict or time.monotonic() - self._checked_at >= FRESH_SECONDS:
                self._verdict = self._check()
                self._checked_at = time.monotonic()
            return self._verdict

    def _check(self) -> Verdict:
        try:
            fitness, problem = bounded(self._read)
        except DatabaseUnavailable as error:
            # The answer is public, so it must not name hosts and users; the log names them, once an outage.
            state = 'refuses the statements of a visit' if error.scope is Scope.STATEMENT else 'is unavailable'
            if not self._verdict or self._verdict.ready:
                logger.error('not ready, the database %s: %s', state, error)
            return Verdict(False, f'the database {state}: {kind_and_code(error.__cause__)}')
        return Verdict(fitness.fits and not problem, problem or fitness.reason, fitness.state.name)

    def _read(self) -> tuple[Fitness, str | None]:
        with self._engine.connect() as connection:
            fitness = Fitness.read(connection, self._revisions)
            problem = self._calendar.problem(connection.connection.cursor()) if fitness.fits else None
            if fitness.fits and not problem:
                check_visits(connection)
            return fitness, problem
