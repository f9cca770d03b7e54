"""The instance refreshes of a group: their records, and the acts of the one that runs on the group."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

from moto.cloudwatch.models import cloudwatch_backends

from rehearsal.api.events import publish
from rehearsal.api.groups.activities import activities_of, FAILED
from rehearsal.api.groups.acts import Member, Replacements, Version
from rehearsal.api.groups.announcements import SOURCE
from rehearsal.api.groups.records import is_suspended
from rehearsal.api.groups.refresh import (
    active, decide, events, most_of, note_failed_launch, Refresh, ROLLING_BACK, SUCCESSFUL)

PROCESS = 'InstanceRefresh'
LAUNCHING = 'Launching'


def now() -> datetime:
    """Return the calendar time."""
    return datetime.now(timezone.utc)


@dataclass
class Record:
    """A refresh as the API shows it."""

    refresh: Refresh
    # The preferences and the desired configuration of the request.
    preferences: dict[str, Any]
    desired: dict[str, Any] | None
    identity: str = field(default_factory=lambda: str(uuid4()))
    started: datetime = field(default_factory=now)
    ended: datetime | None = None
    rolled_back: datetime | None = None
    # The failed launches that the refresh knows.
    failed_launches: frozenset[str] = frozenset()


def records_of(group: Any) -> list[Record]:
    """Return the refreshes of a group, the newest first."""
    records: list[Record] = group.__dict__.setdefault('rehearsal_refreshes', [])
    return records


def active_record(group: Any) -> Record | None:
    """Return the refresh that runs on a group; None without one."""
    running = active([record.refresh for record in records_of(group)])
    return next((record for record in records_of(group) if record.refresh is running), None)


def replacements(group: Any, members: Sequence[Member], time: float) -> Replacements | None:
    """Take the refresh of a group one step further, and return its part in the acts on the group.

    It stands still while its process is suspended:
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html
    """
    record, desired = active_record(group), group.desired_capacity or 0
    if not record:
        return None
    refresh = record.refresh
    if is_suspended(group, PROCESS):
        return Replacements(refresh.wanted, most_of(refresh, desired))
    failed = frozenset(activity['ActivityId'] for activity in activities_of(group)
                       if activity['StatusCode'] == FAILED and activity['Description'].startswith(LAUNCHING))
    if failed - record.failed_launches:
        refresh, record.failed_launches = note_failed_launch(refresh, time), failed
    refresh, acts = decide(refresh, members, desired, ringing(group), time)
    change(group, record, refresh)
    return None if refresh.has_ended else Replacements(refresh.wanted, most_of(refresh, desired), tuple(acts))


def change(group: Any, record: Record, refresh: Refresh) -> None:
    """Record a step of a refresh, with its events and, if it succeeds, the new version of the group."""
    before, record.refresh = record.refresh, refresh
    if refresh.status == ROLLING_BACK and before.status != ROLLING_BACK:
        record.rolled_back = now()
    if refresh.has_ended:
        record.ended = now()
        if refresh.status == SUCCESSFUL and record.desired:
            group._set_launch_configuration(None, shown_template(record.desired, refresh.configuration), None)
    for detail_type, detail in events(before, refresh):
        publish(group.account_id, group.region, SOURCE, detail_type,
                {'InstanceRefreshId': record.identity, 'AutoScalingGroupName': group.name, **detail}, [group.arn])


def shown_template(desired: dict[str, Any], version: Version) -> dict[str, Any]:
    """Return the launch template of a desired configuration, by its id."""
    return {'LaunchTemplateId': version.template, 'Version': desired['LaunchTemplate'].get('Version')}


def ringing(group: Any) -> set[str]:
    """Return the names of the alarms in ALARM state in the account of a group."""
    alarms = cloudwatch_backends[group.account_id][group.region].alarms
    return {name for name, alarm in alarms.items() if alarm.state_value == 'ALARM'}
