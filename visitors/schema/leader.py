"""The leader: it reads the schema again under the lock, migrates on the connection that holds it, and records how."""

from dataclasses import replace
import logging
import random
import time

from sqlalchemy import Connection, func, select

from visitors.database_errors import describe
from visitors.schema import roles, tables
from visitors.schema.decision import decide, Record
from visitors.schema.deploy import begin, Deploy, end, refuse
from visitors.schema.errors import Exit, Kind, kind_of
from visitors.schema.revisions import ancestors
from visitors.schema.tables import Attempt
from visitors.schema.upgrade import apply, Upgrade

ATTEMPTS = 3
EXHAUSTED = 'attempts exhausted'
LOCK_TRIES = 10
LONGEST_PAUSE = 30.0
logger = logging.getLogger(__name__)


class LeaderLost(Exception):
    """The loss of the leader's connection, and of the lock with it; its last statement may be committed or not."""


class Leader:
    """The leader of a deploy, on the connection that holds the leader lock."""

    def __init__(self, connection: Connection, deploy: Deploy) -> None:
        """Keep the connection that holds the lock."""
        self._connection = connection
        self._deploy = deploy
        self._code = deploy.revisions.code

    def lead(self) -> Exit:
        """Bring the schema up and return the outcome; raise LeaderLost when the connection is lost."""
        try:
            return self._lead()
        except Exception as error:
            if self._is_lost(error):
                raise LeaderLost(describe(error)) from error
            raise

    def _lead(self) -> Exit:
        record = tables.read_record(self._connection)
        state = decide(self._code, record)
        if state.refuses:
            return refuse(state, record, self._code.head)

        if state.fits:
            self._ensure_role()
            return Exit.FITS

        tables.make_tables(self._connection)
        return self._attempt(record)

    def _attempt(self, record: Record) -> Exit:
        previous = tables.read_attempt(self._connection, self._deploy.name)
        if previous and previous.status == tables.FAILED:
            logger.error('this deploy failed before: %s', previous.error)
            return Exit.FAILED

        attempt = begin(self._deploy, record, previous)
        if attempt.attempt > ATTEMPTS:
            return self._finish(replace(attempt, attempt=ATTEMPTS), EXHAUSTED)

        tables.write_attempt(self._connection, attempt)
        tables.seed_log(self._connection, ancestors(self._deploy.options.directory, record.heads))
        error = self._upgrade()
        return self._finish(attempt, error)

    def _upgrade(self) -> str | None:
        """Apply the missing revisions; return None, or the final error."""
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
        # SQLAlchemy and Alembic take that statement for the begin of a transaction, and none may be open here.
        connection.commit()
        connection.execution_options(isolation_level='READ COMMITTED')
        in_one = self._deploy.options.one_transaction
        if in_one:
            connection.begin()
        apply(Upgrade(connection, self._deploy.name, backend, in_one, self._grant), self._deploy.options.directory)
        connection.commit()

    def _finish(self, attempt: Attempt, error: str | None) -> Exit:
        connection = self._connection
        connection.rollback()
        connection.execution_options(isolation_level='AUTOCOMMIT')
        tables.write_attempt(connection, end(attempt, error))
        if error:
            logger.error('deploy %s failed: %s', attempt.deploy_id, error)
            return Exit.FAILED

        logger.info('deploy %s brought the schema to %s', attempt.deploy_id, attempt.target)
        record = tables.read_record(connection)
        state = decide(self._code, record)
        return Exit.FITS if state.fits else refuse(state, record, self._code.head)

    def _ensure_role(self) -> None:
        if roles.are_apart(self._deploy.settings):
            roles.ensure(self._connection, self._deploy.settings)

    def _grant(self, connection: Connection) -> None:
        if roles.are_apart(self._deploy.settings):
            roles.grant(connection, self._deploy.settings)

    def _is_lost(self, error: Exception) -> bool:
        # The connection is asked too, because an error during the clean-up after another one hides that one.
        return self._connection.invalidated or kind_of(error) is Kind.LOST


def pause_after(number: int, error: Exception) -> None:
    """Pause while others finish with a locked table; the leader keeps the leader lock."""
    seconds = min(LONGEST_PAUSE, 2.0 ** number) * random.uniform(0.5, 1)
    logger.warning('%s; try %d of %d follows in %.1f s', describe(error), number + 2, LOCK_TRIES, seconds)
    time.sleep(seconds)
