"""The lifecycle hook that keeps this machine's group waiting until the machine is ready, or gives it up."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import sys
import threading

from instance.aws import Aws, NoLifecycleAction
from instance.errors import StepFailed
from instance.machine import Machine
from instance.user_data import UserData

# The hook's own time-out is a minute at least, so two heartbeats may be lost.
HEARTBEAT_SECONDS = 20
# Every state is one of these, or one that the group has set the machine aside in: on standby, detached, in a warm
# pool. Then the hook has been answered before, and no load balancer knows the machine.
WAITING = ('Pending', 'Pending:Wait', 'Warmed:Pending', 'Warmed:Pending:Wait')
SERVING = ('Pending:Proceed', 'InService')
LEAVING = ('Terminat', 'Warmed:Terminat', 'Quarantined')
NO_GROUP = 'in no group'


class Hook:
    def __init__(self, aws: Aws, settings: UserData, instance: str) -> None:
        """Speak for an instance to the hook that the user data names."""
        self._aws = aws
        self._settings = settings
        self.instance = instance
        self._group = settings.auto_scaling_group

    def find_group(self) -> str:
        """Return the group of this instance, from the user data or else from AWS."""
        if not self._group:
            member = self._aws.member(self.instance)
            if not member:
                raise StepFailed(f'LIFECYCLE_HOOK={self._settings.lifecycle_hook}, but {self.instance} is in no Auto '
                                 'Scaling group; leave LIFECYCLE_HOOK empty for a machine without one')
            self._group = member.group
        return self._group

    def fetch_state(self) -> str:
        """Return the lifecycle state of this instance: Pending, Pending:Wait, InService and so on."""
        member = self._aws.member(self.instance)
        if member:
            self._group = member.group
        return member.state if member else NO_GROUP

    def complete(self, result: str) -> bool:
        """Tell the hook CONTINUE or ABANDON; return whether it was waiting for that."""
        try:
            self._aws.complete(self._settings.lifecycle_hook, self.find_group(), self.instance, result)
        except NoLifecycleAction:
            return False
        return True

    def heartbeat(self) -> None:
        """Make the hook wait on, if it waits."""
        try:
            self._aws.heartbeat(self._settings.lifecycle_hook, self.find_group(), self.instance)
        except NoLifecycleAction:
            pass


def is_leaving(state: str) -> bool:
    """Return whether a group gives up its instance in this state."""
    return state.startswith(LEAVING)


def is_aside(state: str) -> bool:
    """Return whether a group has set its instance aside: it neither waits for it nor sends it visitors."""
    return state not in (*WAITING, *SERVING) and not is_leaving(state)


def heartbeat_of(machine: Machine, instance: str) -> Callable[[], None] | None:
    """Return what keeps this machine's hook waiting, None where it has none; it can call AWS with the first beat."""
    if not machine.user_data.lifecycle_hook:
        return None
    hook: list[Hook] = []

    def beat() -> None:
        if not hook:
            hook.append(Hook(Aws(machine.user_data), machine.user_data, instance))
        hook[0].heartbeat()

    return beat


@contextmanager
def kept_waiting(beat: Callable[[], None] | None) -> Iterator[None]:
    """Send a heartbeat at once and again and again meanwhile; one that fails is told and changes nothing."""
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
    while not over.is_set():
        try:
            beat()
        except StepFailed as error:
            print(f'heartbeat: {error}', file=sys.stderr, flush=True)
        over.wait(HEARTBEAT_SECONDS)
