"""Whether a running instance's code fits the schema that it finds."""

from dataclasses import dataclass

from sqlalchemy import Connection

from visitors.schema.decision import decide, State
from visitors.schema.revisions import CodeRevisions
from visitors.schema.state import read_found


@dataclass(frozen=True)
class Fitness:
    """Whether visitors can be served on this schema, and the reason as one sentence."""

    state: State
    reason: str
    fits: bool

    @classmethod
    def read(cls, connection: Connection, revisions: CodeRevisions | None = None) -> 'Fitness':
        """Return the fitness of this code for a database; costs two small statements."""
        revisions = revisions or CodeRevisions.load()
        found = read_found(connection)
        state = decide(revisions.code, found)
        stands = ', '.join(sorted(found.heads)) or 'nothing'
        return cls(state, f'{state.value}: database at {stands}, code at {revisions.head}', state.fits)
