"""How many instances a group lacks, or which it has too many: pure decisions.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html tells the states,
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-termination-policies.html who goes first.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

# Standby instances do not count, nor do those that are on their way out.
COUNTED = ('Pending', 'Pending:Wait', 'Pending:Proceed', 'InService')


@dataclass(frozen=True)
class Member:
    """What decides about an instance of a group."""

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
    """Return how many instances have to be launched."""
    return max(0, desired - sum(member.counts for member in members))


def superfluous(members: Sequence[Member], desired: int, template: str) -> list[str]:
    """Return the instances to be terminated: from the fullest zone, not in service yet, of old templates, oldest."""
    counted = [member for member in members if member.counts]
    chosen: list[str] = []
    while len(counted) > desired:
        zones = Counter(member.zone for member in counted)
        candidates = [member for member in counted if not member.is_protected]
        if not candidates:
            break
        goes = min(candidates, key=lambda member: (-zones[member.zone], member.state == 'InService',
                                                   member.template == template, member.launched, member.instance))
        counted.remove(goes)
        chosen.append(goes.instance)
    return chosen


def emptiest(zones: Sequence[str], members: Sequence[Member]) -> int:
    """Return the place of the zone, of those that a group has subnets in, with the fewest of its instances.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/auto-scaling-benefits.html#AutoScalingBehavior.InstanceUsage
    """
    taken = Counter(member.zone for member in members if member.counts)
    return min(range(len(zones)), key=lambda place: taken[zones[place]])
