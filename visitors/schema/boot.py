"""What a booting instance does before it serves: go on, refuse, lead, or wait for whoever leads."""

from collections.abc import Callable
import logging
import random
import time
from uuid import uuid4

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, ProgrammingError

from visitors.counting import check_visits
from visitors.database import describe, PoolerBetween, trial_engine
from visitors.days import Calendar, TABLE
from visitors.schema import embedded, lock, roles, state
from visitors.schema.connection import session_name, Sessions
from visitors.schema.decision import decide, Found, State
from visitors.schema.errors import (
    CANCELLED, code_of, Exit, explain, Kind, kind_of, NotOneHead, SchemaError, UnsafeConnection,
)
from visitors.schema.leader import Deploy, Leader, LeaderLost
from visitors.schema.options import Options
from visitors.schema.revisions import CodeRevisions, MIGRATIONS
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
        return Boot(deploy).run()
    except NotOneHead as error:
        logger.error('%s', error)
        return Exit.DOES_NOT_FIT
    except (DBAPIError, SchemaError, OSError) as error:
        logger.error('the database cannot be used: %s', explain(error))
        return Exit.REFUSED


def tell_on_stderr() -> None:
    """Write what happens as plain lines to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s schema: %(message)s'))
    package = logging.getLogger('visitors.schema')
    package.handlers, package.propagate = [handler], False
    package.setLevel(logging.INFO)


def deploy_name(settings: Settings) -> str:
    """Return the name under which verdicts are kept: the deploy's, or one of this start's own where there is none."""
    return settings.deploy_id or f'{settings.instance_id}/{uuid4()}'


def time_zone_verdict(connection: Connection, settings: Settings) -> Exit:
    """Return whether a database whose schema fits counts in the settings' time zone, or can."""
    # A schema of tests or of other applications has no such table.
    if TABLE not in state.table_names(connection):
        return Exit.FITS

    problem = Calendar(settings.time_zone, connection).problem(connection.connection.cursor())
    if problem:
        logger.error('%s', problem)
    return Exit.OTHER_TIME_ZONE if problem else Exit.FITS


class Boot:
    def __init__(self, deploy: Deploy) -> None:
        """Boot one instance of a deploy on PostgreSQL."""
        self._deploy = deploy
        self._code = deploy.revisions.code
        self._sessions = Sessions(deploy.settings, deploy.options.idle_limit)
        self._told: dict[str, str] = {}

    def run(self) -> Exit:
        """Return how it ended: this code fits, it never will, its deploy has failed, or the time is over."""
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
            # Not all at the same moment.
            time.sleep(self._deploy.options.poll * random.uniform(0.5, 1.5))

    def _guarded(self, step: Callable[[], Exit | None]) -> Exit | None:
        """Return what a step returns, and nothing where it failed and has to be tried again."""
        try:
            return step()
        except LeaderLost as error:
            self._tell(f'lost the lead: {error}')
        except (UnsafeConnection, PoolerBetween, DBAPIError) as error:
            if kind_of(error) is Kind.UNSAFE:
                logger.error('%s', describe(error))
                return Exit.UNSAFE_CONNECTION
            if kind_of(error) is Kind.FINAL and code_of(error) != CANCELLED:
                raise
            self._tell(f'waiting for the database: {describe(error)}', subject='database')
        return None

    def _look(self) -> Exit | None:
        """Look once on a connection of its own; return nothing where it has to look again."""
        with self._sessions.open() as connection:
            outcome = self._answer(connection)
            return time_zone_verdict(connection, self._deploy.settings) if outcome is Exit.FITS else outcome

    def _check(self) -> Exit:
        """Do what a visit does, on a connection of the application's own."""
        # Of other revisions than the code's own the tables are not known.
        if self._deploy.options.directory == MIGRATIONS:
            with trial_engine(self._deploy.settings).connect() as connection:
                self._check_visits(connection)
        return Exit.FITS

    def _check_visits(self, connection: Connection) -> None:
        try:
            check_visits(connection)
        except ProgrammingError as error:
            raise SchemaError(f'the application cannot count a visit: {explain(error)}') from error

    def _answer(self, connection: Connection) -> Exit | None:
        tables = state.table_names(connection)
        found = state.found_among(connection, tables)
        answer = decide(self._code, found)
        if answer.fits and self._role_is_fit(connection):
            self._tell(f'{answer.value}: {self._standing(found)}')
            return Exit.FITS
        if answer is State.BEHIND and state.attempts.name in tables and self._has_failed(connection):
            return Exit.FAILED

        if lock.try_lock(connection):
            return self._lead(connection)
        self._tell_holder(connection, answer, found)
        return None

    def _lead(self, connection: Connection) -> Exit:
        name = session_name('leader', self._deploy.settings.instance_id)
        connection.exec_driver_sql('SELECT set_config(%s, %s, false)', ('application_name', name))
        self._told = {}
        return Leader(connection, self._deploy).lead()

    def _has_failed(self, connection: Connection) -> bool:
        attempt = state.read_attempt(connection, self._deploy.name)
        if not attempt or attempt.status != state.FAILED:
            return False
        logger.error('deploy %s has failed on %s: %s', attempt.deploy_id, attempt.instance_id, attempt.error)
        return True

    def _role_is_fit(self, connection: Connection) -> bool:
        settings = self._deploy.settings
        return not roles.are_apart(settings) or roles.is_fit(connection, settings)

    def _tell_holder(self, connection: Connection, answer: State, found: Found) -> None:
        holder = lock.read_holder(connection)
        # The age is another one each time, so it is left out where the line is told apart from the last one.
        self._tell(f'{answer.value}: {self._standing(found)}; waiting for {holder or "whoever had the lock"}',
                   f'{answer} {found.heads} {holder and holder.pid}')

    def _standing(self, found: Found) -> str:
        return f'database at {", ".join(sorted(found.heads)) or "nothing"}, code at {self._code.head}'

    def _tell(self, line: str, key: str | None = None, subject: str = 'schema') -> None:
        """Log a line, unless the last one on its subject said the same."""
        if (key or line) != self._told.get(subject):
            logger.info('%s', line)
        self._told[subject] = key or line
