"""The events of groups in EventBridge.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-event-reference.html
"""

from datetime import datetime
from typing import Any

from rehearsal.api.events import publish
from rehearsal.api.groups import activities
from rehearsal.api.groups.hooks import LAUNCHING, Wait

SOURCE = 'aws.autoscaling'
LAUNCH, TERMINATION = 'Launch', 'Terminate'


def announce_wait(group: Any, instance: Any, hook: Any, wait: Wait) -> None:
    """Publish that an instance waits for a lifecycle hook."""
    launches = hook.lifecycle_transition == LAUNCHING
    detail = {'LifecycleActionToken': wait.token, 'AutoScalingGroupName': group.name, 'LifecycleHookName': hook.name,
              'EC2InstanceId': instance.id, 'LifecycleTransition': hook.lifecycle_transition, **way(launches)}
    if getattr(hook, 'notification_metadata', None):
        detail['NotificationMetadata'] = hook.notification_metadata
    kind = 'launch' if launches else 'terminate'
    publish(group.account_id, group.region, SOURCE, f'EC2 Instance-{kind} Lifecycle Action', detail, [group.arn])


def announce(group: Any, kind: str, activity: dict[str, Any], instance: Any = None) -> None:
    """Publish the end of a launch or a termination, from its activity."""
    is_successful = activity['StatusCode'] == activities.SUCCESSFUL
    place = {'Availability Zone': instance.placement.zone, 'Subnet ID': instance.subnet_id or ''} if instance else {}
    detail = {
        # AWS's own example of a success has this status.
        'StatusCode': 'InProgress' if is_successful else 'Failed', 'Description': activity['Description'],
        'AutoScalingGroupName': group.name, 'ActivityId': activity['ActivityId'], 'Details': place,
        'RequestId': activity['ActivityId'], 'StatusMessage': activity.get('StatusMessage', ''),
        'EndTime': text(activity['EndTime']), 'EC2InstanceId': instance.id if instance else '',
        'StartTime': text(activity['StartTime']), 'Cause': activity['Cause'], **way(kind == LAUNCH)}
    resources = [group.arn]
    if instance:
        resources.append(f'arn:aws:ec2:{group.region}:{group.account_id}:instance/{instance.id}')
    outcome = 'Successful' if is_successful else 'Unsuccessful'
    publish(group.account_id, group.region, SOURCE, f'EC2 Instance {kind} {outcome}', detail, resources)


def way(launches: bool) -> dict[str, str]:
    """Return where an instance comes from and where it goes."""
    if launches:
        return {'Origin': 'EC2', 'Destination': 'AutoScalingGroup'}
    return {'Origin': 'AutoScalingGroup', 'Destination': 'EC2'}


def text(moment: datetime) -> str:
    """Return a time as an event shows it."""
    return f'{moment:%Y-%m-%dT%H:%M:%SZ}'
