"""How schema and code stand to each other, who migrates, and how the last deploys went."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from visitors.schema import embedded, lock, state
from visitors.schema.connection import Sessions
from visitors.schema.decision import Code, decide, Found
from visitors.schema.revisions import CodeRevisions
from visitors.schema.state import Attempt
from visitors.settings import is_embedded, Settings

LAST_ATTEMPTS = 5
EMBEDDED_SECONDS = 5.0


@dataclass(frozen=True)
class Status:
    """What is known of a database's schema now."""

    state: str
    fits: bool
    reason: str
    database_heads: list[str]
    code_head: str
    leader: lock.Holder | None
    attempts: list[Attempt]


def read_status(settings: Settings, directory: Path) -> Status:
    """Return the status of the settings' database for the code of a migrations folder; change nothing."""
    code = CodeRevisions.load(directory).code
    if not is_embedded(settings.migration_database_url):
        with Sessions(settings).open() as connection:
            return _read(connection, code, lock.read_holder(connection))

    # Connecting would make the file.
    if not Path(str(settings.migration_database_url.database)).exists():
        return _status(code, Found(), None, [])
    with embedded.read_only(settings.migration_database_url, EMBEDDED_SECONDS).connect() as connection:
        return _read(connection, code, None)


def _read(connection: Connection, code: Code, leader: lock.Holder | None) -> Status:
    tables = state.table_names(connection)
    known = state.attempts.name in tables
    attempts = state.read_last_attempts(connection, LAST_ATTEMPTS) if known else []
    return _status(code, state.found_among(connection, tables), leader, attempts)


def _status(code: Code, found: Found, leader: lock.Holder | None, attempts: list[Attempt]) -> Status:
    answer = decide(code, found)
    return Status(answer.name, answer.fits, answer.value, sorted(found.heads), code.head, leader, attempts)
