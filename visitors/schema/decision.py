"""Whether a schema fits this code: the only place that compares them. It reads nothing and changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class State(Enum):
    """The relation of a database's schema to this code."""

    READY = 'the schema is the one of this code'
    UNVERSIONED = 'the database has tables, but no record of their revision'
    BEHIND = 'the schema is older than this code'
    NEWER_OK = 'the schema is newer than this code, which can live with it'
    RETIRED = 'the schema is newer than this code, which can no longer live with it'
    FOREIGN = 'the schema is at a revision that is unknown to this code'

    @property
    def fits(self) -> bool:
        """Whether visitors can be served."""
        return self in (State.READY, State.NEWER_OK)

    @property
    def refuses(self) -> bool:
        """Whether neither waiting nor migrating makes the schema fit."""
        return self in (State.UNVERSIONED, State.RETIRED, State.FOREIGN)


@dataclass(frozen=True)
class Code:
    """The revisions of a release: its newest one, and all that lead to it."""

    head: str
    revisions: frozenset[str]


@dataclass(frozen=True)
class Record:
    """A database's record of its schema: its revision, each revision it ever had and if retired, if it has tables."""

    heads: frozenset[str] = frozenset()
    log: Mapping[str, bool] = field(default_factory=dict)
    has_tables: bool = False


def decide(code: Code, record: Record) -> State:
    """Return the relation of a database's schema to a release.

    To compare heads alone is wrong, because each migration would make every instance of the running release unfit.
    """
    if record.heads == {code.head}:
        return State.READY
    if not record.heads:
        return State.UNVERSIONED if record.has_tables else State.BEHIND
    if record.heads <= code.revisions:
        return State.BEHIND
    if code.head not in record.log:
        return State.FOREIGN
    return State.RETIRED if record.log[code.head] else State.NEWER_OK
