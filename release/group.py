"""An Auto Scaling group as a release sees it: its instances with their releases, its refreshes and its alarms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
import re
from typing import Any

from release import amis
from release.amis import Ami
from release.aws import Aws
from release.ec2 import console_of
from release.errors import AwsFailed, NotReady, ReleaseError
from release.selftest_output import lines_of
from release.uses import ENDED, Reading

SETTING = 'VISITORS_GROUP'
# The lines of the boot's own steps, such as `visitors migrate: 3.21 s: at head`.
PHASE = re.compile(r'(?:.*[\]:] ?)?visitors (?P<phase>(?:FAILED in )?[a-z -]+): (?P<rest>\S.*)')
BOOTING, REGISTERING, SERVING = 'booting', 'registering', 'in service'
UNHEALTHY, STANDBY, LEAVING = 'unhealthy', 'standby', 'leaving'
RINGING = 'ALARM'


@dataclass(frozen=True)
class Version:
    """A version of a launch template, with the release that it starts."""

    template: str
    number: str
    ami: str = ''
    release: str = ''

    def __str__(self) -> str:
        """Return it for people."""
        return f'{self.release or self.ami or "an unknown release"} (version {self.number})'


@dataclass(frozen=True)
class Instance:
    """An instance of the group."""

    id: str
    version: Version
    state: str
    phase: str = ''

    @property
    def shown(self) -> str:
        """Its state, and the last phase of its boot while it boots."""
        return f'{self.state}: {self.phase}' if self.phase else self.state


@dataclass(frozen=True)
class Refresh:
    """An instance refresh as EC2 Auto Scaling describes it."""

    id: str
    status: str
    target: Version
    percentage: int = 0
    reason: str = ''
    started: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Whether it may still replace instances."""
        return self.status not in ENDED


@dataclass(frozen=True)
class Alarm:
    """An alarm of CloudWatch."""

    name: str
    state: str
    reason: str = ''


@dataclass(frozen=True)
class Group:
    """The group. --json prints it by these names."""

    name: str
    smallest: int
    desired: int
    largest: int
    version: Version
    instances: tuple[Instance, ...]
    refreshes: tuple[Refresh, ...]
    alarms: tuple[Alarm, ...]
    # Whether the group names its version by a number, without which AWS cannot roll back.
    is_pinned: bool = True

    @property
    def active(self) -> Refresh | None:
        """The refresh that runs, if one does."""
        return next((refresh for refresh in self.refreshes if refresh.is_active), None)


def read(aws: Aws, name: str) -> Group:
    """Return a group; raise NotReady if the region has none of this name."""
    described = list(aws.items('autoscaling', 'describe_auto_scaling_groups', 'AutoScalingGroups',
                               AutoScalingGroupNames=[name]))
    if not described:
        raise NotReady(f'the region {aws.region} has no Auto Scaling group {name}; set {SETTING}, or give --group')
    group, refreshes = described[0], aws.call('autoscaling', 'describe_instance_refreshes',
                                              AutoScalingGroupName=name)['InstanceRefreshes']
    versions = _Versions(aws)
    health = _health(aws, group.get('TargetGroupARNs', []))
    instances = [_instance(aws, each, versions, health) for each in group['Instances']]
    return Group(
        name, group['MinSize'], group['DesiredCapacity'], group['MaxSize'], versions.of(group),
        tuple(sorted(instances, key=lambda instance: (instance.version.number, instance.id))),
        tuple(_refresh(each, versions, group) for each in refreshes), tuple(alarms(aws, f'{name}-')),
        str(group.get('LaunchTemplate', {}).get('Version', '')).isdigit())


def alarms(aws: Aws, prefix: str) -> list[Alarm]:
    """Return the alarms whose names begin with a prefix, those that ring first."""
    found = [Alarm(each['AlarmName'], each['StateValue'], each.get('StateReason', ''))
             for each in aws.items('cloudwatch', 'describe_alarms', 'MetricAlarms', AlarmNamePrefix=prefix)]
    return sorted(found, key=lambda alarm: (alarm.state != RINGING, alarm.name))


