"""Scheduled actions of groups, of which moto checks nothing.

https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutScheduledUpdateGroupAction.html
"""

from typing import Any
from zoneinfo import ZoneInfoNotFoundError

from cronsim import CronSimError
from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import AutoScalingBackend

from rehearsal.api.group_members import named
from rehearsal.api.groups.scaling import schedule_of, SIZES
from rehearsal.api.patching import Extension


class ScheduledActions(Extension, extends=AutoScalingBackend):
    """New scheduled actions."""

    def put_scheduled_update_group_action(self, name: str, scheduled_action_name: str, **options: Any) -> Any:
        """Create an action, or change one; an action that changes nothing, or never runs, is refused."""
        named(self, name)
        former = self.scheduled_actions.get(scheduled_action_name)
        action = self.moto_put_scheduled_update_group_action(
            name=name, scheduled_action_name=scheduled_action_name, **options)
        try:
            check(action, self.rehearsal.clocks.calendar())
        except ValidationError:
            del self.scheduled_actions[scheduled_action_name]
            if former:
                self.scheduled_actions[scheduled_action_name] = former
            raise
        return action


def check(action: Any, now: Any) -> None:
    """Refuse an action that changes nothing, or never runs."""
    if all(getattr(action, size) is None for size in SIZES):
        raise ValidationError('At least one of MinSize, MaxSize and DesiredCapacity must be specified.')
    try:
        following = schedule_of(action).next_after(now)
    except CronSimError as error:
        raise ValidationError(f'Given recurrence string: {action.recurrence} is invalid: {error}') from error
    except ZoneInfoNotFoundError as error:
        raise ValidationError(f'Given time zone: {action.time_zone} is invalid.') from error
    if following is None:
        raise ValidationError('Given start time is in the past, or no run is before the end time.')
