"""What a group has done and why, as it tells it.

https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_Activity.html
"""

from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

KEPT = 200
LAUNCHING, TERMINATING = 'Launching a new EC2 instance: {}', 'Terminating EC2 instance: {}'
PRE_IN_SERVICE, IN_PROGRESS, MID_ACTION = 'PreInService', 'InProgress', 'MidLifecycleAction'
SUCCESSFUL, FAILED, CANCELLED = 'Successful', 'Failed', 'Cancelled'


def begin(group: Any, description: str, cause: str, status: str) -> dict[str, Any]:
    """Write down that a group begins to do something, and return what it can be amended by."""
    now = datetime.now(timezone.utc)
    activity = {'ActivityId': str(uuid4()), 'AutoScalingGroupName': group.name, 'AutoScalingGroupARN': group.arn,
                'Description': description, 'Cause': f'At {now:%Y-%m-%dT%H:%M:%SZ} {cause}', 'StartTime': now,
                'StatusCode': status, 'Progress': 50, 'Details': '{}'}
    activities_of(group).insert(0, activity)
    del activities_of(group)[KEPT:]
    return activity


def end(activity: dict[str, Any], status: str, message: str | None = None) -> None:
    """Write down how it has ended."""
    activity.update(StatusCode=status, Progress=100, EndTime=datetime.now(timezone.utc))
    if message:
        activity['StatusMessage'] = message


def activities_of(group: Any) -> list[dict[str, Any]]:
    """Return what a group has done, the newest first."""
    found: list[dict[str, Any]] = group.__dict__.setdefault('rehearsal_activities', [])
    return found
