"""The API's actions on instance refreshes, and the checks of their requests.

https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_StartInstanceRefresh.html,
https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RefreshPreferences.html and
https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-rollback.html
"""

from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult

from rehearsal.api.group_actions import group_of
from rehearsal.api.groups.acts import Version
from rehearsal.api.groups.records import version_of, warmup_of
from rehearsal.api.groups.refresh import (
    BAKING, cancel, CANCELLING, HOUR, IGNORE, IN_PROGRESS, PENDING, Preferences, REFRESH, Refresh, roll_back,
    TERMINATE, WAIT)
from rehearsal.api.groups.refreshes import active_record, change, Record, records_of
from rehearsal.api.launch_templates import ALIAS
from rehearsal.api.patching import Extension
from rehearsal.errors import NotModelled

LONGEST_PAUSE, MOST_ALARMS, MOST_RECORDS = 172_800, 10, 100
# The values that a preference may have.
CHOICES = {'ScaleInProtectedInstances': (REFRESH, IGNORE, WAIT), 'StandbyInstances': (TERMINATE, IGNORE, WAIT)}
RANGES = {'MinHealthyPercentage': (0, 100), 'MaxHealthyPercentage': (100, 200), 'InstanceWarmup': (0, None),
          'CheckpointDelay': (0, LONGEST_PAUSE), 'BakeTime': (0, LONGEST_PAUSE)}


class RefreshActions(Extension, extends=AutoScalingResponse):
    """Actions on instance refreshes."""

    def start_instance_refresh(self) -> ActionResult:
        """Start a refresh, of which a group has one at a time."""
        group = group_of(self)
        if active_record(group):
            raise AutoscalingClientError('InstanceRefreshInProgress', 'An Instance Refresh is already in progress and '
                                                                      'blocks the execution of this Instance Refresh.')
        desired, given = self._get_param('DesiredConfiguration') or None, self._get_param('Preferences', {})
        if self._get_param('Strategy', 'Rolling') != 'Rolling' or (desired and 'LaunchTemplate' not in desired):
            raise NotModelled('another strategy than Rolling, or a mixed instances policy')
        shown = with_defaults(given, group)
        check(shown)
        target = target_of(self, group, desired)
        if shown['AutoRollback'] and not is_reversible(self, group, desired):
            raise ValidationError('AutoRollback needs a DesiredConfiguration; it and the AutoScalingGroup must name a '
                                  'numbered version of a launch template, with the id of an AMI.')
        refresh = Refresh(target, version_of(group), preferences_of(shown))
        record = Record(refresh, shown, desired)
        records_of(group).insert(0, record)
        return ActionResult({'InstanceRefreshId': record.identity})

    def describe_instance_refreshes(self) -> ActionResult:
        """List the refreshes of a group, the newest first."""
        wanted = self._get_param('InstanceRefreshIds', [])
        records = [record for record in records_of(group_of(self)) if not wanted or record.identity in wanted]
        start = int(self._get_param('NextToken') or 0)
        end = start + min(MOST_RECORDS, self._get_int_param('MaxRecords', 50))
        page = [shown_record(self._get_param('AutoScalingGroupName'), record) for record in records[start:end]]
        return ActionResult({'InstanceRefreshes': page, **({'NextToken': str(end)} if end < len(records) else {})})

    def cancel_instance_refresh(self) -> ActionResult:
        """Stop the replacements of a refresh or of a rollback, and leave those that are done."""
        group, record = running(self)
        if record.refresh.status != CANCELLING:
            change(group, record, cancel(record.refresh, self._get_bool_param('WaitForTransitioningInstances', True)))
        return ActionResult({'InstanceRefreshId': record.identity})

    def rollback_instance_refresh(self) -> ActionResult:
        """Take a group back to its configuration from before its refresh."""
        group, record = running(self)
        is_forward = record.refresh.status in (PENDING, IN_PROGRESS, BAKING)
        if not is_forward or not is_reversible(self, group, record.desired):
            raise AutoscalingClientError('IrreversibleInstanceRefresh', 'The instance refresh cannot be rolled back.')
        reason = 'The rollback was started by a user.'
        change(group, record, roll_back(record.refresh, reason, self.rehearsal.clocks.paced()))
        return ActionResult({'InstanceRefreshId': record.identity})


def running(response: Any) -> tuple[Any, Record]:
    """Return the group that a request names, and its running refresh."""
    group = group_of(response)
    record = active_record(group)
    if not record:
        raise AutoscalingClientError('ActiveInstanceRefreshNotFound', 'No in progress or pending Instance Refresh '
                                                                      f'found for Auto Scaling group {group.name}')
    return group, record


def with_defaults(given: dict[str, Any], group: Any) -> dict[str, Any]:
    """Return preferences with AWS's defaults, of which some are the group's.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/understand-instance-refresh-default-values.html
    """
    policy = group.__dict__.get('instance_maintenance_policy') or {}
    policy = {name: value for name, value in policy.items() if value != -1}
    warmup = warmup_of(group) if group.__dict__.get('default_instance_warmup') is not None else (
        group.health_check_grace_period or 0)
    defaults = {'MinHealthyPercentage': 90, **policy, 'InstanceWarmup': warmup, 'SkipMatching': False,
                'AutoRollback': False, 'ScaleInProtectedInstances': WAIT, 'StandbyInstances': WAIT}
    if given.get('CheckpointPercentages'):
        defaults['CheckpointDelay'] = int(HOUR)
    # A maximum needs a minimum in the same request.
    if 'MaxHealthyPercentage' in given and 'MinHealthyPercentage' not in given:
        raise ValidationError('You must specify MinHealthyPercentage if you specify MaxHealthyPercentage.')
    if 'CheckpointDelay' in given and not given.get('CheckpointPercentages'):
        raise ValidationError('You must specify CheckpointPercentages if you specify CheckpointDelay.')
    return {**defaults, **given}


