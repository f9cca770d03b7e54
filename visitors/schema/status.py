"""The status of a database's schema: whether this code fits it, who leads, and the last deploys. It only reads."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from visitors.schema import embedded, lock, tables
from visitors.schema.decision import Code, decide, Record, State
from visitors.schema.deploy import positions
from visitors.schema.revisions import CodeRevisions
from visitors.schema.sessions import Sessions
from visitors.schema.tables import Attempt
from visitors.settings import is_embedded, Settings

LAST_ATTEMPTS = 5
EMBEDDED_SECONDS = 5.0


@dataclass(frozen=True)
class Fitness:
    """Whether a running instance's code can serve visitors on the schema, and the reason as one sentence."""

    state: State
    reason: str
    fits: bool

    @classmethod
    def read(cls, connection: Connection, revisions: CodeRevisions | None = None) -> 'Fitness':
        """Return the fitness of this code for a database; costs two small statements."""
        revisions = revisions or CodeRevisions.load()
        record = tables.read_record(connection)
        state = decide(revisions.code, record)
        return cls(state, f'{state.value}: {positions(record, revisions.head)}', state.fits)


@dataclass(frozen=True)
class Status:
    """The relation of schema and code, the leader, and the last deploys."""

    state: str
    fits: bool
    reason: str
    database_heads: list[str]
    code_head: str
    leader: lock.Holder | None
    attempts: list[Attempt]


def read_status(settings: Settings, directory: Path) -> Status:
    """Return the status of the settings' database for the code of a migrations folder."""
    code = CodeRevisions.load(directory).code
    if not is_embedded(settings.migration_database_url):
        with Sessions(settings).open() as connection:
            return _read(connection, code, lock.read_holder(connection))

    # To connect would make the file.
    if not Path(str(settings.migration_database_url.database)).exists():
        return _status(code, Record(), None, [])
    with embedded.read_only(settings.migration_database_url, EMBEDDED_SECONDS).connect() as connection:
        return _read(connection, code, None)


def _read(connection: Connection, code: Code, leader: lock.Holder | None) -> Status:
    names = tables.table_names(connection)
    attempts = tables.read_last_attempts(connection, LAST_ATTEMPTS) if tables.attempts.name in names else []
    return _status(code, tables.record_among(connection, names), leader, attempts)


def _status(code: Code, record: Record, leader: lock.Holder | None, attempts: list[Attempt]) -> Status:
    state = decide(code, record)
    return Status(state.name, state.fits, state.value, sorted(record.heads), code.head, leader, attempts)
