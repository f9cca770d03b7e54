"""The schema of an embedded SQLite database: its write lock is the leader lock, its transaction the whole upgrade."""

import logging
from pathlib import Path
import sqlite3

from sqlalchemy import Connection, create_engine, Engine, event, NullPool, URL
from sqlalchemy.exc import OperationalError

from visitors.counting import check_visits
from visitors.database import describe
from visitors.schema import environment, state
from visitors.schema.decision import decide, Found, State
from visitors.schema.errors import Exit
from visitors.schema.leader import begin, Deploy, end, refuse
from visitors.schema.revisions import ancestors, MIGRATIONS

logger = logging.getLogger(__name__)


def bring_up(deploy: Deploy) -> Exit:
    """Bring an embedded database's schema up, or wait for the process that does, and return how it ended."""
    try:
        outcome = _bring_up(deploy)
        # Of other revisions than the code's own the tables are not known.
        if outcome is Exit.FITS and deploy.options.directory == MIGRATIONS:
            _check(deploy)
        return outcome
    except OperationalError as error:
        if not _is_busy(error):
            raise
        logger.error('timed out after %.0f s: another process is writing', deploy.options.timeout)
        return Exit.TIMED_OUT


def read_only(url: URL, seconds: float) -> Engine:
    """Return an engine whose transactions read one moment of a database and lock nobody out."""
    return _engine(url, seconds, 'BEGIN')


def _bring_up(deploy: Deploy) -> Exit:
    answer, found = _look(deploy)
    if answer.fits:
        logger.info('%s: %s', answer.value, deploy.revisions.head)
        return Exit.FITS
    return _lead(deploy)


def _check(deploy: Deploy) -> None:
    """Do what a visit does; raise the error that a visit would meet."""
    engine = _engine(deploy.settings.database_url, deploy.options.timeout, 'BEGIN IMMEDIATE')
    with engine.connect() as connection:
        check_visits(connection)


def _look(deploy: Deploy) -> tuple[State, Found]:
    url = deploy.settings.migration_database_url
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    with read_only(url, deploy.options.timeout).connect() as connection:
        found = state.read_found(connection)
    return decide(deploy.revisions.code, found), found


def _lead(deploy: Deploy) -> Exit:
    engine = _engine(deploy.settings.migration_database_url, deploy.options.timeout, 'BEGIN IMMEDIATE')
    with engine.connect() as connection:
        # Others wait here, and then find that there is nothing left to do.
        connection.begin()
        found = state.read_found(connection)
        answer = decide(deploy.revisions.code, found)
        if answer.refuses:
            return refuse(answer, found, deploy.revisions.head)
        return Exit.FITS if answer.fits else _attempt(connection, deploy, found)


def _attempt(connection: Connection, deploy: Deploy, found: Found) -> Exit:
    state.make_tables(connection)
    before = state.read_attempt(connection, deploy.name)
    if before and before.status == state.FAILED:
        logger.error('deploy %s has failed: %s', deploy.name, before.error)
        return Exit.FAILED

    attempt = begin(deploy, found, before)
    error = _upgrade(connection, deploy, found)
    if error:
        # Nothing of it is left; what failed is written down by itself.
        connection.rollback()
        connection.begin()
        state.make_tables(connection)
    state.write_attempt(connection, end(attempt, error))
    connection.commit()
    if error:
        return Exit.FAILED
    logger.info('deploy %s has brought the schema to %s', deploy.name, deploy.revisions.head)
    return Exit.FITS


def _upgrade(connection: Connection, deploy: Deploy, found: Found) -> str | None:
    directory = deploy.options.directory
    state.seed_log(connection, ancestors(directory, found.heads))
    try:
        environment.upgrade(environment.Run(connection, deploy.name, None, True), directory)
    except Exception as error:
        logger.exception('the migration failed: %s', describe(error))
        return describe(error)
    return None


def _engine(url: URL, seconds: float, begin_statement: str) -> Engine:
    # The driver's own way commits before each CREATE TABLE: a process killed there would leave half a schema.
    engine = create_engine(url, connect_args={'isolation_level': None, 'timeout': seconds}, poolclass=NullPool)
    event.listen(engine, 'begin', lambda connection: connection.exec_driver_sql(begin_statement))
    return engine


def _is_busy(error: OperationalError) -> bool:
    cause = error.orig
    return isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorname.startswith('SQLITE_BUSY')
