"""What Alembic may do to a database: everything for the leader, reading for everybody, nothing else.

Alembic runs migrations/env.py for each of its commands, and that file calls `run` here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import logging
from pathlib import Path
import sys
import time
from typing import Any, NoReturn

from alembic import command, context
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.util import CommandError
import click
from flask import current_app, has_app_context
import psycopg2
from sqlalchemy import Connection, create_engine, func, NullPool, select
from sqlalchemy.exc import DBAPIError

from visitors import models, passwordfile
from visitors.schema import state
from visitors.schema.connection import CLIENT_SETTINGS, SERVER_SETTINGS
from visitors.schema.errors import explain, FenceBroken, SchemaError
from visitors.schema.options import Options
from visitors.settings import is_embedded, Settings

RUN = 'run'
DIALECT = 'dialect'
ADVICE = 'flask schema ready'
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One upgrade by the leader: on the connection that holds the lock, of which `backend` is the server's process."""

    connection: Connection
    deploy_id: str
    backend: int | None
    in_one_transaction: bool = False
    after_revision: Callable[[Connection], None] | None = None
    may_downgrade: bool = False


def config_for(directory: Path, **attributes: Any) -> Config:
    """Return Alembic's configuration for a migrations folder, with what env.py needs to know of the caller."""
    config = Config(attributes=attributes)
    config.set_main_option('script_location', str(directory).replace('%', '%%'))
    return config


def upgrade(run: Run, directory: Path) -> None:
    """Apply all revisions of a migrations folder that the database lacks."""
    command.upgrade(config_for(directory, **{RUN: run}), 'head')


def run() -> None:
    """Do what the current Alembic command may do, or refuse it with the name of the command that does it right."""
    leader = context.config.attributes.get(RUN)
    if context.is_offline_mode():
        _print_statements()
    elif leader:
        _migrate(leader)
    elif _changes_the_database():
        _hand_over_or_refuse()
    else:
        _read_only()


def _migrate(run: Run) -> None:
    # Any statement opens a transaction. Alembic would take that for ours and never commit: done nothing, exit 0.
    if run.connection.in_transaction() != run.in_one_transaction:
        raise CommandError(f'the transaction is not as the upgrade expects it; use `{ADVICE}`')

    context.configure(connection=run.connection, transaction_per_migration=True, transactional_ddl=True,
                      on_version_apply=Recorder(run))
    with context.begin_transaction():
        context.run_migrations()


class Recorder:
    def __init__(self, run: Run) -> None:
        """Write each revision of a run into the log, in the transaction of its own changes."""
        self._run = run
        self._since = time.monotonic()

    def __call__(self, ctx: MigrationContext, step: MigrationInfo, heads: Any, run_args: Mapping[str, Any]) -> None:
        """Write one revision down, or raise and so undo it."""
        connection = self._run.connection
        self._check_fence(connection)
        if not step.is_upgrade or step.is_stamp:
            self._take_back(connection, step)
            return

        script = context.script.get_revision(str(step.up_revision_id))
        state.log_revision(connection, script.revision, self._run.deploy_id)
        floor = getattr(script.module, 'min_code_revision', None)
        if floor:
            state.retire_before(connection, floor)
        if self._run.after_revision:
            self._run.after_revision(connection)
        self._tell(script.revision, script.doc.rstrip('.'))

    def _check_fence(self, connection: Connection) -> None:
        if self._run.backend is None:
            return
        backend = connection.scalar(select(func.pg_backend_pid()))
        if backend != self._run.backend:
            raise FenceBroken(f'the session has changed from {self._run.backend} to {backend}, and the lock is not '
                              'known to be held there')

    def _take_back(self, connection: Connection, step: MigrationInfo) -> None:
        if not self._run.may_downgrade or step.is_stamp:
            raise SchemaError('a schema is never taken back: older code lives with a newer schema')
        for revision in step.up_revision_ids:
            state.forget_revision(connection, revision)

    def _tell(self, revision: str, title: str) -> None:
        now = time.monotonic()
        logger.info('applied %s (%s) in %.2f s', revision, title, now - self._since)
        self._since = now


def _print_statements() -> None:
    dialect = context.config.attributes.get(DIALECT) or _settings().migration_database_url.get_backend_name()
    context.configure(dialect_name=dialect, literal_binds=True, transaction_per_migration=True,
                      transactional_ddl=True, target_metadata=models.visitors.metadata)
    if dialect == 'postgresql':
        # So that who reads or checks the statements sees them under the limits that they really run with.
        for name in ('lock_timeout', 'statement_timeout'):
            context.execute(f"SET {name} = '{SERVER_SETTINGS[name]}'")
    with context.begin_transaction():
        context.run_migrations()


def _changes_the_database() -> bool:
    """Return whether this command goes to a revision: upgrade, downgrade and stamp do, all that only read do not."""
    try:
        context.get_revision_argument()
    except KeyError:
        return False
    except CommandError:  # the target is not a single revision of this code
        return True
    return True


def _hand_over_or_refuse() -> NoReturn:
    asked = click.get_current_context(silent=True)
    name = (asked.info_name or '') if asked else ''
    target = asked.params.get('revision') if asked else None
    if name != 'upgrade' or target not in ('head', 'heads'):
        raise CommandError(f'only the leader changes the database, and only to the newest revision: use `{ADVICE}`')

    from visitors.schema.boot import bring_up, tell_on_stderr  # the boot leads to this module too
    tell_on_stderr()
    config, script = context.config, context.script
    outcome = bring_up(_settings(), Options(directory=Path(script.dir)))
    # Alembic's contexts do not nest: the leader's own has cleared what this command's is going to clear again.
    EnvironmentContext(config, script).__enter__()
    sys.exit(outcome)


def _read_only() -> None:
    settings = _settings()
    url = settings.migration_database_url
    if is_embedded(url) and not Path(str(url.database)).exists():
        raise CommandError(f'{url.database} is not there yet: use `{ADVICE}`')

    arguments: dict[str, Any] = {} if is_embedded(url) else dict(CLIENT_SETTINGS)
    try:
        if settings.migration_database_password_file:
            arguments.update(passwordfile.read(settings.migration_database_password_file).arguments)
        engine = create_engine(url, connect_args=arguments, poolclass=NullPool)
        with engine.connect() as connection:
            _run_read_only(connection)
    except (DBAPIError, psycopg2.Error) as error:
        raise CommandError(f'the database cannot be used: {explain(error)}') from error


def _run_read_only(connection: Connection) -> None:
    if connection.dialect.name != 'sqlite':
        connection.execution_options(postgresql_readonly=True)
    context.configure(connection=connection, target_metadata=models.visitors.metadata, compare_type=True,
                      include_name=is_compared, render_as_batch=True, dont_mutate=True,
                      process_revision_directives=_drop_empty_revision)
    context.run_migrations()


def is_compared(name: str | None, kind: str, _parents: Any) -> bool:
    """Return whether a table is one that the models describe, for Alembic's comparison."""
    return kind != 'table' or name not in state.STATE_TABLES


def _drop_empty_revision(_context: Any, _revision: Any, directives: list[Any]) -> None:
    if getattr(context.config.cmd_opts, 'autogenerate', False) and directives[0].upgrade_ops.is_empty():
        directives[:] = []
        click.echo('the models and the database agree; no revision was written', err=True)


def _settings() -> Settings:
    if not has_app_context():
        raise CommandError(f'there is no application whose database it could be: use `{ADVICE}`')
    settings: Settings = current_app.config['SETTINGS']
    return settings
