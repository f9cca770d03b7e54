"""A deploy as the database knows it: the revisions to bring up, how, and the verdict on its migration."""

from dataclasses import dataclass, replace
from datetime import datetime, timezone
import logging
from pathlib import Path
from uuid import uuid4

from visitors.schema.decision import Record, State
from visitors.schema.errors import Exit
from visitors.schema.revisions import CodeRevisions, MIGRATIONS
from visitors.schema.tables import Attempt, ERROR_LENGTH, FAILED, RUNNING, SUCCEEDED
from visitors.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """The options of a boot: how long to wait, how often to look, which revisions, when to replace a frozen leader."""

    timeout: float = 120.0
    poll: float = 0.5
    directory: Path = MIGRATIONS
    one_transaction: bool = False
    idle_limit: float = 60.0


@dataclass(frozen=True)
class Deploy:
    """One deploy on one instance: its name, its revisions, and the settings and options of the instance."""

    name: str
    revisions: CodeRevisions
    settings: Settings
    options: Options


def deploy_name(settings: Settings) -> str:
    """Return the name under which verdicts are kept: the deploy's, or one for this start alone without a deploy."""
    return settings.deploy_id or f'{settings.instance_id}/{uuid4()}'


def begin(deploy: Deploy, record: Record, previous: Attempt | None) -> Attempt:
    """Return the attempt that follows the deploy's previous one."""
    number = previous.attempt + 1 if previous and previous.status == RUNNING else 1
    heads = ','.join(sorted(record.heads))
    logger.info('leading: attempt %d of deploy %s, from %s to %s', number, deploy.name, heads or 'nothing',
                deploy.revisions.head)
    return Attempt(deploy.name, deploy.revisions.head, heads, RUNNING, number, deploy.settings.instance_id,
                   datetime.now(timezone.utc))


def end(attempt: Attempt, error: str | None) -> Attempt:
    """Return an attempt with its verdict."""
    status = FAILED if error else SUCCEEDED
    finished_at = datetime.now(timezone.utc)
    return replace(attempt, status=status, finished_at=finished_at, error=error and error[:ERROR_LENGTH])


def refuse(state: State, record: Record, head: str) -> Exit:
    """Log why this code cannot run on this schema, and return the exit code for that."""
    logger.error('%s: %s', state.value, positions(record, head))
    return Exit.DOES_NOT_FIT


def positions(record: Record, head: str) -> str:
    """Return the revisions of database and code, as log lines and reasons name them."""
    return f'database at {", ".join(sorted(record.heads)) or "nothing"}, code at {head}'
