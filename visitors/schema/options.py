"""How the schema is brought up, where people or tests want it otherwise than usual."""

from dataclasses import dataclass
from pathlib import Path

from visitors.schema.revisions import MIGRATIONS


@dataclass(frozen=True)
class Options:
    """How long to wait and how often to look, where the revisions are, and how a frozen leader is told."""

    timeout: float = 120.0
    poll: float = 0.5
    directory: Path = MIGRATIONS
    one_transaction: bool = False
    idle_limit: float = 60.0
