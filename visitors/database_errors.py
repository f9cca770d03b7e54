"""The errors of an unavailable database: their meaning for other requests, and their texts."""

from enum import Enum
import sqlite3

import psycopg2
from sqlalchemy import exc

# The errors of the drivers and of SQLAlchemy.
DRIVER_ERRORS = (psycopg2.Error, sqlite3.Error, exc.SQLAlchemyError)
# The errors of an unavailable database. Those of the last line come from privileges, tables or a search_path that an
# operator revokes or has yet to make. Any other error is a defect and propagates.
UNAVAILABLE_ERRORS = (
    psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.InternalError, sqlite3.OperationalError,
    exc.TimeoutError,
    psycopg2.errors.InsufficientPrivilege, psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedColumn,
    psycopg2.errors.InvalidSchemaName,
)
UNUSABLE_FILE = ('SQLITE_NOTADB', 'SQLITE_CORRUPT')
ENDED = ('08', '57P')  # classes of SQLSTATE that end a connection


class Scope(Enum):
    """The meaning of a failure for other requests."""

    STATEMENT = 'the server answered, so only this statement failed'
    CONNECTION = 'an open connection ended; the next one shows whether the server ended too'
    CONNECTING = 'no new connection can be made; those that are open may work'
    SERVER = 'an open connection did not answer'


class DatabaseUnavailable(Exception):
    """The database cannot be used now: it refuses, is silent or busy, or its schema is missing."""

    def __init__(self, message: str, scope: Scope = Scope.STATEMENT) -> None:
        """Keep the reason, and its meaning for other requests."""
        super().__init__(message)
        self.scope = scope


class Unreachable(Exception):
    """A new connection could not be made."""


class NoAnswer(psycopg2.OperationalError):
    """A silent server."""


class NoTurn(psycopg2.OperationalError):
    """A visit whose time ended while it waited for its turn; it is no sign of the server's state."""


class PoolerBetween(psycopg2.OperationalError):
    """A session that belongs to a pooler, which may run the next statement in another session."""


def is_unavailable(error: Exception) -> bool:
    """Return whether an error means that the database cannot be used now."""
    cause = getattr(error, 'orig', None) or error
    if isinstance(cause, UNAVAILABLE_ERRORS):
        return True
    return isinstance(cause, sqlite3.Error) and _sqlite_name(cause).startswith(UNUSABLE_FILE)


def scope_of(error: Exception) -> Scope:
    """Return the meaning of an error for other requests."""
    cause = getattr(error, 'orig', None) or error
    if isinstance(cause, sqlite3.Error):
        # An embedded database has one lock for all of it.
        return Scope.SERVER if _sqlite_name(cause).startswith('SQLITE_BUSY') else Scope.STATEMENT
    if isinstance(cause, NoAnswer):
        return Scope.SERVER
    code = getattr(cause, 'pgcode', None) or ''
    return Scope.CONNECTION if not code or code.startswith(ENDED) else Scope.STATEMENT


def _sqlite_name(error: sqlite3.Error) -> str:
    return getattr(error, 'sqlite_errorname', '')  # errors of the driver itself lack it


def describe(error: Exception) -> str:
    """Return an error's kind, SQLSTATE and first line, without a statement's parameters (a visitor's hash)."""
    cause = getattr(error, 'orig', None) or error
    first_line = (str(cause).strip().splitlines() or [''])[0]
    return f'{kind_and_code(error)}: {first_line}'


def kind_and_code(error: BaseException | None) -> str:
    """Return an error's kind and SQLSTATE, for the public, because its text may name hosts and users."""
    cause = getattr(error, 'orig', None) or error
    code = getattr(cause, 'pgcode', None)
    return f'{type(cause).__name__}{f" {code}" if code else ""}'
