"""Does this schema fit this code? The one place that compares them; it reads nothing and changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class State(Enum):
    """How a database's schema and this code stand to each other."""

    READY = 'the schema is the one of this code'
    UNVERSIONED = 'there are tables, but nothing says which revision they are at'
    BEHIND = 'the schema is older than this code'
    NEWER_OK = 'the schema is newer than this code, which can live with it'
    RETIRED = 'the schema is newer than this code, which can no longer live with it'
    FOREIGN = 'the schema is at a revision that this code knows nothing of'

    @property
    def fits(self) -> bool:
        """Whether visitors can be served."""
        return self in (State.READY, State.NEWER_OK)

    @property
    def refuses(self) -> bool:
        """Whether neither waiting nor migrating makes it fit."""
        return self in (State.UNVERSIONED, State.RETIRED, State.FOREIGN)


@dataclass(frozen=True)
class Code:
    """What a release knows: its newest revision, and all that lead there."""

    head: str
    known: frozenset[str]


@dataclass(frozen=True)
class Found:
    """What a database says: where it stands, each revision it ever had (and if it is retired), if it holds tables."""

    heads: frozenset[str] = frozenset()
    log: Mapping[str, bool] = field(default_factory=dict)
    has_tables: bool = False


def decide(code: Code, found: Found) -> State:
    """Return how a database's schema and a release stand to each other.

    Equal heads alone would not do: with each migration every instance of the running release would turn unfit.
    """
    if found.heads == {code.head}:
        return State.READY
    if not found.heads:
        return State.UNVERSIONED if found.has_tables else State.BEHIND
    if found.heads <= code.known:
        return State.BEHIND
    if code.head not in found.log:
        return State.FOREIGN
    return State.RETIRED if found.log[code.head] else State.NEWER_OK
