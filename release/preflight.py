"""The checks before a roll, each by its name, and the choice of the version to roll; all of it is pure."""

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Any

from release.amis import Ami
from release.group import Alarm, Group, RINGING, SERVING, Version
from release.page import Answer

MOST_ALARMS = 10


@dataclass(frozen=True)
class Check:
    """A check: its name, and the objection to a roll; without one it passed."""

    name: str
    objection: str = ''

    def __str__(self) -> str:
        """Return a line for people."""
        return f'{"FAILED" if self.objection else "ok":6} {self.name}{f": {self.objection}" if self.objection else ""}'


@dataclass(frozen=True)
class Pace:
    """How fast a roll replaces instances, and for how long it stays at the canary and at the end."""

    surge: int
    canary_seconds: int
    bake_seconds: int


def choose(versions: Sequence[Version], which: str) -> Version | None:
    """Return the newest version of the template, of an AMI or of a release if one is named."""
    return next((version for version in versions if which in ('', version.ami, version.release)), None)


def before(group: Group, versions: Sequence[Version]) -> Version | None:
    """Return the newest version before the group's own whose release is another one."""
    older = [version for version in versions if int(version.number) < int(group.version.number)]
    return next((version for version in older if version.release and version.ami != group.version.ami), None)


def checks(group: Group, target: Version, ami: Ami | None, alarms: Sequence[Alarm], wanted: Sequence[str],
           answers: Sequence[Answer]) -> list[Check]:
    """Return all checks of a roll to a version."""
    broken = [f'{each.id} is {each.shown}' for each in group.instances if each.state != SERVING]
    ringing = [alarm.name for alarm in alarms if alarm.name in wanted and alarm.state == RINGING]
    absent = sorted({*wanted} - {alarm.name for alarm in alarms})
    failures = [f'{answer.path}: {answer.trouble or answer.status}' for answer in answers if answer.status != 200]
    return [
        Check('refresh', f'{group.active.id} is {group.active.status}' if group.active else ''),
        Check('instances', '; '.join(broken) or ('' if group.instances else 'the group has no instance')),
        Check('alarms', '; '.join([*(f'{name} rings' for name in ringing), *(f'there is no {name}' for name in absent),
                                   *(['more than ten are named'] if len(wanted) > MOST_ALARMS else [])])),
        Check('release', '' if ami and ami.is_released else f'{target.ami or "its AMI"} is not released'),
        Check('template', '' if target.template == group.version.template else
              'the version is of another launch template than that of the group'),
        Check('way back', '' if group.is_pinned and group.version.release else
              'the group must name its version by a number, with a registered AMI of this project'),
        Check('page', '; '.join(dict.fromkeys(failures))),
    ]


def preferences(group: Group, pace: Pace, alarms: Sequence[str]) -> dict[str, Any]:
    """Return the preferences of the refresh: no capacity is lost, and AWS itself rolls back.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RefreshPreferences.html
    """
    first = math.ceil(100 / max(group.desired, 1))
    canary = {'CheckpointPercentages': [first, 100], 'CheckpointDelay': pace.canary_seconds} if first < 100 else {}
    return {
        'MinHealthyPercentage': 100, 'MaxHealthyPercentage': 200 if group.desired <= 1 else pace.surge,
        'SkipMatching': True, 'AutoRollback': True, 'ScaleInProtectedInstances': 'Refresh',
        'StandbyInstances': 'Terminate', **({'BakeTime': pace.bake_seconds} if pace.bake_seconds else {}), **canary,
        **({'AlarmSpecification': {'Alarms': list(alarms)}} if alarms else {})}
