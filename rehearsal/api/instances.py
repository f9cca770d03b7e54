"""Instances, each action on which does something to a machine.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html and the pages of the other actions.
"""

from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.exceptions import InvalidAMIIdError
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.responses.general import General
from moto.ec2.utils import convert_tag_spec

from rehearsal.api.fleet import Fleet
from rehearsal.api.instance_records import must_change, set_state
from rehearsal.api.network_interfaces import check_addresses, complete, subnet_of_interfaces
from rehearsal.api.patching import Extension
from rehearsal.api.volumes import merged
from rehearsal.errors import RehearsalError

LONGEST_OUTPUT = 64 * 1024


class Launches(Extension, extends=InstanceBackend):
    """Launches of instances."""

    def run_instances(self, image_id: str, count: int, user_data: Any, groups: Any, **options: Any) -> Any:
        """Launch instances, with the options of their AMI and their launch template that moto ignores."""
        fleet = self.rehearsal.fleet
        template = template_of(self, options)
        ami = image_id or template.get('ImageId', '')
        check_ami(fleet, ami)
        options = with_template(template, options)
        options['block_device_mappings'] = merged(self.amis[ami].block_device_mappings,
                                                  template.get('BlockDeviceMappings', []),
                                                  options.get('block_device_mappings') or [])
        options = in_default_group(self, groups, template, in_subnet(self, options))
        check_addresses(self, options)
        reservation = self.moto_run_instances(image_id, count, user_data, groups, **options)
        for instance in reservation.instances:
            set_state(instance, 'pending')
            complete(instance, options)
        give_profile(self, reservation.instances, template, options)
        for instance in reservation.instances:
            fleet.launch(instance)
        return reservation


class PowerActions(Extension, extends=Instance):
    """Actions that turn an instance on or off."""

    def start(self) -> Any:
        """Start the stopped instance."""
        return change(self, 'started', 'pending', self.rehearsal.fleet.start)

    def stop(self) -> Any:
        """Stop the instance."""
        return change(self, 'stopped', 'stopping', self.rehearsal.fleet.stop)

    def reboot(self) -> Any:
        """Reboot the instance."""
        return change(self, 'rebooted', 'running', self.rehearsal.fleet.reboot)

    def terminate(self) -> Any:
        """Terminate the instance."""
        return change(self, 'terminated', 'shutting-down', self.rehearsal.fleet.terminate)


class Consoles(Extension, extends=General):
    """The consoles of instances."""

    def get_console_output(self) -> ActionResult:
        """Return the end of an instance's console.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html
        """
        instance = self.ec2_backend.get_instance(self._get_param('InstanceId'))
        output = self.rehearsal.fleet.console(instance).encode()[-LONGEST_OUTPUT:].decode(errors='ignore')
        return ActionResult({'InstanceId': instance.id, 'Timestamp': utcnow(),
                             'Output': Base64EncodedString.from_raw_string(output)})


def change(instance: Any, action: str, state: str, order: Callable[[Any], None]) -> Any:
    """Order a change of an instance's machine, set the state of its beginning, and return the state before."""
    if not must_change(instance, action):
        return set_state(instance, instance.state)
    before = set_state(instance, state)
    order(instance)
    return before


def check_ami(fleet: Fleet, ami: str) -> None:
    """Refuse an AMI that has no machine behind it."""
    try:
        fleet.check(ami)
    except RehearsalError:
        raise InvalidAMIIdError(ami) from None


def template_of(backend: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the data of the launch template of a launch; empty without a template."""
    template = options.get('launch_template')
    return dict(backend._get_template_from_args(template).data) if template else {}


def with_template(template: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a launch with those of its launch template that moto ignores.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RequestLaunchTemplateData.html
    Tokens are required by default, as an account can demand by ModifyInstanceMetadataDefaults:
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-new-instances.html
    """
    metadata = {'HttpTokens': 'required', **template.get('MetadataOptions', {}),
                **(options.get('metadata_options') or {})}
    behavior = options.get('instance_initiated_shutdown_behavior')
    card: dict[str, Any] = next(iter(template.get('NetworkInterfaces', [])), {})
    monitoring = 'enabled' if template.get('Monitoring', {}).get('Enabled') else options.get('monitoring_state')
    return {**options, 'metadata_options': metadata, 'monitoring_state': monitoring or 'disabled',
            'tags': tags_of(template, options), 'subnet_id': options.get('subnet_id') or card.get('SubnetId'),
            'security_group_ids': options.get('security_group_ids') or card.get('Groups', []),
            'instance_initiated_shutdown_behavior': behavior or template.get('InstanceInitiatedShutdownBehavior')}


def tags_of(template: dict[str, Any], options: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the tags of a launch by the type of the resource; those of the request change the template's."""
    inherited, requested = convert_tag_spec(template.get('TagSpecifications', [])), options.get('tags') or {}
    return {kind: {**inherited.get(kind, {}), **requested.get(kind, {})} for kind in {*inherited, *requested}}


def give_profile(backend: Any, instances: list[Any], template: dict[str, Any], options: dict[str, Any]) -> None:
    """Give instances their profile where moto does not: to all but the first, and to those of a launch template."""
    named = options.get('iam_instance_profile_name'), options.get('iam_instance_profile_arn')
    profile = template.get('IamInstanceProfile', {})
    name, arn = named if any(named) else (profile.get('Name'), profile.get('Arn'))
    for instance in instances[1 if any(named) else 0:] if name or arn else []:
        backend.associate_iam_instance_profile(instance.id, name, arn)


def in_subnet(backend: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a launch with a subnet: the default one, where the launch names none.

    https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc.html
    """
    if options.get('subnet_id') or any('SubnetId' in card for card in options.get('nics') or []):
        return options
    given = subnet_of_interfaces(backend, options)
    if given:
        return {**options, 'subnet_id': given}
    subnets = backend.get_default_subnets()
    zone = options.get('placement') or min(subnets, default=None)
    return {**options, 'subnet_id': subnets[zone].id} if zone in subnets else options


def in_default_group(backend: Any, names: Any, template: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a launch with a security group: the VPC's default one, where the launch names none.

    https://docs.aws.amazon.com/vpc/latest/userguide/default-security-group.html
    """
    is_named = any(card.keys() & {'Groups', 'SecurityGroupId', 'NetworkInterfaceId'} and card.get('Groups', True)
                   for card in options.get('nics') or [])
    if is_named or any([names, options.get('security_group_ids'), template.get('SecurityGroupIds'),
                        template.get('SecurityGroups')]):
        return options
    subnets = [options.get('subnet_id'), *(card.get('SubnetId') for card in options.get('nics') or [])]
    subnet = next((name for name in subnets if name), None)
    vpc = backend.get_subnet(subnet).vpc_id if subnet else None
    return {**options, 'security_group_ids': [backend.get_default_security_group(vpc).id]}
