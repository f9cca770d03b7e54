"""The errors of bringing a schema up: their meaning for a leader or a waiter, and the exit codes for the machine."""

from enum import Enum, IntEnum
from typing import Any

from sqlalchemy import exc

from visitors.database_errors import describe, PoolerBetween

# The words of a server or a pooler that does not pass on a connection's settings.
POOLER_WORDS = ('unsupported startup parameter', 'command-line options')
LOCK_TIMEOUT, DEADLOCK, CANCELLED, READ_ONLY = '55P03', '40P01', '57014', '25006'
# The remedies for final refusals of the server.
ADVICE = {
    '42501': 'the role that migrates owns the tables and needs CREATE and USAGE on their schema; the role that counts '
             'gets its privileges from `flask schema ready` if MIGRATION_DATABASE_URL names another role',
    '42P01': 'DATABASE_URL and MIGRATION_DATABASE_URL must lead to the same schema: compare search_path',
    '3F000': 'search_path names no schema that exists: set it for the role, or by ?options=-csearch_path%3DNAME',
}
# The errors of a reader while the leader makes the tables that it reads.
RACES = ('42P01', '42P07', '23505')


class Exit(IntEnum):
    """The exit codes of bringing the schema up; 1 is left to unexpected errors."""

    FITS = 0
    REFUSED = 3
    FAILED = 20
    TIMED_OUT = 21
    DOES_NOT_FIT = 22
    OTHER_TIME_ZONE = 23
    UNSAFE_CONNECTION = 24


class Kind(Enum):
    """The meaning of an error for a leader or a waiter."""

    LOST = 'the connection or the server is gone, or the server is a copy that does not write yet'
    RETRY = 'another session holds a lock'
    RACE = 'the leader is making the tables that were read'
    UNSAFE = 'a pooler is in between'
    FINAL = 'a retry would end the same'


class SchemaError(Exception):
    """A final failure to bring the schema up; a retry does not help."""


class NotOneHead(SchemaError):
    """Code without a single newest revision."""


class UnsafeConnection(SchemaError):
    """A connection that is not one session of a PostgreSQL server, so that a lock there protects nothing."""


class FenceBroken(SchemaError):
    """A revision that is about to commit on another session than the one that holds the leader lock."""


def kind_of(error: BaseException) -> Kind:
    """Return the meaning of an error, from SQLAlchemy or from the driver below it."""
    cause: Any = getattr(error, 'orig', None) or error
    if isinstance(cause, (UnsafeConnection, PoolerBetween)) or any(words in str(cause) for words in POOLER_WORDS):
        return Kind.UNSAFE
    if not isinstance(error, exc.DBAPIError):
        return Kind.FINAL

    code = code_of(error)
    if error.connection_invalidated or _is_loss(error, code):
        return Kind.LOST
    if code in (LOCK_TIMEOUT, DEADLOCK):
        return Kind.RETRY
    if code == READ_ONLY:
        return Kind.LOST
    return Kind.RACE if code in RACES else Kind.FINAL


def code_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error, from SQLAlchemy or from the driver below it."""
    code: str | None = getattr(getattr(error, 'orig', None) or error, 'pgcode', None)
    return code


def explain(error: Exception) -> str:
    """Return one line for an error that ends a command: its kind, its first line, and the remedy if one exists."""
    if isinstance(error, SchemaError):
        return str(error)
    if isinstance(error, OSError):
        return f'{error.filename}: {error.strerror}' if error.filename else str(error)
    advice = ADVICE.get(code_of(error) or '')
    return f'{describe(error)}; {advice}' if advice else describe(error)


def _is_loss(error: exc.DBAPIError, code: str | None) -> bool:
    # Without a code, only an operational error is a loss. Otherwise a wrong call of the driver would poll for ever.
    if code is None:
        return isinstance(error, exc.OperationalError)
    return code.startswith('08') or (code.startswith('57') and code != CANCELLED)
