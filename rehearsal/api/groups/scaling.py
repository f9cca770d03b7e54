"""Scaling of groups: by alarms of target tracking policies, and by scheduled actions.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html and
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-scheduled-scaling.html
"""

from datetime import datetime, timezone
import logging
from typing import Any

from dateutil.parser import isoparse
from moto.autoscaling.models import autoscaling_backends
from moto.cloudwatch.models import cloudwatch_backends

from rehearsal.api.alarms.definitions import definition_of
from rehearsal.api.alarms.evaluation import ALARM, value_of
from rehearsal.api.alarms.evaluator import samples_of
from rehearsal.api.groups.records import as_member, is_suspended
from rehearsal.api.groups.schedule import Schedule
from rehearsal.api.groups.tracking import Capacity, capacity_for, Tracking
from rehearsal.clocks import Clocks
from rehearsal.errors import NotModelled

logger = logging.getLogger(__name__)

TRACKS = 'TargetTrackingScaling'
SIZES = ('min_size', 'max_size', 'desired_capacity')


class Scaling:
    """The changes of the desired capacity of groups that no call asks for."""

    def __init__(self, clocks: Clocks) -> None:
        """Scale by these clocks."""
        self._clocks = clocks

    def perform(self, arn: str, alarm: Any) -> None:
        """Execute the policy of an alarm."""
        account, region = alarm.alarm_arn.split(':')[4], alarm.region_name
        backend = autoscaling_backends[account][region]
        policy: Any = next((each for each in backend.policies.values() if each.arn == arn), None)
        group = policy and backend.autoscaling_groups.get(policy.auto_scaling_group_name)
        if not policy or not group or not policy.enabled or is_suspended(group, 'AlarmNotification'):
            return
        if policy.policy_type != TRACKS:
            raise NotModelled(f'a scaling policy of the type {policy.policy_type}')
        policies = [policy]
        if is_low(alarm):
            own = [each for each in backend.policies.values() if each.auto_scaling_group_name == group.name]
            policies = [each for each in own if each.policy_type == TRACKS and tracking_of(each).scales_in]
        wanted = [self._wanted(group, each, low=is_low(alarm)) for each in policies]
        if wanted and None not in wanted:
            self._scale(group, max(capacity for capacity in wanted if capacity is not None), alarm.name)

    def keep_schedule(self, group: Any) -> None:
        """Execute the scheduled actions of a group that are due since the last look at it."""
        now = self._clocks.calendar()
        since = group.__dict__.setdefault('rehearsal_scheduled_until', now)
        group.rehearsal_scheduled_until = now
        actions = group.autoscaling_backend.scheduled_actions
        for name, action in list(actions.items()):
            schedule = schedule_of(action)
            if action.auto_scaling_group_name != group.name or not schedule.is_due(since, now):
                continue
            if not is_suspended(group, 'ScheduledActions'):
                change(group, action)
            if schedule.next_after(now) is None:
                del actions[name]

    def _wanted(self, group: Any, policy: Any, low: bool) -> int | None:
        alarms = cloudwatch_backends[group.account_id][group.region].alarms
        alarm = alarms.get(policy.alarms[-1 if low else 0]['AlarmName'])
        value = self._value(alarm) if alarm and alarm.state_value == ALARM else None
        if value is None:
            return None
        return capacity_for(tracking_of(policy), value, self._capacity(group, policy))

    def _value(self, alarm: Any) -> float | None:
        backend = cloudwatch_backends[alarm.alarm_arn.split(':')[4]][alarm.region_name]
        definition, samples = definition_of(alarm), samples_of(backend, self._clocks.pace)
        end = self._clocks.calendar().timestamp() * self._clocks.pace // definition.period * definition.period
        for place in range(1, definition.periods + 1):
            value = value_of(definition, samples, end - place * definition.period)
            if value is not None:
                return value
        return None

    def _capacity(self, group: Any, policy: Any) -> Capacity:
        members = [as_member(group, member, self._clocks.real()) for member in group.instance_states]
        warmup = warmup_of(group, policy)
        warm = sum(member.is_healthy(self._clocks.paced(), warmup) for member in members)
        grows = any(member.counts and not member.failure and not member.is_healthy(self._clocks.paced(), warmup)
                    for member in members)
        return Capacity(group.desired_capacity, group.min_size, group.max_size, warm, grows)

    def _scale(self, group: Any, capacity: int, alarm: str) -> None:
        if capacity != group.desired_capacity:
            logger.info('group %s: alarm %s changes the desired capacity from %s to %s', group.name, alarm,
                        group.desired_capacity, capacity)
            group.set_desired_capacity(capacity)


def is_low(alarm: Any) -> bool:
    """Return whether an alarm of a policy is the one for scale-in."""
    return '-AlarmLow-' in alarm.name


def tracking_of(policy: Any) -> Tracking:
    """Return the target of a policy."""
    configuration = policy.target_tracking_configuration.__dict__
    return Tracking(float(configuration['TargetValue']), not configuration.get('DisableScaleIn'))


def warmup_of(group: Any, policy: Any) -> float:
    """Return the warm-up of a policy, by default the group's, by default its cooldown.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutScalingPolicy.html
    """
    own, default = policy.estimated_instance_warmup, group.__dict__.get('default_instance_warmup')
    if own is not None:
        return float(own)
    return float(default if default is not None and default >= 0 else group.default_cooldown)


def schedule_of(action: Any) -> Schedule:
    """Return the times of a scheduled action."""
    return Schedule(moment(action.start_time), moment(action.end_time), action.recurrence, action.time_zone or 'UTC')


def moment(value: Any) -> datetime | None:
    """Return a time of a request with its time zone."""
    if not value:
        return None
    parsed: datetime = isoparse(value) if isinstance(value, str) else value
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def change(group: Any, action: Any) -> None:
    """Set the sizes that an action names; the desired capacity stays within them."""
    for attribute in SIZES:
        value = getattr(action, attribute)
        if value is not None:
            setattr(group, attribute, value)
    group.set_desired_capacity(max(group.min_size, min(group.max_size, group.desired_capacity)))
