"""Each revision leaves a schema that the release before it can live with, and models and revisions agree."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
import shutil

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script
import pytest
from sqlalchemy import Connection, create_engine, event, inspect, make_url, NullPool, text
from sqlalchemy.exc import IntegrityError

from visitors import models
from visitors.schema import bring_up, Exit, Options
from visitors.schema.environment import is_compared
from visitors.schema.revisions import in_order, MIGRATIONS
from visitors.schema.tables import make_tables, SCHEMA_TABLES
from visitors.schema.upgrade import config_for, UPGRADE, Upgrade
from visitors.settings import Settings

SCRIPTS = in_order(MIGRATIONS)
ORIGINAL = 'e75588bf2531'  # pragma: allowlist secret


@pytest.mark.parametrize('newest', [script.revision for script in SCRIPTS])
def test_the_replaced_application_can_go_on_after_each_revision(
        database_url: str, tmp_path: Path, newest: str) -> None:
    """Its own statements: find an address, insert it, find it again, count a visit, count the visitors."""
    bring_up_to(database_url, newest, tmp_path)
    with connected(database_url) as connection:
        find = text('SELECT visitor.id, visitor.ip, visitor.visits FROM visitor WHERE visitor.ip = :ip LIMIT 1')
        assert connection.execute(find, {'ip': '192.0.2.1'}).first() is None

        connection.execute(text('INSERT INTO visitor (ip, visits) VALUES (:ip, :visits)'),
                           {'ip': '192.0.2.1', 'visits': 1})
        number, _, visits = connection.execute(find, {'ip': '192.0.2.1'}).one()
        connection.execute(text('UPDATE visitor SET visits=:visits WHERE visitor.id = :id'),
                           {'visits': visits + 1, 'id': number})

        assert connection.execute(find, {'ip': '192.0.2.1'}).one() == (number, '192.0.2.1', 2)
        assert connection.scalar(text('SELECT count(*) AS count_1 FROM (SELECT visitor.id FROM visitor) AS a')) == 1
        with pytest.raises(IntegrityError):
            connection.execute(text('INSERT INTO visitor (ip, visits) VALUES (:ip, :visits)'),
                               {'ip': '192.0.2.1', 'visits': 1})


def test_a_database_that_the_replaced_application_has_left_comes_up_in_place(
        database_url: str, tmp_path: Path) -> None:
    with connected(database_url) as connection:
        key = 'SERIAL' if connection.dialect.name == 'postgresql' else 'INTEGER'
        for statement in (
            f'CREATE TABLE visitor (id {key} NOT NULL, ip VARCHAR(40), visits INTEGER, PRIMARY KEY (id))',
            'CREATE UNIQUE INDEX ix_visitor_ip ON visitor (ip)',
            "INSERT INTO visitor (ip, visits) VALUES ('192.0.2.1', 7)",
            'CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, '
            'CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))',
            f"INSERT INTO alembic_version VALUES ('{ORIGINAL}')",
        ):
            connection.execute(text(statement))
        connection.commit()

    bring_up_to(database_url, SCRIPTS[-1].revision, tmp_path)

    with connected(database_url) as connection:
        assert connection.execute(text('SELECT ip, visits FROM visitor')).all() == [('192.0.2.1', 7)]
        log = connection.execute(text('SELECT revision, deploy_id FROM schema_revision_log ORDER BY seq')).all()
        assert [revision for revision, _ in log] == [script.revision for script in SCRIPTS]
        assert [deploy for _, deploy in log] == ['seed'] + ['deploy-1'] * (len(SCRIPTS) - 1)


def test_models_and_revisions_make_the_same_tables(database_url: str, tmp_path: Path) -> None:
    bring_up_to(database_url, SCRIPTS[-1].revision, tmp_path)
    with connected(database_url) as connection:
        context = MigrationContext.configure(connection, opts={
            'compare_type': True, 'compare_server_default': True, 'include_name': is_compared})

        assert compare_metadata(context, models.metadata_of(connection.dialect.name)) == []


def test_down_and_up_again_makes_the_same_schema_in_development(database_url: str, tmp_path: Path) -> None:
    bring_up_to(database_url, SCRIPTS[-1].revision, tmp_path)
    with connected(database_url) as connection:
        before = described(connection)
        develop(connection, command.downgrade, 'base')
        assert set(inspect(connection).get_table_names()) == SCHEMA_TABLES
        assert connection.execute(text('SELECT * FROM schema_revision_log')).all() == []
        connection.rollback()

        develop(connection, command.upgrade, 'head')

        assert described(connection) == before


@pytest.mark.parametrize('script', SCRIPTS, ids=[script.revision for script in SCRIPTS])
def test_each_revision_can_be_downgraded_in_development(database_url: str, script: Script) -> None:
    revision = script.revision
    with connected(database_url) as connection:
        make_tables(connection)
        connection.commit()
        develop(connection, command.upgrade, revision)
        before = described(connection)
        develop(connection, command.downgrade, '-1')
        if connection.dialect.name == getattr(script.module, 'only', connection.dialect.name):
            assert described(connection) != before

        develop(connection, command.upgrade, revision)

        assert described(connection) == before


def bring_up_to(url: str, newest: str, folder: Path) -> None:
    """Bring a database to a revision, as the release whose newest revision that is."""
    release = folder / newest
    (release / 'versions').mkdir(parents=True)
    shutil.copy(MIGRATIONS / 'env.py', release)
    for script in SCRIPTS:
        shutil.copy(script.path, release / 'versions')
        if script.revision == newest:
            break
    settings = Settings.from_environ({'DATABASE_URL': url, 'VISITOR_KEY': 'k' * 32, 'DEPLOY_ID': 'deploy-1'})
    assert bring_up(settings, Options(directory=release)) is Exit.FITS


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Give a connection to a database; on SQLite with transactions that hold for tables too."""
    parsed = make_url(url)
    if parsed.get_backend_name() == 'sqlite':
        engine = create_engine(parsed, poolclass=NullPool, connect_args={'isolation_level': None})
        event.listen(engine, 'begin', lambda connection: connection.exec_driver_sql('BEGIN IMMEDIATE'))
    else:
        engine = create_engine(parsed.set(drivername='postgresql+psycopg2'), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def develop(connection: Connection, go: Callable[[Config, str], None], target: str) -> None:
    """Go to a revision, as production never allows."""
    upgrade = Upgrade(connection, 'development', None, may_downgrade=True)
    connection.rollback()
    go(config_for(MIGRATIONS, **{UPGRADE: upgrade}), target)
    connection.commit()


def described(connection: Connection) -> dict[str, object]:
    """Return the contents of a database's schema: columns, keys, indexes, triggers."""
    inspector = inspect(connection)
    names = sorted(set(inspector.get_table_names()) - SCHEMA_TABLES)
    triggers = ('SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1'
                if connection.dialect.name == 'postgresql'
                else "SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY 1")
    description: dict[str, object] = {
        name: [[{**column, 'type': str(column['type'])} for column in inspector.get_columns(name)],
               inspector.get_pk_constraint(name), inspector.get_indexes(name)] for name in names}
    description['triggers'] = list(connection.scalars(text(triggers)))
    return description