def check(preferences: dict[str, Any]) -> None:
    """Refuse preferences that AWS refuses."""
    for name, (least, most) in RANGES.items():
        value = preferences.get(name)
        if value is not None and (int(value) < least or most is not None and int(value) > most):
            raise ValidationError(f'{name} {value}: must be between {least} and {most}')
    for name, choices in CHOICES.items():
        if preferences[name] not in choices:
            raise ValidationError(f'{name} {preferences[name]}: must be one of {", ".join(choices)}')
    most = preferences.get('MaxHealthyPercentage')
    if most is not None and int(most) - int(preferences['MinHealthyPercentage']) > 100:
        raise ValidationError('The difference between MinHealthyPercentage and MaxHealthyPercentage cannot be greater '
                              'than 100.')
    points = [int(point) for point in preferences.get('CheckpointPercentages', [])]
    if points != sorted(set(points)) or any(not 1 <= point <= 100 for point in points):
        raise ValidationError('CheckpointPercentages must be unique, in ascending order, and between 1 and 100.')
    if len(alarms_of(preferences)) > MOST_ALARMS:
        raise ValidationError(f'AlarmSpecification: at most {MOST_ALARMS} alarms')


def alarms_of(preferences: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the alarms that end a refresh."""
    return tuple(preferences.get('AlarmSpecification', {}).get('Alarms', []))


def preferences_of(shown: dict[str, Any]) -> Preferences:
    """Return preferences for the decisions."""
    most = shown.get('MaxHealthyPercentage')
    return Preferences(
        int(shown['MinHealthyPercentage']), None if most is None else int(most), float(shown['InstanceWarmup']),
        tuple(int(point) for point in shown.get('CheckpointPercentages', [])),
        float(shown.get('CheckpointDelay', HOUR)), float(shown.get('BakeTime', 0)), bool(shown['SkipMatching']),
        bool(shown['AutoRollback']), shown['ScaleInProtectedInstances'], shown['StandbyInstances'], alarms_of(shown))


def target_of(response: Any, group: Any, desired: dict[str, Any] | None) -> Version:
    """Return the version that a refresh gives to the instances."""
    if not desired:
        return version_of(group)
    template = template_of(response, desired['LaunchTemplate'])
    number = desired['LaunchTemplate'].get('Version') or '$Default'
    try:
        return Version(template.id, str(template.get_version(number).number))
    except Exception as error:
        raise ValidationError(f'You must use a valid fully-formed launch template. Could not find launch template '
                              f'version {number}') from error


def template_of(response: Any, named: dict[str, Any]) -> Any:
    """Return the launch template that a desired configuration names."""
    backend = response.autoscaling_backend.ec2_backend
    key, name = named.get('LaunchTemplateId'), named.get('LaunchTemplateName')
    if bool(key) == bool(name):
        raise ValidationError('Valid requests must contain either launchTemplateId or LaunchTemplateName')
    try:
        return backend.get_launch_template(key) if key else backend.get_launch_template_by_name(name)
    except Exception as error:
        raise ValidationError('You must use a valid fully-formed launch template. The specified launch template, '
                              f'with template {key or name}, does not exist.') from error


def is_reversible(response: Any, group: Any, desired: dict[str, Any] | None) -> bool:
    """Return whether a refresh can be rolled back: both configurations name a number and the id of an AMI."""
    if not desired or not group.ec2_launch_template:
        return False
    sides = [(template_of(response, desired['LaunchTemplate']), desired['LaunchTemplate'].get('Version')),
             (group.ec2_launch_template, group.provided_launch_template_version)]
    return all(str(number or '').isdigit() and has_ami(template.get_version(number)) for template, number in sides)


def has_ami(version: Any) -> bool:
    """Return whether a version of a launch template names its AMI by its id."""
    return not str(version.data.get('ImageId', '')).startswith(ALIAS)


def shown_record(group: str, record: Record) -> dict[str, Any]:
    """Return a refresh as the API shows it."""
    refresh, rollback = record.refresh, record.refresh.rollback
    shown: dict[str, Any] = {
        'InstanceRefreshId': record.identity, 'AutoScalingGroupName': group, 'Status': refresh.status,
        'StartTime': record.started, 'PercentageComplete': refresh.percentage, 'InstancesToUpdate': refresh.remaining,
        'Preferences': record.preferences, 'Strategy': 'Rolling'}
    if refresh.reason:
        shown['StatusReason'] = refresh.reason
    if record.ended:
        shown['EndTime'] = record.ended
    if record.desired:
        shown['DesiredConfiguration'] = record.desired
    if rollback:
        shown['RollbackDetails'] = {
            'RollbackReason': rollback.reason, 'RollbackStartTime': record.rolled_back,
            'PercentageCompleteOnRollback': rollback.percentage, 'InstancesToUpdateOnRollback': rollback.remaining}
    return shown
