"""The commands of operators: retention, check of the counts, backup, import from the replaced application."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
import sys
import time

import click
from flask import current_app, Flask
from flask.cli import with_appcontext
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from visitors.backup import back_up, BackupRefused
from visitors.database_errors import describe
from visitors.days import Calendar, CHART_DAYS
from visitors.engines import command_engine
from visitors.invariants import differences
from visitors.key import visitor_key
from visitors.original import import_original
from visitors.retention import forget_batch, may_purge
from visitors.settings import is_embedded

PROGRESS_SECONDS = 5.0
DATABASE_FAILED = 3
MOST_DAYS = 36_500  # a century; a horizon before the calendar begins cannot be computed


def init_app(app: Flask) -> None:
    """Give an application its commands."""
    for command in (purge, check_counts, backup, import_original_visitors):
        app.cli.add_command(command)


class Progress:
    """The progress of a long command on stderr: one line that changes on a terminal, else a line every few seconds."""

    def __init__(self, subject: str) -> None:
        """Store the subject, which each line begins with."""
        self._subject = subject
        self._started_at = self._printed_at = time.monotonic()

    def __call__(self, number: int, total: int | None = None) -> None:
        """Print the number of those that are done, and their total if it is known."""
        terminal = sys.stderr.isatty()
        if not terminal and time.monotonic() - self._printed_at < PROGRESS_SECONDS:
            return

        self._printed_at = time.monotonic()
        of = f' of {total}' if total is not None else ''
        seconds = self._printed_at - self._started_at
        click.echo(f'{self._subject}: {number}{of} after {seconds:.0f} s', err=True, nl=not terminal)
        if terminal:
            click.echo('\r', err=True, nl=False)


@click.command('purge', short_help='Forget visitors who have not come for a while.')
@click.option('--older-than', 'days', type=click.IntRange(CHART_DAYS, MOST_DAYS), required=True, metavar='DAYS',
              help=f'forget visitors whose last visit is older than that, {CHART_DAYS} to {MOST_DAYS}')
@click.option('--batch', type=click.IntRange(1, 100_000), default=5000, show_default=True, metavar='VISITORS',
              help='the number of visitors that one transaction reads')
@with_appcontext
def purge(days: int, batch: int) -> None:
    """Forget visitors who have not come for a while; all totals and the chart stay as they are.

    A visitor who returns after that is a new one. Imported visitors, whose days are unknown, are kept until the same
    number of days has passed since their import. Only one purge runs at a time; a second one ends at once.
    """
    progress, forgotten, after = Progress('forgotten'), 0, None
    with _database() as engine, engine.connect() as connection:
        with connection.begin():
            day = Calendar(current_app.config['SETTINGS'].time_zone, engine).day(connection)
        horizon = day - timedelta(days)
        while True:
            with connection.begin():
                if not may_purge(connection):
                    click.echo(f'forgot {forgotten} visitors; another purge is running and forgets the rest')
                    return
                number, after = forget_batch(connection, after, horizon, day, batch)
            forgotten += number
            progress(forgotten)
            if after is None:
                break
    click.echo(f'forgot {forgotten} visitors who had not come since {horizon}')


@click.command('check-counts', short_help='Check that all counts agree with each other.')
@with_appcontext
def check_counts() -> None:
    """Check that all counts agree with each other; print each difference and exit with 1. Nothing is changed."""
    with _database() as engine, engine.connect() as connection:
        sentences = differences(_at_one_moment(connection))
    for sentence in sentences:
        click.echo(sentence)
    if sentences:
        sys.exit(1)
    click.echo('the counts agree')


@click.command('backup', short_help='Copy the embedded database into a new file.')
@click.argument('file', type=click.Path(path_type=Path))
@with_appcontext
def backup(file: Path) -> None:
    """Copy the embedded database into a new FILE, as of one moment, while visitors are counted.

    Exits with 1 if FILE exists or cannot be written, or if the database is PostgreSQL, which pg_dump copies.
    """
    settings = current_app.config['SETTINGS']
    if not is_embedded(settings.database_url):
        raise click.ClickException('the database is a PostgreSQL server; back it up with pg_dump (docs/operations.md)')
    try:
        size = back_up(Path(str(settings.database_url.database)), file)
    except BackupRefused as error:
        raise click.ClickException(str(error)) from None
    click.echo(f'wrote {size} bytes to {file}; back up the key of the hash as well, or every visitor is new')


@click.command('import-original', short_help='Import the visits of the replaced application.')
@click.option('--batch', type=click.IntRange(1, 10_000), default=1000, show_default=True, metavar='ROWS',
              help='the number of rows that one transaction imports')
@with_appcontext
def import_original_visitors(batch: int) -> None:
    """Import the visits that the replaced application has counted in its table `visitor`.

    Each visit is imported once, however often the command runs or is killed, even while that application still counts.
    """
    settings = current_app.config['SETTINGS']
    with _database() as engine:
        report = import_original(engine, visitor_key(settings), settings.time_zone, Progress('rows read'), batch)
    click.echo(f'read {report.rows} rows, moved {report.moved_visits} visits of {report.moved_rows} rows')
    if report.without_address:
        click.echo(f'left {report.without_address} rows with {report.visits_without_address} visits, '
                   'because they hold no address that can be read')


@contextmanager
def _database() -> Iterator[Engine]:
    settings = current_app.config['SETTINGS']
    engine = command_engine(settings)
    try:
        yield engine
    except DBAPIError as error:
        click.echo(f'the database failed: {describe(error)}', err=True)
        if 'UndefinedTable' in describe(error) or 'no such table' in describe(error):
            click.echo('its schema is missing; run first: flask schema ready', err=True)
        sys.exit(DATABASE_FAILED)


def _at_one_moment(connection: Connection) -> Connection:
    """Make a connection's next queries read the state of one moment, as SQLite's transactions always do."""
    if is_embedded(connection.engine.url):
        return connection.execution_options(reads_only=True)
    return connection.execution_options(isolation_level='REPEATABLE READ', postgresql_readonly=True)
