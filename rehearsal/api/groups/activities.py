"""The activities of a group: its launches and terminations, each with its cause.

https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_Activity.html
"""

from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

KEPT = 200
LAUNCHING, TERMINATING = 'Launching a new EC2 instance: {}', 'Terminating EC2 instance: {}'
STANDBY_BEGINS, STANDBY_ENDS = 'Moving EC2 instance to Standby: {}', 'Moving EC2 instance out of Standby: {}'
DETACHING, ATTACHING = 'Detaching EC2 instance: {}', 'Attaching an existing EC2 instance: {}'
PRE_IN_SERVICE, IN_PROGRESS, MID_ACTION = 'PreInService', 'InProgress', 'MidLifecycleAction'
DRAINING = 'WaitingForELBConnectionDraining'
SUCCESSFUL, FAILED, CANCELLED = 'Successful', 'Failed', 'Cancelled'


def begin(group: Any, description: str, cause: str, status: str) -> dict[str, Any]:
    """Record a new activity of a group and return it, so that `end()` can close it."""
    now = datetime.now(timezone.utc)
    activity = {'ActivityId': str(uuid4()), 'AutoScalingGroupName': group.name, 'AutoScalingGroupARN': group.arn,
                'Description': description, 'Cause': f'At {now:%Y-%m-%dT%H:%M:%SZ} {cause}', 'StartTime': now,
                'StatusCode': status, 'Progress': 50, 'Details': '{}'}
    activities_of(group).insert(0, activity)
    del activities_of(group)[KEPT:]
    return activity


def end(activity: dict[str, Any], status: str, message: str | None = None) -> None:
    """Record the end of an activity."""
    activity.update(StatusCode=status, Progress=100, EndTime=datetime.now(timezone.utc))
    if message:
        activity['StatusMessage'] = message


def activities_of(group: Any) -> list[dict[str, Any]]:
    """Return the activities of a group, the newest first."""
    activities: list[dict[str, Any]] = group.__dict__.setdefault('rehearsal_activities', [])
    return activities
