"""The permissions of Alembic on a database: every change for the leader, reading for all others, nothing else.

Only migrations/env.py imports this module. Alembic runs that file for each of its commands, and it calls `run`.
"""

from collections.abc import Mapping
import logging
from pathlib import Path
import sys
import time
from typing import Any, NoReturn

from alembic import context
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.util import CommandError
import click
from flask import current_app, has_app_context
import psycopg2
from sqlalchemy import Connection, create_engine, func, NullPool, select
from sqlalchemy.exc import DBAPIError

from visitors import models, postgresql
from visitors.schema import tables
from visitors.schema.admission import bring_up, log_to_stderr
from visitors.schema.deploy import Options
from visitors.schema.errors import explain, FenceBroken, SchemaError
from visitors.schema.sessions import SERVER_SETTINGS
from visitors.schema.upgrade import DIALECT, UPGRADE, Upgrade
from visitors.settings import is_embedded, Settings

ADVICE = 'flask schema ready'
logger = logging.getLogger(__name__)


def run() -> None:
    """Run the current Alembic command as far as it is allowed, or refuse it and name the right command."""
    upgrade = context.config.attributes.get(UPGRADE)
    if context.is_offline_mode():
        _print_statements()
    elif upgrade:
        _migrate(upgrade)
    elif _changes_the_database():
        _hand_over_or_refuse()
    else:
        _read_only()


def _migrate(upgrade: Upgrade) -> None:
    # Any statement opens a transaction. Alembic would take that one for the caller's and never commit it: the upgrade
    # would do nothing and exit with 0.
    if upgrade.connection.in_transaction() != upgrade.in_one_transaction:
        raise CommandError(f'the transaction is not as the upgrade expects it; use `{ADVICE}`')

    context.configure(connection=upgrade.connection, transaction_per_migration=True, transactional_ddl=True,
                      on_version_apply=Recorder(upgrade))
    with context.begin_transaction():
        context.run_migrations()


class Recorder:
    """The writer of an upgrade's revisions into the log, each in the transaction of its own changes."""

    def __init__(self, upgrade: Upgrade) -> None:
        """Begin to measure the first revision."""
        self._upgrade = upgrade
        self._began_at = time.monotonic()

    def __call__(self, ctx: MigrationContext, step: MigrationInfo, heads: Any, run_args: Mapping[str, Any]) -> None:
        """Log one revision; an error rolls the revision back."""
        connection = self._upgrade.connection
        self._check_fence(connection)
        if not step.is_upgrade or step.is_stamp:
            self._take_back(connection, step)
            return

        script = context.script.get_revision(str(step.up_revision_id))
        tables.log_revision(connection, script.revision, self._upgrade.deploy_id)
        floor = getattr(script.module, 'min_code_revision', None)
        if floor:
            tables.retire_before(connection, floor)
        if self._upgrade.after_revision:
            self._upgrade.after_revision(connection)
        self._print_duration(script.revision, script.doc.rstrip('.'))

    def _check_fence(self, connection: Connection) -> None:
        if self._upgrade.backend is None:
            return
        backend = connection.scalar(select(func.pg_backend_pid()))
        if backend != self._upgrade.backend:
            raise FenceBroken(f'the session changed from {self._upgrade.backend} to {backend}, which may not hold the '
                              'lock')

    def _take_back(self, connection: Connection, step: MigrationInfo) -> None:
        if not self._upgrade.may_downgrade or step.is_stamp:
            raise SchemaError('a schema is never downgraded: older code lives with a newer schema')
        for revision in step.up_revision_ids:
            tables.forget_revision(connection, revision)

    def _print_duration(self, revision: str, title: str) -> None:
        now = time.monotonic()
        logger.info('applied %s (%s) in %.2f s', revision, title, now - self._began_at)
        self._began_at = now


def _print_statements() -> None:
    dialect = context.config.attributes.get(DIALECT) or _settings().migration_database_url.get_backend_name()
    context.configure(dialect_name=dialect, literal_binds=True, transaction_per_migration=True,
                      transactional_ddl=True, target_metadata=models.visitors.metadata)
    if dialect == 'postgresql':
        # The printed statements begin with the limits of a real run, for readers and for the linter.
        for name in ('lock_timeout', 'statement_timeout'):
            context.execute(f"SET {name} = '{SERVER_SETTINGS[name]}'")
    with context.begin_transaction():
        context.run_migrations()


def _changes_the_database() -> bool:
    """Return whether this command goes to a revision: upgrade, downgrade and stamp do, commands that read do not."""
    try:
        context.get_revision_argument()
    except KeyError:
        return False
    except CommandError:  # the target is not a single revision of this code
        return True
    return True


def _hand_over_or_refuse() -> NoReturn:
    caller = click.get_current_context(silent=True)
    name = (caller.info_name or '') if caller else ''
    target = caller.params.get('revision') if caller else None
    if name != 'upgrade' or target not in ('head', 'heads'):
        raise CommandError(f'only the leader changes the database, and only to the newest revision: use `{ADVICE}`')

    log_to_stderr()
    config, script = context.config, context.script
    outcome = bring_up(_settings(), Options(directory=Path(script.dir)))
    # Alembic's contexts do not nest: the leader's own cleared the context that this command is going to clear again.
    EnvironmentContext(config, script).__enter__()
    sys.exit(outcome)


def _read_only() -> None:
    settings = _settings()
    url = settings.migration_database_url
    if is_embedded(url) and not Path(str(url.database)).exists():
        raise CommandError(f'{url.database} does not exist yet: use `{ADVICE}`')

    engine = create_engine(url, connect_args={} if is_embedded(url) else dict(postgresql.LIMITS), poolclass=NullPool)
    if not is_embedded(url):
        postgresql.sign_in(engine, settings.migration_database_password_file)
    try:
        with engine.connect() as connection:
            _run_read_only(connection)
    except (DBAPIError, psycopg2.Error) as error:
        raise CommandError(f'the database cannot be used: {explain(error)}') from error


def _run_read_only(connection: Connection) -> None:
    if connection.dialect.name != 'sqlite':
        connection.execution_options(postgresql_readonly=True)
    context.configure(connection=connection, target_metadata=models.metadata_of(connection.dialect.name),
                      compare_type=True,
                      include_name=is_compared, render_as_batch=True, dont_mutate=True,
                      process_revision_directives=_drop_empty_revision)
    context.run_migrations()


def is_compared(name: str | None, kind: str, _parents: Any) -> bool:
    """Return whether Alembic's comparison includes a table, because the models describe it."""
    return kind != 'table' or name not in tables.SCHEMA_TABLES


def _drop_empty_revision(_context: Any, _revision: Any, directives: list[Any]) -> None:
    if getattr(context.config.cmd_opts, 'autogenerate', False) and directives[0].upgrade_ops.is_empty():
        directives[:] = []
        click.echo('the models and the database agree; no revision was written', err=True)


def _settings() -> Settings:
    if not has_app_context():
        raise CommandError(f'no application, so no database: use `{ADVICE}`')
    settings: Settings = current_app.config['SETTINGS']
    return settings
