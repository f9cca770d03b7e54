"""The API's actions on instances, each of which does something to a machine.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html and the pages of the other actions.
"""

from typing import Any

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.exceptions import InvalidAMIIdError
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.responses.general import General

from rehearsal.api.fleet import Fleet
from rehearsal.api.instance_records import must_change, tell
from rehearsal.api.patching import adding, wrapping
from rehearsal.api.volumes import merged
from rehearsal.errors import RehearsalError

LONGEST_OUTPUT = 64 * 1024


def install(fleet: Fleet) -> None:
    """Let what the API is asked for happen to machines."""
    @wrapping(InstanceBackend, 'run_instances')
    def run_instances(original: Any, backend: Any, image_id: str, count: int, user_data: Any, groups: Any,
                      **options: Any) -> Any:
        template = template_of(backend, options)
        ami = image_id or template.get('ImageId', '')
        check_image(fleet, ami)
        options = with_template(template, options)
        options['block_device_mappings'] = merged(backend.amis[ami].block_device_mappings,
                                                  template.get('BlockDeviceMappings', []),
                                                  options.get('block_device_mappings') or [])
        reservation = original(backend, image_id, count, user_data, groups, **in_subnet(backend, options))
        for instance in reservation.instances:
            tell(instance, 'pending')
        give_profile(backend, reservation.instances, template, options)
        for instance in reservation.instances:
            fleet.launch(instance)
        return reservation

    @wrapping(Instance, 'start')
    def start(original: Any, instance: Any) -> Any:
        return change(instance, 'started', 'pending', fleet.start)

    @wrapping(Instance, 'stop')
    def stop(original: Any, instance: Any) -> Any:
        return change(instance, 'stopped', 'stopping', fleet.stop)

    @wrapping(Instance, 'reboot')
    def reboot(original: Any, instance: Any) -> Any:
        return change(instance, 'rebooted', 'running', fleet.reboot)

    @wrapping(Instance, 'terminate')
    def terminate(original: Any, instance: Any) -> Any:
        return change(instance, 'terminated', 'shutting-down', fleet.terminate)

    @adding(General)
    def get_console_output(response: Any) -> ActionResult:
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html
        instance = response.ec2_backend.get_instance(response._get_param('InstanceId'))
        written = fleet.console(instance.id).encode()[-LONGEST_OUTPUT:].decode(errors='ignore')
        return ActionResult({'InstanceId': instance.id, 'Timestamp': utcnow(),
                             'Output': Base64EncodedString.from_raw_string(written)})


def change(instance: Any, action: str, state: str, order: Any) -> Any:
    """Order what changes an instance, have the API tell that it is under way, and return the state before."""
    if not must_change(instance, action):
        return tell(instance, instance.state)
    before = tell(instance, state)
    order(instance)
    return before


def check_image(fleet: Fleet, ami: str) -> None:
    """Refuse an AMI that no machine can be made from."""
    try:
        fleet.check(ami)
    except RehearsalError:
        raise InvalidAMIIdError(ami) from None


def template_of(backend: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return what the launch template says that an instance is launched from."""
    template = options.get('launch_template')
    return dict(backend._get_template_from_args(template).data) if template else {}


def with_template(template: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a launch with what moto leaves aside of a launch template.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RequestLaunchTemplateData.html
    Tokens are required unless a launch says else, as an account can demand by ModifyInstanceMetadataDefaults:
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-new-instances.html
    """
    metadata = {'HttpTokens': 'required', **template.get('MetadataOptions', {}),
                **(options.get('metadata_options') or {})}
    behavior = options.get('instance_initiated_shutdown_behavior')
    card: dict[str, Any] = next(iter(template.get('NetworkInterfaces', [])), {})
    return {**options, 'metadata_options': metadata, 'subnet_id': options.get('subnet_id') or card.get('SubnetId'),
            'security_group_ids': options.get('security_group_ids') or card.get('Groups', []),
            'instance_initiated_shutdown_behavior': behavior or template.get('InstanceInitiatedShutdownBehavior')}


def give_profile(backend: Any, instances: list[Any], template: dict[str, Any], options: dict[str, Any]) -> None:
    """Give instances their profile where moto does not: to all but the first, and to those of a launch template."""
    named = options.get('iam_instance_profile_name'), options.get('iam_instance_profile_arn')
    profile = template.get('IamInstanceProfile', {})
    name, arn = named if any(named) else (profile.get('Name'), profile.get('Arn'))
    for instance in instances[1 if any(named) else 0:] if name or arn else []:
        backend.associate_iam_instance_profile(instance.id, name, arn)


def in_subnet(backend: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a launch with a subnet in them: the default one, where none is named.

    https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc.html
    """
    if options.get('subnet_id') or any('SubnetId' in card for card in options.get('nics') or []):
        return options
    subnets = backend.get_default_subnets()
    zone = options.get('placement') or min(subnets, default=None)
    return {**options, 'subnet_id': subnets[zone].id} if zone in subnets else options
