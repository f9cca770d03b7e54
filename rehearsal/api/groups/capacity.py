"""How many instances a group lacks, and which of a surplus it terminates: pure decisions.

For the states: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html, for the order:
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-termination-policies.html
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

# Instances in standby do not count, nor do those that are leaving.
COUNTED = ('Pending', 'Pending:Wait', 'Pending:Proceed', 'InService')


@dataclass(frozen=True)
class Member:
    """An instance of a group, with the attributes that decide about it."""

    instance: str
    state: str
    zone: str
    template: str
    launched: datetime
    is_protected: bool = False

    @property
    def counts(self) -> bool:
        """Whether it is part of the group's capacity."""
        return self.state in COUNTED


def missing(members: Sequence[Member], desired: int) -> int:
    """Return the number of instances to launch."""
    return max(0, desired - sum(member.counts for member in members))


def superfluous(members: Sequence[Member], desired: int, template: str) -> list[str]:
    """Return the instances to terminate: of the fullest zone, not in service yet, of an old template, the oldest."""
    counted = [member for member in members if member.counts]
    leaving: list[str] = []
    while len(counted) > desired:
        zones = Counter(member.zone for member in counted)
        candidates = [member for member in counted if not member.is_protected]
        if not candidates:
            break
        first = min(candidates, key=lambda member: (-zones[member.zone], member.state == 'InService',
                                                    member.template == template, member.launched, member.instance))
        counted.remove(first)
        leaving.append(first.instance)
    return leaving


def emptiest(zones: Sequence[str], members: Sequence[Member]) -> int:
    """Return the index of the zone with the fewest of a group's instances.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/auto-scaling-benefits.html#AutoScalingBehavior.InstanceUsage
    """
    taken = Counter(member.zone for member in members if member.counts)
    return min(range(len(zones)), key=lambda index: taken[zones[index]])
