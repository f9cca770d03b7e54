"""Who runs machine images, and what would start one. A form that is not understood counts as a use of every image.

The places in which AWS may name an image are not listed here. Every description is read in whole, and each image,
launch template and launch configuration that it names counts, wherever it does so.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
import re
from typing import Any

from release.aws import Aws
from release.errors import AwsFailed
from release.names import AMI

ALIVE = ('pending', 'running', 'stopping', 'stopped')
# What is only said about a thing, and the instances of a group, which are looked at themselves.
UNREAD = ('Tags', 'TagSpecifications', 'Instances', 'UserData')
NAMED = re.compile(rf'(?<![0-9A-Za-z-]){AMI.pattern}(?![0-9A-Za-z-])')
ALIAS = 'resolve:'
DEFAULT, LATEST = '$Default', '$Latest'
FILTER_VALUES = 200  # as many as EC2 takes
# Refreshes that have ended; every other one may start what it is to bring the group to.
ENDED = ('Successful', 'Failed', 'Cancelled', 'RollbackSuccessful', 'RollbackFailed')
# Fleets that have ended.
GONE = ('deleted', 'deleted_running', 'deleted_terminating', 'failed', 'cancelled', 'cancelled_running',
        'cancelled_terminating', 'closed')


@dataclass(frozen=True)
class Use:
    """Something that runs or would start an image; of every image where it is not understood what it starts."""

    user: str
    image: str
    runs: bool = False
    doubt: str = ''

    def is_of(self, ami: str) -> bool:
        """Return whether it counts as a use of an image."""
        return bool(self.doubt) or self.image == ami

    def __str__(self) -> str:
        """Return it as people read it."""
        if self.doubt:
            return f'{self.user} may start any image: {self.doubt}'
        return f'{self.user} {"runs" if self.runs else "starts"} {self.image}'


@dataclass
class Reading:
    """What a description names: images, aliases of images, versions of templates, launch configurations."""

    images: set[str] = field(default_factory=set)
    aliases: set[str] = field(default_factory=set)
    templates: set[tuple[str, str]] = field(default_factory=set)
    configurations: set[str] = field(default_factory=set)

    def read(self, description: Any) -> 'Reading':
        """Add all that a description names, wherever it does so, and return this."""
        if isinstance(description, Mapping):
            self._read_names(description)
            for name, value in description.items():
                if name not in UNREAD:
                    self.read(value)
        elif isinstance(description, str):
            self.images.update(NAMED.findall(description))
            self.aliases.update([description] if description.startswith(ALIAS) else [])
        elif isinstance(description, Iterable):
            for value in description:
                self.read(value)
        return self

    def _read_names(self, description: Mapping[str, Any]) -> None:
        template = description.get('LaunchTemplateId') or description.get('LaunchTemplateName')
        if template:
            self.templates.add((template, description.get('Version') or DEFAULT))
        configuration = description.get('LaunchConfigurationName')
        if configuration:
            self.configurations.add(configuration)


def uses(aws: Aws, amis: Collection[str]) -> list[Use]:
    """Return the uses of these images in the region, the instances first; raise one of our errors if AWS refuses."""
    found = [*_instances(aws, sorted(amis)),
             *(use for use in _Starters(aws).uses() if any(use.is_of(ami) for ami in amis))]
    return list(dict.fromkeys(found))  # a version may be the default one and the latest


def _instances(aws: Aws, amis: list[str]) -> Iterator[Use]:
    for first in range(0, len(amis), FILTER_VALUES):
        alive = [{'Name': 'image-id', 'Values': amis[first:first + FILTER_VALUES]},
                 {'Name': 'instance-state-name', 'Values': list(ALIVE)}]
        for reservation in aws.items('ec2', 'describe_instances', 'Reservations', Filters=alive):
            for instance in reservation['Instances']:
                yield Use(f'the instance {instance["InstanceId"]}', instance['ImageId'], runs=True)


class _Starters:
    """All that starts instances by itself or on demand in a region: groups, fleets, templates, configurations."""

    def __init__(self, aws: Aws) -> None:
        """Ask through a seam."""
        self._aws = aws
        self._versions: dict[tuple[str, str], Reading] = {}

    def uses(self) -> Iterator[Use]:
        """Yield what each of them starts."""
        for configuration in self._configurations():
            name = f'the launch configuration {configuration["LaunchConfigurationName"]}'
            yield from self._started(name, Reading().read({**configuration, 'LaunchConfigurationName': ''}))
        for group in self._aws.items('autoscaling', 'describe_auto_scaling_groups', 'AutoScalingGroups'):
            yield from self._of_group(group)
        for kind, operation, key, state, identity in (
                ('EC2 Fleet', 'describe_fleets', 'Fleets', 'FleetState', 'FleetId'),
                ('Spot Fleet', 'describe_spot_fleet_requests', 'SpotFleetRequestConfigs', 'SpotFleetRequestState',
                 'SpotFleetRequestId'),
                ('Spot request', 'describe_spot_instance_requests', 'SpotInstanceRequests', 'State',
                 'SpotInstanceRequestId')):
            for fleet in self._aws.items('ec2', operation, key):
                if fleet.get(state) not in GONE:
                    yield from self._started(f'the {kind} {fleet[identity]}', Reading().read(fleet))
        yield from self._templates()

    def _templates(self) -> Iterator[Use]:
        """Yield what the default and the latest version of each template start, also where no group names it."""
        for each in self._aws.items('ec2', 'describe_launch_template_versions', 'LaunchTemplateVersions',
                                    Versions=[DEFAULT, LATEST]):
            template, version = each['LaunchTemplateId'], str(each['VersionNumber'])
            reading = Reading().read(each['LaunchTemplateData'])
            if reading.aliases:
                reading = self._resolved(template, version, reading)
            yield from self._read(f'version {version} of the launch template {each["LaunchTemplateName"]}', reading)

    def _of_group(self, group: Mapping[str, Any]) -> Iterator[Use]:
        name = group['AutoScalingGroupName']
        yield from self._started(f'the Auto Scaling group {name}', Reading().read(group))
        for refresh in self._refreshes(name):
            wanted = refresh.get('DesiredConfiguration')
            if wanted and refresh['Status'] not in ENDED:
                yield from self._started(f'the instance refresh of the Auto Scaling group {name}',
                                         Reading().read(wanted))

    def _refreshes(self, group: str) -> Iterator[dict[str, Any]]:
        more: dict[str, str] = {}
        while True:
            answer = self._aws.call('autoscaling', 'describe_instance_refreshes', AutoScalingGroupName=group, **more)
            yield from answer['InstanceRefreshes']
            if not answer.get('NextToken'):
                return
            more = {'NextToken': answer['NextToken']}

    def _configurations(self) -> list[dict[str, Any]]:
        return list(self._aws.items('autoscaling', 'describe_launch_configurations', 'LaunchConfigurations'))

    def _started(self, user: str, reading: Reading) -> Iterator[Use]:
        """Yield what a user starts by what it names, directly or in templates; all that is not understood as well."""
        whole = Reading(set(reading.images), set(reading.aliases))
        doubts = []
        for template, version in sorted(reading.templates):
            try:
                named = self._version(template, version)
            except AwsFailed as error:
                if error.is_passing:
                    raise
                doubts.append(f'{template}, version {version}, cannot be read ({error})')
                continue
            whole.images |= named.images
            whole.aliases |= named.aliases
        if reading.configurations:  # they are listed by themselves, with what they start
            whole.images |= self._of_configurations(reading.configurations, doubts)
        if not (whole.images or whole.aliases or doubts):
            doubts.append('no image was found in its description')
        yield from self._read(user, whole)
        yield from (Use(user, '', doubt=doubt) for doubt in doubts)

    def _of_configurations(self, names: set[str], doubts: list[str]) -> set[str]:
        found = {each['LaunchConfigurationName']: each for each in self._configurations()}
        doubts += [f'there is no launch configuration {name}' for name in sorted(names - set(found))]
        reading = Reading().read([{**found[name], 'LaunchConfigurationName': ''} for name in names & set(found)])
        doubts += [f'{alias} is not resolved' for alias in sorted(reading.aliases)]
        return reading.images

    def _read(self, user: str, reading: Reading) -> Iterator[Use]:
        yield from (Use(user, image) for image in sorted(reading.images))
        yield from (Use(user, '', doubt=f'{alias} is not resolved') for alias in sorted(reading.aliases))

    def _version(self, template: str, version: str) -> Reading:
        """Return what a version of a template names, its aliases resolved where EC2 can; asked once for each."""
        key = (template, version)
        if key not in self._versions:
            reading = Reading().read(self._data(template, version))
            if reading.aliases:
                reading = self._resolved(template, version, reading)
            self._versions[key] = reading
        return self._versions[key]

    def _resolved(self, template: str, version: str, reading: Reading) -> Reading:
        try:
            return Reading().read(self._data(template, version, ResolveAlias=True))
        except AwsFailed as error:
            if error.is_passing:
                raise
            return reading

    def _data(self, template: str, version: str, **more: Any) -> list[Any]:
        which = {'LaunchTemplateId' if template.startswith('lt-') else 'LaunchTemplateName': template}
        found = self._aws.items('ec2', 'describe_launch_template_versions', 'LaunchTemplateVersions',
                                Versions=[version], **which, **more)
        data = [each.get('LaunchTemplateData') for each in found]
        if not data:
            raise AwsFailed(f'{template} has no version {version}')
        return data
