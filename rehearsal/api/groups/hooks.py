"""Lifecycle hooks: what an instance of a group waits for before it serves, and before it is terminated.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks-overview.html
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

LAUNCHING, TERMINATING = 'autoscaling:EC2_INSTANCE_LAUNCHING', 'autoscaling:EC2_INSTANCE_TERMINATING'
CONTINUE, ABANDON = 'CONTINUE', 'ABANDON'
# https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutLifecycleHook.html
SHORTEST, LONGEST, USUAL = 30, 7200, 3600
# https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_LifecycleHook.html
LONGEST_OF_ALL, HEARTBEATS = 172800, 100


@dataclass
class Wait:
    """An action that an instance waits for, until somebody completes it or nobody has sent a heartbeat in time."""

    hook: str
    default: str
    heartbeat: float
    began: float
    result: str | None = None
    token: str = field(default_factory=lambda: str(uuid4()))
    ends: float = 0.0

    def __post_init__(self) -> None:
        """Begin with a heartbeat."""
        self.beat(self.began)

    def beat(self, now: float) -> None:
        """Wait for another heartbeat's time, within the time for all of them."""
        self.ends = min(now + self.heartbeat, self.began + longest_wait(self.heartbeat))

    def outcome(self, now: float) -> str | None:
        """Return how it has ended, if it has."""
        return self.result or (self.default if now >= self.ends else None)

    def reason(self) -> str:
        """Return how it has ended as the group's activities tell it."""
        how = f'Lifecycle Action Completed with {self.result} Result' if self.result else 'Heartbeat Timeout'
        return (f"Instance failed to complete user's Lifecycle Action: Lifecycle Action with token {self.token} was "
                f'abandoned: {how}')


def longest_wait(heartbeat: float) -> float:
    """Return the seconds after which no heartbeat prolongs a wait any more."""
    return min(LONGEST_OF_ALL, HEARTBEATS * heartbeat)


def outcome_of_all(waits: Sequence[Wait], now: float) -> str | None:
    """Return how several waits have ended: one that is abandoned ends them all, else all have to be completed."""
    outcomes = [wait.outcome(now) for wait in waits]
    if ABANDON in outcomes:
        return ABANDON
    return None if None in outcomes else CONTINUE
