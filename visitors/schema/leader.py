"""The leader: looks again under the lock, migrates on the connection that holds it, and writes down how it went."""

from dataclasses import dataclass, replace
from datetime import datetime, timezone
import logging
import random
import time

from sqlalchemy import Connection, func, select

from visitors.database import describe
from visitors.schema import environment, roles, state
from visitors.schema.decision import decide, Found, State
from visitors.schema.errors import Exit, Kind, kind_of
from visitors.schema.options import Options
from visitors.schema.revisions import ancestors, CodeRevisions
from visitors.settings import Settings

ATTEMPTS = 3
EXHAUSTED = 'attempts exhausted'
LOCK_TRIES = 10
LONGEST_PAUSE = 30.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deploy:
    """What is brought up: by which deploy, to which revisions, how, and for whom."""

    name: str
    revisions: CodeRevisions
    settings: Settings
    options: Options


class LeaderLost(Exception):
    """The leader's connection is gone, and the lock with it; what it did last may have been committed or not."""


class Leader:
    def __init__(self, connection: Connection, deploy: Deploy) -> None:
        """Lead a deploy on the connection that holds the leader lock."""
        self._connection = connection
        self._deploy = deploy
        self._code = deploy.revisions.code

    def lead(self) -> Exit:
        """Bring the schema up and return how that ended; raise LeaderLost when the connection is gone."""
        try:
            return self._lead()
        except Exception as error:
            if self._is_lost(error):
                raise LeaderLost(describe(error)) from error
            raise

    def _lead(self) -> Exit:
        found = state.read_found(self._connection)
        answer = decide(self._code, found)
        if answer.refuses:
            return refuse(answer, found, self._code.head)

        if answer.fits:
            self._ensure_role()
            return Exit.FITS

        state.make_tables(self._connection)
        return self._attempt(found)

    def _attempt(self, found: Found) -> Exit:
        before = state.read_attempt(self._connection, self._deploy.name)
        if before and before.status == state.FAILED:
            logger.error('this deploy has failed already: %s', before.error)
            return Exit.FAILED

        attempt = begin(self._deploy, found, before)
        if attempt.attempt > ATTEMPTS:
            return self._finish(replace(attempt, attempt=ATTEMPTS), EXHAUSTED)

        state.write_attempt(self._connection, attempt)
        state.seed_log(self._connection, ancestors(self._deploy.options.directory, found.heads))
        error = self._upgrade()
        return self._finish(attempt, error)

    def _upgrade(self) -> str | None:
        """Apply the missing revisions and return nothing, or what went wrong for good."""
        for number in range(LOCK_TRIES):
            try:
                self._upgrade_once()
            except Exception as error:
                if self._is_lost(error):
                    raise
                self._connection.rollback()
                if kind_of(error) is not Kind.RETRY or number == LOCK_TRIES - 1:
                    logger.exception('the migration failed: %s', describe(error))
                    return describe(error)
                pause_after(number, error)
            else:
                return None
        raise AssertionError('unreachable: the last try returns')

    def _upgrade_once(self) -> None:
        connection = self._connection
        self._ensure_role()
        backend = connection.scalar(select(func.pg_backend_pid()))
        # The statement has opened a transaction, as far as SQLAlchemy and Alembic know; there must be none.
        connection.commit()
        connection.execution_options(isolation_level='READ COMMITTED')
        in_one = self._deploy.options.one_transaction
        if in_one:
            connection.begin()
        environment.upgrade(environment.Run(connection, self._deploy.name, backend, in_one, self._grant),
                            self._deploy.options.directory)
        connection.commit()

    def _finish(self, attempt: state.Attempt, error: str | None) -> Exit:
        connection = self._connection
        connection.rollback()
        connection.execution_options(isolation_level='AUTOCOMMIT')
        state.write_attempt(connection, end(attempt, error))
        if error:
            logger.error('deploy %s failed: %s', attempt.deploy_id, error)
            return Exit.FAILED

        logger.info('deploy %s has brought the schema to %s', attempt.deploy_id, attempt.target)
        found = state.read_found(connection)
        answer = decide(self._code, found)
        return Exit.FITS if answer.fits else refuse(answer, found, self._code.head)

    def _ensure_role(self) -> None:
        if roles.are_apart(self._deploy.settings):
            roles.ensure(self._connection, self._deploy.settings)

    def _grant(self, connection: Connection) -> None:
        if roles.are_apart(self._deploy.settings):
            roles.grant(connection, self._deploy.settings)

    def _is_lost(self, error: Exception) -> bool:
        # An error that arises while another one is cleaned up hides that one, so the connection is asked as well.
        return self._connection.invalidated or kind_of(error) is Kind.LOST


def begin(deploy: Deploy, found: Found, before: state.Attempt | None) -> state.Attempt:
    """Return the attempt that follows what a deploy has written before."""
    number = before.attempt + 1 if before and before.status == state.RUNNING else 1
    stands = ','.join(sorted(found.heads))
    logger.info('leading: attempt %d of deploy %s, from %s to %s', number, deploy.name, stands or 'nothing',
                deploy.revisions.head)
    return state.Attempt(deploy.name, deploy.revisions.head, stands, state.RUNNING, number,
                         deploy.settings.instance_id, datetime.now(timezone.utc))


def end(attempt: state.Attempt, error: str | None) -> state.Attempt:
    """Return an attempt with its verdict."""
    status = state.FAILED if error else state.SUCCEEDED
    return replace(attempt, status=status, finished_at=datetime.now(timezone.utc),
                   error=error and error[:state.ERROR_LENGTH])


def refuse(answer: State, found: Found, head: str) -> Exit:
    """Tell why this code cannot run on this schema, and return the exit code that says so."""
    logger.error('%s: database at %s, code at %s', answer.value, ', '.join(sorted(found.heads)) or 'nothing', head)
    return Exit.DOES_NOT_FIT


def pause_after(number: int, error: Exception) -> None:
    """Let others finish with what is locked; the leader lock stays held meanwhile."""
    seconds = min(LONGEST_PAUSE, 2.0 ** number) * random.uniform(0.5, 1)
    logger.warning('%s; try %d of %d follows in %.1f s', describe(error), number + 2, LOCK_TRIES, seconds)
    time.sleep(seconds)
