"""How the leader calls Alembic: the configuration, and the upgrade that migrations/env.py gets with it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

# The attributes of a configuration that migrations/env.py reads.
UPGRADE = 'upgrade'
DIALECT = 'dialect'


@dataclass(frozen=True)
class Upgrade:
    """One upgrade by the leader, on the connection that holds the lock; `backend` is the server's process of it."""

    connection: Connection
    deploy_id: str
    backend: int | None
    in_one_transaction: bool = False
    after_revision: Callable[[Connection], None] | None = None
    may_downgrade: bool = False


def config_for(directory: Path, **attributes: Any) -> Config:
    """Return Alembic's configuration for a migrations folder, with attributes for env.py."""
    config = Config(attributes=attributes)
    config.set_main_option('script_location', str(directory).replace('%', '%%'))
    return config


def apply(upgrade: Upgrade, directory: Path) -> None:
    """Apply all revisions of a migrations folder that the database lacks."""
    command.upgrade(config_for(directory, **{UPGRADE: upgrade}), 'head')
