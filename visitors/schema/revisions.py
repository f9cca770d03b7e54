"""The revisions of this code, read from their files without running env.py."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic.script import Script, ScriptDirectory

from visitors.schema.decision import Code
from visitors.schema.errors import NotOneHead
from visitors.settings import ROOT

MIGRATIONS = ROOT / 'migrations'


@dataclass(frozen=True)
class CodeRevisions:
    """The revisions of this code: all of them, and the newest, of which a release has exactly one."""

    heads: tuple[str, ...]
    revisions: frozenset[str]
    directory: Path

    @classmethod
    def load(cls, directory: Path = MIGRATIONS) -> 'CodeRevisions':
        """Return the revisions of a migrations folder; its files are read once in a process."""
        return _load(directory)

    @property
    def head(self) -> str:
        """The newest revision; raises NotOneHead if there are several or none."""
        if len(self.heads) != 1:
            raise NotOneHead(f'{self.directory} has {len(self.heads)} heads ({", ".join(self.heads) or "none"}); '
                             'a release needs one: merge them with `flask db merge heads`')
        return self.heads[0]

    @property
    def code(self) -> Code:
        """The revisions as the decision takes them; raises NotOneHead."""
        return Code(self.head, self.revisions)


def in_order(directory: Path) -> list[Script]:
    """Return the revisions of a migrations folder, the oldest first."""
    return list(reversed(list(ScriptDirectory(str(directory)).walk_revisions())))


def ancestors(directory: Path, heads: frozenset[str]) -> list[str]:
    """Return the names of these revisions and of all before them, the oldest first."""
    scripts = ScriptDirectory(str(directory))
    lineage = scripts.iterate_revisions(tuple(heads), 'base')
    return [script.revision for script in reversed(list(lineage))]


@cache
def _load(directory: Path) -> CodeRevisions:
    scripts = ScriptDirectory(str(directory))
    revisions = frozenset(script.revision for script in scripts.walk_revisions())
    return CodeRevisions(tuple(sorted(scripts.get_heads())), revisions, directory)
