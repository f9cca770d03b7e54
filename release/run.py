"""What all acts of one call of the release tool share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
import getpass
from pathlib import Path
import secrets
import socket

from release.aws import Aws
from release.interruption import Interruption
from release.progress import Progress
from release.waiting import Deadline

# Where GitLab and Jenkins say which job this is.
JOB_URLS = ('CI_JOB_URL', 'BUILD_URL')


@dataclass(frozen=True)
class Run:
    """One call: its name, its cloud, who watches it, and how long it may take."""

    run_id: str
    root: Path
    environ: Mapping[str, str]
    aws: Aws
    progress: Progress
    interruption: Interruption
    deadline: Deadline
    # What could not be removed of it, with the reasons.
    left: list[str] = field(default_factory=list)

    @property
    def who(self) -> str:
        """Who runs it, as others are told who wait for it."""
        return self.job_url or f'{getpass.getuser()}@{socket.gethostname()}'

    @property
    def job_url(self) -> str:
        """Where the CI shows the job that this is; nothing on a developer's machine."""
        return next((self.environ[name] for name in JOB_URLS if self.environ.get(name)), '')


def new_run_id() -> str:
    """Return a name for a run that no other has, and that sorts by time."""
    return f'{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}'
