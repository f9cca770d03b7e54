"""The admission of a booting instance: it serves, is refused, leads the migration, or waits for the leader."""

from collections.abc import Callable
import logging
import random
import time

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, ProgrammingError

from visitors.counting import check_visits
from visitors.database_errors import describe, PoolerBetween
from visitors.days import Calendar, TABLE
from visitors.engines import trial_engine
from visitors.schema import embedded, lock, roles, tables
from visitors.schema.decision import decide, Record, State
from visitors.schema.deploy import Deploy, deploy_name, Options, positions
from visitors.schema.errors import (
    CANCELLED, code_of, Exit, explain, Kind, kind_of, NotOneHead, SchemaError, UnsafeConnection,
)
from visitors.schema.leader import Leader, LeaderLost
from visitors.schema.revisions import CodeRevisions, MIGRATIONS
from visitors.schema.sessions import session_name, Sessions
from visitors.settings import is_embedded, Settings

logger = logging.getLogger(__name__)


def bring_up(settings: Settings, options: Options | None = None) -> Exit:
    """Bring the schema up together with all other instances, and return whether this code may serve."""
    options = options or Options()
    revisions = CodeRevisions.load(options.directory)
    try:
        deploy = Deploy(deploy_name(settings), revisions, settings, options)
        if is_embedded(settings.migration_database_url):
            outcome = embedded.bring_up(deploy)
            if outcome is not Exit.FITS:
                return outcome
            with embedded.read_only(settings.migration_database_url, options.timeout).connect() as connection:
                return time_zone_verdict(connection, settings)
        return Admission(deploy).run()
    except NotOneHead as error:
        logger.error('%s', error)
        return Exit.DOES_NOT_FIT
    except (DBAPIError, SchemaError, OSError) as error:
        logger.error('the database cannot be used: %s', explain(error))
        return Exit.REFUSED


def log_to_stderr() -> None:
    """Log the schema's messages as plain lines to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s schema: %(message)s'))
    package = logging.getLogger('visitors.schema')
    package.handlers, package.propagate = [handler], False
    package.setLevel(logging.INFO)


def time_zone_verdict(connection: Connection, settings: Settings) -> Exit:
    """Return whether a database whose schema fits counts in the settings' time zone, or can."""
    # The schemas of tests and of other applications have no such table.
    if TABLE not in tables.table_names(connection):
        return Exit.FITS

    problem = Calendar(settings.time_zone, connection).problem(connection.connection.cursor())
    if problem:
        logger.error('%s', problem)
    return Exit.OTHER_TIME_ZONE if problem else Exit.FITS


class Admission:
    """The admission of one instance of a deploy on PostgreSQL."""

    def __init__(self, deploy: Deploy) -> None:
        """Prepare the sessions; nothing connects yet."""
        self._deploy = deploy
        self._code = deploy.revisions.code
        self._sessions = Sessions(deploy.settings, deploy.options.idle_limit)
        self._last_lines: dict[str, str] = {}

    def run(self) -> Exit:
        """Return the outcome: this code fits, it never will, its deploy failed, or the time is over."""
        deadline = time.monotonic() + self._deploy.options.timeout
        while True:
            outcome = self._guarded(self._look)
            if outcome is Exit.FITS:
                outcome = self._guarded(self._check)
            if outcome is not None:
                return outcome
            if time.monotonic() >= deadline:
                logger.error('timed out after %.0f s', self._deploy.options.timeout)
                return Exit.TIMED_OUT
            # The pauses differ, so that the instances do not all look at the same moment.
            time.sleep(self._deploy.options.poll * random.uniform(0.5, 1.5))

    def _guarded(self, step: Callable[[], Exit | None]) -> Exit | None:
        """Return a step's result, or None if it failed and has to be retried."""
        try:
            return step()
        except LeaderLost as error:
            self._log(f'lost the lead: {error}')
        except (UnsafeConnection, PoolerBetween, DBAPIError) as error:
            if kind_of(error) is Kind.UNSAFE:
                logger.error('%s', describe(error))
                return Exit.UNSAFE_CONNECTION
            if kind_of(error) is Kind.FINAL and code_of(error) != CANCELLED:
                raise
            self._log(f'waiting for the database: {describe(error)}', subject='database')
        return None

    def _look(self) -> Exit | None:
        """Look once, on a new connection; return None if the instance has to look again."""
        with self._sessions.open() as connection:
            outcome = self._verdict(connection)
            return time_zone_verdict(connection, self._deploy.settings) if outcome is Exit.FITS else outcome

    def _check(self) -> Exit:
        """Run the statements of a visit, on a connection like the server's."""
        # Other revisions than this code's own make unknown tables.
        if self._deploy.options.directory == MIGRATIONS:
            with trial_engine(self._deploy.settings).connect() as connection:
                self._check_visits(connection)
        return Exit.FITS

    def _check_visits(self, connection: Connection) -> None:
        try:
            check_visits(connection)
        except ProgrammingError as error:
            raise SchemaError(f'the application cannot count a visit: {explain(error)}') from error

    def _verdict(self, connection: Connection) -> Exit | None:
        names = tables.table_names(connection)
        record = tables.record_among(connection, names)
        state = decide(self._code, record)
        if state.fits and self._role_is_fit(connection):
            self._log(f'{state.value}: {positions(record, self._code.head)}')
            return Exit.FITS
        if state is State.BEHIND and tables.attempts.name in names and self._deploy_failed(connection):
            return Exit.FAILED

        if lock.try_lock(connection):
            return self._lead(connection)
        self._log_holder(connection, state, record)
        return None

    def _lead(self, connection: Connection) -> Exit:
        name = session_name('leader', self._deploy.settings.instance_id)
        connection.exec_driver_sql('SELECT set_config(%s, %s, false)', ('application_name', name))
        self._last_lines = {}
        return Leader(connection, self._deploy).lead()

    def _deploy_failed(self, connection: Connection) -> bool:
        attempt = tables.read_attempt(connection, self._deploy.name)
        if not attempt or attempt.status != tables.FAILED:
            return False
        logger.error('deploy %s failed on %s: %s', attempt.deploy_id, attempt.instance_id, attempt.error)
        return True

    def _role_is_fit(self, connection: Connection) -> bool:
        settings = self._deploy.settings
        return not roles.are_apart(settings) or roles.is_fit(connection, settings)

    def _log_holder(self, connection: Connection, state: State, record: Record) -> None:
        holder = lock.read_holder(connection)
        # The holder's age differs each time, so the comparison with the last line omits it.
        self._log(f'{state.value}: {positions(record, self._code.head)}; waiting for {holder or "the lock"}',
                  f'{state} {record.heads} {holder and holder.pid}')

    def _log(self, line: str, key: str | None = None, subject: str = 'schema') -> None:
        """Log a line, unless the last one on its subject was the same."""
        if (key or line) != self._last_lines.get(subject):
            logger.info('%s', line)
        self._last_lines[subject] = key or line
