"""What the database remembers of its schema: where it stands, every revision it had, and how each deploy went."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import (
    BigInteger, Boolean, Column, Connection, DateTime, delete, false, func, insert, Integer, MetaData,
    PrimaryKeyConstraint, select, String, Table, Text, text, true, union_all, update,
)

from visitors.schema.decision import Found
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

# How each deploy went. A row that says `running` while nobody holds the leader lock means that the leader died.
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

STATE_TABLES = frozenset(metadata.tables)
TABLES = {
    'postgresql': text('SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema()'),
    'sqlite': text("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"),
}


@dataclass(frozen=True)
class Attempt:
    """How one deploy's migration went, or goes."""

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
    """Return the names of all tables where this connection makes and finds them."""
    return frozenset(connection.scalars(TABLES[connection.dialect.name]))


def read_found(connection: Connection) -> Found:
    """Return what the database says of its schema, in two small statements.

    The tables are read first: whoever sees a revision's tables then sees its version too, and never tables alone.
    """
    return found_among(connection, table_names(connection))


def found_among(connection: Connection, tables: frozenset[str]) -> Found:
    """Return what the database says of its schema, if these are its tables."""
    parts = []
    if version.name in tables:
        number = version.c.version_num.label('revision')
        parts.append(select(number, true().label('is_head'), false().label('retired')))
    if log.name in tables:
        parts.append(select(log.c.revision, false().label('is_head'), log.c.retired))
    lines = list(connection.execute(union_all(*parts))) if parts else []
    return Found(
        heads=frozenset(line.revision for line in lines if line.is_head),
        log={line.revision: line.retired for line in lines if not line.is_head},
        has_tables=bool(tables - STATE_TABLES),
    )


def make_tables(connection: Connection) -> None:
    """Make the tables that remember the schema's state, where they are missing."""
    metadata.create_all(connection)


def read_attempt(connection: Connection, deploy_id: str) -> Attempt | None:
    """Return how a deploy's migration went, or None where it has not begun."""
    found = connection.execute(select(attempts).where(attempts.c.deploy_id == deploy_id)).one_or_none()
    return Attempt(**found._mapping) if found else None


def read_last_attempts(connection: Connection, number: int) -> list[Attempt]:
    """Return how the last deploys' migrations went, the latest first."""
    query = select(attempts).order_by(attempts.c.started_at.desc()).limit(number)
    return [Attempt(**found._mapping) for found in connection.execute(query)]


def write_attempt(connection: Connection, attempt: Attempt) -> None:
    """Write how a deploy's migration goes, in place of what was written before."""
    # Under the leader lock, so nobody else inserts it; and one statement, so that being killed here loses nothing.
    values = asdict(attempt)
    changed = connection.execute(update(attempts).where(attempts.c.deploy_id == attempt.deploy_id).values(values))
    if not changed.rowcount:
        connection.execute(insert(attempts).values(values))


def seed_log(connection: Connection, revisions: Sequence[str]) -> None:
    """Write revisions that are older than the log itself into it, if it is empty."""
    if connection.scalar(select(func.count()).select_from(log)) or not revisions:
        return
    connection.execute(insert(log), [{'revision': revision, 'seq': number, 'deploy_id': SEED}
                                     for number, revision in enumerate(revisions, 1)])


def log_revision(connection: Connection, revision: str, deploy_id: str) -> None:
    """Write that a revision was applied, after all others."""
    forget_revision(connection, revision)
    following = select(func.coalesce(func.max(log.c.seq), 0) + 1).scalar_subquery()
    connection.execute(insert(log).values(revision=revision, seq=following, deploy_id=deploy_id))


def forget_revision(connection: Connection, revision: str) -> None:
    """Write that a revision was taken back."""
    connection.execute(delete(log).where(log.c.revision == revision))


def retire_before(connection: Connection, floor: str) -> None:
    """Write that code whose newest revision is older than this one may no longer run."""
    seq = connection.scalar(select(log.c.seq).where(log.c.revision == floor))
    if seq is None:
        raise SchemaError(f'min_code_revision = {floor!r} was never applied here')
    connection.execute(update(log).where(log.c.seq < seq).values(retired=True))
