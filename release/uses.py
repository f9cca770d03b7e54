"""The uses of AMIs: the instances that run one, and all that would start one.

The places in which AWS may name an AMI are not listed here. Every description is read as a whole, and each AMI, launch
template and launch configuration counts wherever the description names it. A description that cannot be interpreted
counts as a use of every AMI.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
import re
from typing import Any

from release.aws import Aws
from release.ec2 import ALIVE
from release.errors import AwsFailed
from release.options import AMI_ID

# Fields that start nothing, and the instances of a group, which are listed by themselves.
UNREAD = ('Tags', 'TagSpecifications', 'Instances', 'UserData')
NAMED = re.compile(rf'(?<![0-9A-Za-z-]){AMI_ID.pattern}(?![0-9A-Za-z-])')
ALIAS = 'resolve:'
DEFAULT, LATEST = '$Default', '$Latest'
FILTER_VALUES = 200  # EC2's maximum
# States of finished refreshes; a refresh in any other state may start instances of its desired configuration.
ENDED = ('Successful', 'Failed', 'Cancelled', 'RollbackSuccessful', 'RollbackFailed')
# States of fleets and requests that no longer start instances.
GONE = ('deleted', 'deleted_running', 'deleted_terminating', 'failed', 'cancelled', 'cancelled_running',
        'cancelled_terminating', 'closed')


@dataclass(frozen=True)
class Use:
    """A user that runs or would start an AMI; with a doubt, it counts as a use of every AMI."""

    user: str
    ami: str
    runs: bool = False
    doubt: str = ''

    def is_of(self, ami_id: str) -> bool:
        """Return whether it counts as a use of an AMI."""
        return bool(self.doubt) or self.ami == ami_id

    def __str__(self) -> str:
        """Return a sentence for people."""
        if self.doubt:
            return f'{self.user} may start any AMI: {self.doubt}'
        return f'{self.user} {"runs" if self.runs else "starts"} {self.ami}'


@dataclass
class Reading:
    """The names in a description: AMIs, aliases of AMIs, versions of launch templates, launch configurations."""

    amis: set[str] = field(default_factory=set)
    aliases: set[str] = field(default_factory=set)
    templates: set[tuple[str, str]] = field(default_factory=set)
    configurations: set[str] = field(default_factory=set)

    def read(self, description: Any) -> 'Reading':
        """Add the names anywhere in a description, and return this reading."""
        if isinstance(description, Mapping):
            self._read_names(description)
            for name, value in description.items():
                if name not in UNREAD:
                    self.read(value)
        elif isinstance(description, str):
            self.amis.update(NAMED.findall(description))
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


def uses(aws: Aws, ami_ids: Collection[str]) -> list[Use]:
    """Return the uses of these AMIs in the region, the instances first; raise a ReleaseError if AWS refuses a call."""
    instances = _instances(aws, sorted(ami_ids))
    starters = (use for use in _Starters(aws).uses() if any(use.is_of(ami_id) for ami_id in ami_ids))
    return list(dict.fromkeys([*instances, *starters]))  # one version may be both the default and the latest


def _instances(aws: Aws, ami_ids: list[str]) -> Iterator[Use]:
    for first in range(0, len(ami_ids), FILTER_VALUES):
        alive = [{'Name': 'image-id', 'Values': ami_ids[first:first + FILTER_VALUES]},
                 {'Name': 'instance-state-name', 'Values': list(ALIVE)}]
        for reservation in aws.items('ec2', 'describe_instances', 'Reservations', Filters=alive):
            for instance in reservation['Instances']:
                yield Use(f'the instance {instance["InstanceId"]}', instance['ImageId'], runs=True)


def users_of_templates(aws: Aws) -> list[tuple[str, frozenset[tuple[str, str]]]]:
    """Return each group, refresh and fleet with the templates and versions of its description and its instances."""
    readings = [(user, Reading().read(description).read(description.get('Instances', [])))
                for user, description in _Starters(aws).descriptions()]
    return [(user, frozenset(reading.templates)) for user, reading in readings]


def uses_by_parameters(aws: Aws, path: str) -> list[Use]:
    """Return the AMIs in the values of the parameters below a path."""
    return [Use(f'the parameter {parameter["Name"]}', ami)
            for parameter in aws.items('ssm', 'get_parameters_by_path', 'Parameters', Path=path, Recursive=True)
            for ami in sorted(Reading().read(parameter['Value']).amis)]


class _Starters:
    """The resources of a region that start instances: groups, fleets, launch templates, launch configurations."""

    def __init__(self, aws: Aws) -> None:
        """Prepare the search; it starts with `uses`."""
        self._aws = aws
        self._versions: dict[tuple[str, str], Reading] = {}

    def uses(self) -> Iterator[Use]:
        """Yield the AMIs that each of them would start."""
        for configuration in self._configurations():
            name = f'the launch configuration {configuration["LaunchConfigurationName"]}'
            yield from self._started(name, Reading().read({**configuration, 'LaunchConfigurationName': ''}))
        for user, description in self.descriptions():
            yield from self._started(user, Reading().read(description))
        yield from self._templates()

    def descriptions(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield each group, unfinished instance refresh, fleet and request, with its description."""
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
                    yield f'the {kind} {fleet[identity]}', fleet

    def _templates(self) -> Iterator[Use]:
        """Yield the AMIs of the default and the latest version of each template, even if no group names it."""
        for each in self._aws.items('ec2', 'describe_launch_template_versions', 'LaunchTemplateVersions',
                                    Versions=[DEFAULT, LATEST]):
            template, version = each['LaunchTemplateId'], str(each['VersionNumber'])
            reading = Reading().read(each['LaunchTemplateData'])
            if reading.aliases:
                reading = self._resolved(template, version, reading)
            yield from self._read(f'version {version} of the launch template {each["LaunchTemplateName"]}', reading)

    def _of_group(self, group: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        name = group['AutoScalingGroupName']
        yield f'the Auto Scaling group {name}', group
        for refresh in self._refreshes(name):
            desired = refresh.get('DesiredConfiguration')
            if desired and refresh['Status'] not in ENDED:
                yield f'the instance refresh of the Auto Scaling group {name}', desired

    def _refreshes(self, group: str) -> Iterator[dict[str, Any]]:
        page: dict[str, str] = {}
        while True:
            answer = self._aws.call('autoscaling', 'describe_instance_refreshes', AutoScalingGroupName=group, **page)
            yield from answer['InstanceRefreshes']
            if not answer.get('NextToken'):
                return
            page = {'NextToken': answer['NextToken']}

    def _configurations(self) -> list[dict[str, Any]]:
        return list(self._aws.items('autoscaling', 'describe_launch_configurations', 'LaunchConfigurations'))

    def _started(self, user: str, reading: Reading) -> Iterator[Use]:
        """Yield the AMIs that a user names, directly or by templates, and a doubt for each unclear name."""
        whole = Reading(set(reading.amis), set(reading.aliases))
        doubts = []
        for template, version in sorted(reading.templates):
            try:
                named = self._version(template, version)
            except AwsFailed as error:
                if error.is_transient:
                    raise
                doubts.append(f'{template}, version {version}, is unreadable ({error})')
                continue
            whole.amis |= named.amis
            whole.aliases |= named.aliases
        if reading.configurations:  # each launch configuration is also a user of its own
            whole.amis |= self._of_configurations(reading.configurations, doubts)
        if not (whole.amis or whole.aliases or doubts):
            doubts.append('its description names no AMI')
        yield from self._read(user, whole)
        yield from (Use(user, '', doubt=doubt) for doubt in doubts)

    def _of_configurations(self, names: set[str], doubts: list[str]) -> set[str]:
        by_name = {each['LaunchConfigurationName']: each for each in self._configurations()}
        doubts += [f'there is no launch configuration {name}' for name in sorted(names - set(by_name))]
        reading = Reading().read([{**by_name[name], 'LaunchConfigurationName': ''} for name in names & set(by_name)])
        doubts += [f'{alias} is not resolved' for alias in sorted(reading.aliases)]
        return reading.amis

    def _read(self, user: str, reading: Reading) -> Iterator[Use]:
        yield from (Use(user, ami_id) for ami_id in sorted(reading.amis))
        yield from (Use(user, '', doubt=f'{alias} is not resolved') for alias in sorted(reading.aliases))

    def _version(self, template: str, version: str) -> Reading:
        """Return the names in a version of a template, with aliases resolved if EC2 can; each version is read once."""
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
            if error.is_transient:
                raise
            return reading

    def _data(self, template: str, version: str, **options: Any) -> list[Any]:
        which = {'LaunchTemplateId' if template.startswith('lt-') else 'LaunchTemplateName': template}
        versions = self._aws.items('ec2', 'describe_launch_template_versions', 'LaunchTemplateVersions',
                                   Versions=[version], **which, **options)
        data = [each.get('LaunchTemplateData') for each in versions]
        if not data:
            raise AwsFailed(f'{template} has no version {version}')
        return data
