"""The lifecycle hook that keeps this machine's group waiting until the machine is ready, or gives it up."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import sys
import threading

from instance.aws import Aws
from instance.errors import StepFailed
from instance.settings import Settings

# The hook's own time-out is five minutes at least, so several heartbeats may be lost.
HEARTBEAT_SECONDS = 60
GONE = 'No active Lifecycle Action'


class Hook:
    def __init__(self, aws: Aws, settings: Settings, instance: str) -> None:
        """Speak for an instance to the hook that the user data names."""
        self._aws = aws
        self._settings = settings
        self._instance = instance
        self._group = settings.auto_scaling_group

    @property
    def group(self) -> str:
        """The group of this instance, which the group itself knows if nobody has told."""
        if not self._group:
            member = self._aws.member(self._instance)
            if not member:
                raise StepFailed(f'LIFECYCLE_HOOK={self._settings.lifecycle_hook}, but {self._instance} is in no Auto '
                                 'Scaling group; leave LIFECYCLE_HOOK empty for a machine without one')
            self._group = member.group
        return self._group

    @property
    def state(self) -> str:
        """What the group says of this instance now: Pending, Pending:Wait, InService and so on."""
        member = self._aws.member(self._instance)
        return member.state if member else 'not in a group'

    def complete(self, result: str) -> bool:
        """Tell the hook CONTINUE or ABANDON; return whether it was waiting for that."""
        try:
            self._aws.complete(self._settings.lifecycle_hook, self.group, self._instance, result)
        except StepFailed as error:
            if GONE in error.reason:
                return False
            raise
        return True

    def heartbeat(self) -> None:
        """Make the hook wait on."""
        self._aws.heartbeat(self._settings.lifecycle_hook, self.group, self._instance)


@contextmanager
def kept_waiting(beat: Callable[[], None] | None) -> Iterator[None]:
    """Send a heartbeat again and again meanwhile; one that fails is told and changes nothing."""
    if not beat:
        yield
        return

    over = threading.Event()
    thread = threading.Thread(target=_beat_until, args=(over, beat), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _beat_until(over: threading.Event, beat: Callable[[], None]) -> None:
    while not over.wait(HEARTBEAT_SECONDS):
        try:
            beat()
        except StepFailed as error:
            print(f'heartbeat: {error}', file=sys.stderr, flush=True)
