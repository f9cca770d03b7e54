"""The tables in which a database records its schema: its revision, all earlier ones, and each deploy's outcome."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import (
    BigInteger, Boolean, Column, Connection, DateTime, delete, false, func, insert, Integer, MetaData,
    PrimaryKeyConstraint, select, String, Table, Text, text, true, union_all, update,
)

from visitors.schema.decision import Record
from visitors.schema.errors import SchemaError

RUNNING, SUCCEEDED, FAILED = 'running', 'succeeded', 'failed'
SEED = 'seed'
ERROR_LENGTH = 500

metadata = MetaData()

# Alembic's own table, as Alembic makes it.
version = Table(
    'alembic_version', metadata,
    Column('version_num', String(32), nullable=False),
    PrimaryKeyConstraint('version_num', name='alembic_version_pkc'),
)

# Every revision ever applied, so that an older release finds its own head in a schema that is newer than itself.
log = Table(
    'schema_revision_log', metadata,
    Column('revision', Text, primary_key=True),
    Column('seq', BigInteger, nullable=False),
    Column('retired', Boolean, nullable=False, server_default=false()),
    Column('applied_at', DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column('deploy_id', Text),
)

# The outcome of each deploy. If a row is `running` while no session holds the leader lock, the leader died.
attempts = Table(
    'migration_attempt', metadata,
    Column('deploy_id', Text, primary_key=True),
    Column('target', Text),
    Column('from_rev', Text),
    Column('status', Text, nullable=False),
    Column('attempt', Integer, nullable=False),
    Column('instance_id', Text),
    Column('started_at', DateTime(timezone=True)),
    Column('finished_at', DateTime(timezone=True)),
    Column('error', Text),
)

SCHEMA_TABLES = frozenset(metadata.tables)
TABLES = {
    'postgresql': text('SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema()'),
    'sqlite': text("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"),
}


@dataclass(frozen=True)
class Attempt:
    """One deploy's migration: its target, its leader and its outcome."""

    deploy_id: str
    target: str
    from_rev: str
    status: str
    attempt: int
    instance_id: str
    started_at: datetime
    finished_at: datetime | None = None
    error: str | None = None


def table_names(connection: Connection) -> frozenset[str]:
    """Return the names of all tables in the schema in which this connection makes and finds them."""
    return frozenset(connection.scalars(TABLES[connection.dialect.name]))


def read_record(connection: Connection) -> Record:
    """Return the database's record of its schema, in two small statements.

    The table names are read first. A reader that sees a revision's tables then sees its version too, never tables
    alone.
    """
    return record_among(connection, table_names(connection))


def record_among(connection: Connection, names: frozenset[str]) -> Record:
    """Return the record of a database that has these tables."""
    parts = []
    if version.name in names:
        number = version.c.version_num.label('revision')
        parts.append(select(number, true().label('is_head'), false().label('retired')))
    if log.name in names:
        parts.append(select(log.c.revision, false().label('is_head'), log.c.retired))
    lines = list(connection.execute(union_all(*parts))) if parts else []
    return Record(
        heads=frozenset(line.revision for line in lines if line.is_head),
        log={line.revision: line.retired for line in lines if not line.is_head},
        has_tables=bool(names - SCHEMA_TABLES),
    )


def make_tables(connection: Connection) -> None:
    """Make those of these tables that are missing."""
    metadata.create_all(connection)


def read_attempt(connection: Connection, deploy_id: str) -> Attempt | None:
    """Return a deploy's migration, or None before its first attempt."""
    row = connection.execute(select(attempts).where(attempts.c.deploy_id == deploy_id)).one_or_none()
    return Attempt(**row._mapping) if row else None


def read_last_attempts(connection: Connection, number: int) -> list[Attempt]:
    """Return the last deploys' migrations, the latest first."""
    query = select(attempts).order_by(attempts.c.started_at.desc()).limit(number)
    return [Attempt(**row._mapping) for row in connection.execute(query)]


def write_attempt(connection: Connection, attempt: Attempt) -> None:
    """Write a deploy's migration, in place of its earlier row."""
    # The leader lock excludes another writer, and a process killed in a single statement loses nothing.
    values = asdict(attempt)
    result = connection.execute(update(attempts).where(attempts.c.deploy_id == attempt.deploy_id).values(values))
    if not result.rowcount:
        connection.execute(insert(attempts).values(values))


def seed_log(connection: Connection, revisions: Sequence[str]) -> None:
    """Write revisions that are older than the log into it, if it is empty."""
    if connection.scalar(select(func.count()).select_from(log)) or not revisions:
        return
    connection.execute(insert(log), [{'revision': revision, 'seq': number, 'deploy_id': SEED}
                                     for number, revision in enumerate(revisions, 1)])


def log_revision(connection: Connection, revision: str, deploy_id: str) -> None:
    """Write a revision into the log, after all others."""
    forget_revision(connection, revision)
    following = select(func.coalesce(func.max(log.c.seq), 0) + 1).scalar_subquery()
    connection.execute(insert(log).values(revision=revision, seq=following, deploy_id=deploy_id))


def forget_revision(connection: Connection, revision: str) -> None:
    """Delete a revision from the log, because it was downgraded."""
    connection.execute(delete(log).where(log.c.revision == revision))


def retire_before(connection: Connection, floor: str) -> None:
    """Retire the code whose newest revision is older than this one: it may no longer run."""
    seq = connection.scalar(select(log.c.seq).where(log.c.revision == floor))
    if seq is None:
        raise SchemaError(f'min_code_revision = {floor!r} was never applied here')
    connection.execute(update(log).where(log.c.seq < seq).values(retired=True))