def state_of(lifecycle: str, targets: Sequence[str]) -> str:
    """Return the state of an instance by its lifecycle in the group and its health in the target groups."""
    if lifecycle.startswith('Pending'):
        return BOOTING
    if lifecycle == 'Standby' or lifecycle == 'EnteringStandby':
        return STANDBY
    if lifecycle != 'InService':
        return LEAVING
    if all(target == 'healthy' for target in targets):
        return SERVING
    return UNHEALTHY if 'unhealthy' in targets else REGISTERING


def phase_of(console: str) -> str:
    """Return the last phase that a boot printed, with its seconds and its outcome; empty before the first one."""
    matches = [match for match in map(PHASE.match, lines_of(console)) if match]
    return f'{matches[-1]["phase"]}: {matches[-1]["rest"]}' if matches else ''


def versions(aws: Aws, template: str) -> list[Version]:
    """Return all versions of a launch template with their releases, the newest first."""
    numbers = [each['VersionNumber'] for each in aws.items(
        'ec2', 'describe_launch_template_versions', 'LaunchTemplateVersions', LaunchTemplateId=template)]
    known = _Versions(aws)
    return [known.of({'LaunchTemplate': {'LaunchTemplateId': template, 'Version': number}})
            for number in sorted(numbers, reverse=True)]


class _Versions:
    """The versions of launch templates with the releases that they start; each is read once."""

    def __init__(self, aws: Aws) -> None:
        """Start without a version."""
        self._aws = aws
        self._known: dict[tuple[str, str], Version] = {}
        self._amis: dict[str, Ami | None] = {}

    def of(self, description: Mapping[str, Any]) -> Version:
        """Return the version that a group, an instance or a desired configuration names."""
        named = description.get('LaunchTemplate') or description.get('MixedInstancesPolicy', {}).get(
            'LaunchTemplate', {}).get('LaunchTemplateSpecification', {})
        template, number = named.get('LaunchTemplateId', ''), str(named.get('Version', ''))
        if (template, number) not in self._known:
            self._known[template, number] = self._read(template, number)
        return self._known[template, number]

    def _read(self, template: str, number: str) -> Version:
        if not template or not number:
            return Version(template, number)
        try:
            (each,) = self._aws.call('ec2', 'describe_launch_template_versions', LaunchTemplateId=template,
                                     Versions=[number])['LaunchTemplateVersions']
        except AwsFailed as error:
            if error.is_transient:
                raise
            return Version(template, number)  # it was deleted while the instance runs
        (ami,) = sorted(Reading().read(each['LaunchTemplateData']).amis)[:1] or ['']
        return Version(template, str(each['VersionNumber']), ami, self._release(ami))

    def _release(self, ami: str) -> str:
        if ami and ami not in self._amis:
            try:
                self._amis[ami] = amis.registered(self._aws, ami)
            except NotReady:  # an AMI of another project
                self._amis[ami] = None
        found = self._amis.get(ami)
        return found.version if found else ''


def _health(aws: Aws, target_groups: Sequence[str]) -> list[dict[str, str]]:
    """Return for each target group the health of its targets by instance."""
    return [{each['Target']['Id']: each['TargetHealth']['State'] for each in aws.call(
        'elbv2', 'describe_target_health', TargetGroupArn=arn)['TargetHealthDescriptions']} for arn in target_groups]


def _instance(aws: Aws, described: Mapping[str, Any], versions: _Versions, health: Sequence[Mapping[str, str]],
              ) -> Instance:
    identity = described['InstanceId']
    state = state_of(described['LifecycleState'], [targets.get(identity, 'initial') for targets in health])
    return Instance(identity, versions.of(described), state, _phase(aws, identity) if state == BOOTING else '')


def _phase(aws: Aws, instance: str) -> str:
    try:
        return phase_of(console_of(aws, instance))
    except ReleaseError:
        return ''  # the console is a help, and no reason to fail


def _refresh(described: Mapping[str, Any], versions: _Versions, group: Mapping[str, Any]) -> Refresh:
    return Refresh(described['InstanceRefreshId'], described['Status'],
                   versions.of(described.get('DesiredConfiguration') or group),
                   int(described.get('PercentageComplete') or 0), described.get('StatusReason', ''),
                   described.get('StartTime'))
