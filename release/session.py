"""The parts that all steps of one call of the release tool share."""

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

# Where GitLab and Jenkins name the page of the running job.
JOB_URLS = ('CI_JOB_URL', 'BUILD_URL')


@dataclass(frozen=True)
class Session:
    """One call of the release tool: its id, its AWS region, its display and its time limit."""

    run_id: str  # the value of the tag Run on everything that this call makes
    root: Path
    environ: Mapping[str, str]
    aws: Aws
    progress: Progress
    interruption: Interruption
    deadline: Deadline
    # The resources that could not be removed, with the reasons.
    left: list[str] = field(default_factory=list)

    @property
    def caller(self) -> str:
        """The caller, as other callers see it while they wait: the page of the CI job, else user and host."""
        return self.job_url or f'{getpass.getuser()}@{socket.gethostname()}'

    @property
    def job_url(self) -> str:
        """The page of the CI job; empty on a developer's machine."""
        return next((self.environ[name] for name in JOB_URLS if self.environ.get(name)), '')


def new_run_id() -> str:
    """Return an id that no other call has, and that sorts by time."""
    return f'{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}'
