"""The schema of an embedded SQLite database: its write lock is the leader lock, and one transaction the upgrade."""

import logging
from pathlib import Path
import sqlite3

from sqlalchemy import Connection, create_engine, Engine, event, NullPool, URL
from sqlalchemy.exc import OperationalError

from visitors.counting import check_visits
from visitors.database_errors import describe
from visitors.schema import tables
from visitors.schema.decision import decide, Record
from visitors.schema.deploy import begin, Deploy, end, refuse
from visitors.schema.errors import Exit
from visitors.schema.revisions import ancestors, MIGRATIONS
from visitors.schema.upgrade import apply, Upgrade

logger = logging.getLogger(__name__)


def bring_up(deploy: Deploy) -> Exit:
    """Bring an embedded database's schema up, or wait for the process that does, and return the outcome."""
    try:
        outcome = _bring_up(deploy)
        # Other revisions than this code's own make unknown tables.
        if outcome is Exit.FITS and deploy.options.directory == MIGRATIONS:
            _check(deploy)
        return outcome
    except OperationalError as error:
        if not _is_busy(error):
            raise
        logger.error('timed out after %.0f s: another process is writing', deploy.options.timeout)
        return Exit.TIMED_OUT


def read_only(url: URL, seconds: float) -> Engine:
    """Return an engine whose transactions read one moment of a database and lock no writer out."""
    return _engine(url, seconds, 'BEGIN')


def _bring_up(deploy: Deploy) -> Exit:
    state = decide(deploy.revisions.code, _read_record(deploy))
    if state.fits:
        logger.info('%s: %s', state.value, deploy.revisions.head)
        return Exit.FITS
    return _lead(deploy)


def _check(deploy: Deploy) -> None:
    """Run the statements of a visit; raise the error that a visit would meet."""
    engine = _engine(deploy.settings.database_url, deploy.options.timeout, 'BEGIN IMMEDIATE')
    with engine.connect() as connection:
        check_visits(connection)


def _read_record(deploy: Deploy) -> Record:
    url = deploy.settings.migration_database_url
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    with read_only(url, deploy.options.timeout).connect() as connection:
        return tables.read_record(connection)


def _lead(deploy: Deploy) -> Exit:
    engine = _engine(deploy.settings.migration_database_url, deploy.options.timeout, 'BEGIN IMMEDIATE')
    with engine.connect() as connection:
        # Other processes wait here; later they see that the schema fits.
        connection.begin()
        record = tables.read_record(connection)
        state = decide(deploy.revisions.code, record)
        if state.refuses:
            return refuse(state, record, deploy.revisions.head)
        return Exit.FITS if state.fits else _attempt(connection, deploy, record)


def _attempt(connection: Connection, deploy: Deploy, record: Record) -> Exit:
    tables.make_tables(connection)
    previous = tables.read_attempt(connection, deploy.name)
    if previous and previous.status == tables.FAILED:
        logger.error('deploy %s failed before: %s', deploy.name, previous.error)
        return Exit.FAILED

    attempt = begin(deploy, record, previous)
    error = _upgrade(connection, deploy, record)
    if error:
        # The rollback leaves nothing of the upgrade; a transaction of its own records the failure.
        connection.rollback()
        connection.begin()
        tables.make_tables(connection)
    tables.write_attempt(connection, end(attempt, error))
    connection.commit()
    if error:
        return Exit.FAILED
    logger.info('deploy %s brought the schema to %s', deploy.name, deploy.revisions.head)
    return Exit.FITS


def _upgrade(connection: Connection, deploy: Deploy, record: Record) -> str | None:
    directory = deploy.options.directory
    tables.seed_log(connection, ancestors(directory, record.heads))
    try:
        apply(Upgrade(connection, deploy.name, backend=None, in_one_transaction=True), directory)
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
