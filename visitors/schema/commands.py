"""The commands `flask schema ...`: bring the schema up, show its status, check the revisions."""

from dataclasses import asdict
import json
from pathlib import Path
import sys

import click
from flask import current_app, Flask
from flask.cli import with_appcontext
from flask_migrate.cli import db as migration_commands
from sqlalchemy.exc import DBAPIError

from visitors.schema.admission import bring_up, log_to_stderr
from visitors.schema.check import findings
from visitors.schema.deploy import Options
from visitors.schema.errors import explain, SchemaError
from visitors.schema.revisions import MIGRATIONS
from visitors.schema.status import read_status, Status

DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


# Commands of `flask db` that this application refuses, or that would start a second folder of revisions.
REFUSED = ('downgrade', 'init', 'list-templates', 'stamp')


def init_app(app: Flask) -> None:
    """Add the commands for the schema to an application."""
    app.cli.add_command(schema)
    for name in REFUSED:
        migration_commands.commands[name].hidden = True
    migration_commands.commands['migrate'].short_help = 'Write a new revision from the changes to the models.'


@click.group('schema', short_help='Bring the schema up, show its status, check the revisions.')
@click.option('--directory', type=DIRECTORY, default=MIGRATIONS,
              help='the folder of the revisions, by default migrations/')
@click.pass_context
def schema(context: click.Context, directory: Path) -> None:
    """Bring the database's schema up, show its status, check its revisions."""
    context.obj = directory


@schema.command('ready', short_help='Bring the schema up, or wait for the instance that does.')
@click.option('--timeout', type=click.FloatRange(min=0), default=Options.timeout, show_default=True, metavar='SECONDS',
              help='how long to wait for another instance that migrates')
@click.option('--poll', type=click.FloatRange(min=0.01), default=Options.poll, show_default=True, metavar='SECONDS',
              help='the pause between two looks at the schema')
@click.option('--one-transaction', is_flag=True,
              help='apply all revisions in one transaction, which keeps all their locks to the end')
@click.option('--idle-limit', type=click.FloatRange(min=0.1), default=Options.idle_limit, show_default=True,
              metavar='SECONDS', help='how long a leader may be idle before the server ends its session')
@click.pass_obj
@with_appcontext
def ready(directory: Path, timeout: float, poll: float, one_transaction: bool, idle_limit: float) -> None:
    """Return when this code can serve on the database's schema; migrate it, if no other instance does.

    Exits with 0 if the schema fits and a visit could be counted; 3 if the database refuses a visit; 20 if this
    deploy's migration failed; 21 if the wait timed out; 22 if this code does not fit the schema and migrating does not
    help; 23 if the database counts in another time zone than TIME_ZONE; 24 if a pooler is in between.
    """
    log_to_stderr()
    options = Options(timeout, poll, directory, one_transaction, idle_limit)
    sys.exit(bring_up(current_app.config['SETTINGS'], options))


@schema.command('status', short_help='Show schema, leader and last deploys.')
@click.option('--json', 'as_json', is_flag=True, help='for programs')
@click.pass_obj
@with_appcontext
def status(directory: Path, as_json: bool) -> None:
    """Show whether this code fits the schema, which instance leads, and the last deploys; change nothing."""
    try:
        current = read_status(current_app.config['SETTINGS'], directory)
    except (DBAPIError, OSError, SchemaError) as error:
        raise click.ClickException(explain(error)) from error
    click.echo(json.dumps(asdict(current), default=str, indent=2) if as_json else described(current))


@schema.command('check', short_help='Check that a running service survives the revisions.')
@click.pass_obj
def check(directory: Path) -> None:
    """Check the revisions: one head, no gap, contracts with a floor, and SQL that a running service survives."""
    defects = findings(directory)
    for sentence in defects:
        click.echo(sentence, err=True)
    if defects:
        sys.exit(1)
    click.echo('the revisions are in order')


def described(status: Status) -> str:
    """Return a status as text for people."""
    lines = [f'{status.state}: {status.reason}', f'leader: {status.leader or "none"}']
    for attempt in status.attempts:
        error = f', {attempt.error}' if attempt.error else ''
        lines.append(f'deploy {attempt.deploy_id}: {attempt.status}, attempt {attempt.attempt} by '
                     f'{attempt.instance_id} at {attempt.started_at:%Y-%m-%d %H:%M:%S}{error}')
    return '\n'.join(lines)
