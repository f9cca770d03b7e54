"""The lifecycle hook that holds this instance in Pending:Wait until the step ready or failed completes it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import sys
import threading

from instance.aws import Aws, NoLifecycleAction
from instance.errors import StepFailed
from instance.machine import Machine
from instance.user_data import UserData

# The time-out of a hook is 60 s at least, so two heartbeats may be lost.
HEARTBEAT_SECONDS = 20
# Any other state means that the group has set the instance aside: on standby, detached, or in a warm pool. Its hook
# was completed before, and no load balancer has it as a target.
WAITING = ('Pending', 'Pending:Wait', 'Warmed:Pending', 'Warmed:Pending:Wait')
SERVING = ('Pending:Proceed', 'InService')
LEAVING = ('Terminat', 'Warmed:Terminat', 'Quarantined')
NO_GROUP = 'in no group'


class Hook:
    """The launch hook of the user data, for one instance."""

    def __init__(self, aws: Aws, user_data: UserData, instance: str) -> None:
        """Keep the name of the hook, the instance, and the group if the user data names it."""
        self._aws = aws
        self._name = user_data.lifecycle_hook
        self.instance = instance
        self._group = user_data.auto_scaling_group

    def find_group(self) -> str:
        """Return the group of this instance, from the user data or else from AWS."""
        if not self._group:
            member = self._aws.member(self.instance)
            if not member:
                raise StepFailed(f'LIFECYCLE_HOOK={self._name}, but {self.instance} is in no Auto Scaling group; '
                                 'leave LIFECYCLE_HOOK empty for an instance without one')
            self._group = member.group
        return self._group

    def fetch_state(self) -> str:
        """Return the lifecycle state of this instance: Pending, Pending:Wait, InService and so on."""
        member = self._aws.member(self.instance)
        if member:
            self._group = member.group
        return member.state if member else NO_GROUP

    def complete(self, result: str) -> bool:
        """Complete the hook with CONTINUE or ABANDON; return whether it was waiting."""
        try:
            self._aws.complete(self._name, self.find_group(), self.instance, result)
        except NoLifecycleAction:
            return False
        return True

    def heartbeat(self) -> None:
        """Restart the time-out of the hook if it is waiting."""
        try:
            self._aws.heartbeat(self._name, self.find_group(), self.instance)
        except NoLifecycleAction:
            pass


def is_leaving(state: str) -> bool:
    """Return whether the group terminates or quarantines its instance in this state."""
    return state.startswith(LEAVING)


def is_aside(state: str) -> bool:
    """Return whether the group has set its instance aside: it neither waits for it nor sends it visitors."""
    return state not in (*WAITING, *SERVING) and not is_leaving(state)


def heartbeat_of(machine: Machine, instance: str) -> Callable[[], None] | None:
    """Return the function that sends a heartbeat, None without a hook; AWS is not called before the first one."""
    if not machine.user_data.lifecycle_hook:
        return None
    hook: list[Hook] = []

    def beat() -> None:
        if not hook:
            hook.append(Hook(Aws(machine.user_data), machine.user_data, instance))
        hook[0].heartbeat()

    return beat


@contextmanager
def heartbeats(beat: Callable[[], None] | None) -> Iterator[None]:
    """Send heartbeats, the first one at once, while the block runs; a failure is printed and has no other effect."""
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
