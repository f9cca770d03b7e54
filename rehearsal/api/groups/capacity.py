"""The acts that take a group to its desired capacity: pure decisions.

For the states: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any

from rehearsal.api.groups.acts import Act, IN_SERVICE, Launch, Leave, Member, Replacements, Rules, Version

GROWS = 'an instance was started in response to a difference between desired and actual capacity'
SHRINKS = ('instance {} was selected for termination: a difference between desired and actual capacity, shrinking the '
           'group')


def plan(rules: Rules, members: Sequence[Member], refresh: Replacements | None, now: float) -> list[Act]:
    """Return the launches and ends that a group needs now; no refresh is the special case.

    `now` is a time of AWS's pace. A launch or an end of the refresh takes the place of one for the capacity.
    """
    failing = {member.instance for member in members if rules.replaces and member.counts and member.failure}
    acts: list[Act] = unhealthy(rules, members, now)
    gone = leaving(acts)
    acts += [act for act in refresh.acts if isinstance(act, Launch) or act.instance not in gone] if refresh else []
    gone = leaving(acts)
    counted = [member for member in members if member.counts and member.instance not in gone | failing]
    launches = sum(isinstance(act, Launch) for act in acts)
    version = refresh.version if refresh else rules.version
    acts += [Launch(version, GROWS)] * max(0, rules.desired - len(counted) - launches)
    most = max(rules.desired, refresh.most) if refresh else rules.desired
    acts += [Leave(instance, SHRINKS.format(instance)) for instance in
             superfluous(counted, most - launches, version, rules.termination_policies)]
    return [act for act in acts if (rules.launches if isinstance(act, Launch) else rules.terminates)]


def leaving(acts: Iterable[Act]) -> set[str]:
    """Return the instances that acts end."""
    return {act.instance for act in acts if isinstance(act, Leave)}


def unhealthy(rules: Rules, members: Iterable[Member], now: float) -> list[Act]:
    """Return the ends of the instances that fail a health check.

    An instance maintenance policy keeps running ones, the oldest first, until enough replacements are healthy and
    warmed up; one that does not run is replaced at once:
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-maintenance-policy-overview-and-considerations.html
    """
    if not rules.replaces:
        return []
    counted = sorted((member for member in members if member.counts), key=lambda member: member.launched)
    healthy = sum(member.is_healthy(now, rules.warmup) for member in counted)
    least = ceil(rules.desired * (rules.min_healthy or 0) / 100)
    kept = [member for member in counted if member.failure and member.runs][:max(0, least - healthy)]
    return [Leave(member.instance, member.failure) for member in counted if member.failure and member not in kept]


def superfluous(members: Iterable[Member], most: int, version: Version, policies: Sequence[str]) -> list[str]:
    """Return the instances beyond a number: of the fullest zone, then in the order of the termination policies.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-termination-policies.html
    """
    counted = [member for member in members if member.counts]
    leaving: list[str] = []
    while len(counted) > most:
        zones = Counter(member.zone for member in counted)
        candidates = [member for member in counted if not member.is_protected]
        if not candidates:
            break
        first = min(candidates, key=lambda member: (-zones[member.zone], member.state == IN_SERVICE,
                                                    *ranks(member, version, policies), member.instance))
        counted.remove(first)
        leaving.append(first.instance)
    return leaving


def ranks(member: Member, version: Version, policies: Sequence[str]) -> list[Any]:
    """Return the rank of an instance by each termination policy; the smallest leaves first."""
    age = member.launched.timestamp()
    template = member.version.template == version.template, int(member.version.number or 0)
    by_policy: dict[str, Any] = {'OldestInstance': age, 'NewestInstance': -age, 'OldestLaunchTemplate': template,
                                 'Default': (template, age)}
    return [by_policy[policy] for policy in policies if policy in by_policy]


def emptiest(zones: Sequence[str], members: Iterable[Member]) -> int:
    """Return the index of the zone with the fewest of a group's instances; the first of several.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/auto-scaling-benefits.html#AutoScalingBehavior.InstanceUsage
    """
    taken = Counter(member.zone for member in members if member.counts)
    return min(range(len(zones)), key=lambda index: taken[zones[index]])
