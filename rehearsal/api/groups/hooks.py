"""Lifecycle hooks: the waits of an instance before it goes into service, and before it is terminated.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks-overview.html
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import uuid4

LAUNCHING, TERMINATING = 'autoscaling:EC2_INSTANCE_LAUNCHING', 'autoscaling:EC2_INSTANCE_TERMINATING'
CONTINUE, ABANDON = 'CONTINUE', 'ABANDON'
# Of a heartbeat, in seconds: https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutLifecycleHook.html
SHORTEST, LONGEST, DEFAULT_SECONDS = 30, 7200, 3600
# https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_LifecycleHook.html
LONGEST_OF_ALL, HEARTBEATS = 172800, 100


@dataclass
class Wait:
    """The wait of an instance for one hook; it ends when it is completed, or when no heartbeat comes in time."""

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
        """Prolong the wait by the time of a heartbeat, within the time for all of them."""
        self.ends = min(now + self.heartbeat, self.began + longest_wait(self.heartbeat))

    def outcome(self, now: float) -> str | None:
        """Return the result of the wait; None before its end."""
        return self.result or (self.default if now >= self.ends else None)

    def reason(self) -> str:
        """Return the reason for an abandoned wait, in the words of the group's activities."""
        how = f'Lifecycle Action Completed with {self.result} Result' if self.result else 'Heartbeat Timeout'
        return (f"Instance failed to complete user's Lifecycle Action: Lifecycle Action with token {self.token} was "
                f'abandoned: {how}')


def longest_wait(heartbeat: float) -> float:
    """Return the seconds after which no heartbeat prolongs a wait."""
    return min(LONGEST_OF_ALL, HEARTBEATS * heartbeat)


def outcome_of_all(waits: Sequence[Wait], now: float) -> str | None:
    """Return the result of several waits: ABANDON if one is abandoned, CONTINUE when all are completed, else None."""
    outcomes = [wait.outcome(now) for wait in waits]
    if ABANDON in outcomes:
        return ABANDON
    return None if None in outcomes else CONTINUE
