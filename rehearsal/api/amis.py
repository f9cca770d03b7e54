"""The API's actions on AMIs, behind each of which a machine's disks are stored.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html and the pages of the other actions.
"""

from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import AmiBackend
from moto.ec2.responses.amis import AmisResponse

from rehearsal.api.fleet import Fleet
from rehearsal.api.instance_records import must_change
from rehearsal.api.patching import adding, wrapping
from rehearsal.api.volumes import root_volume


def install(fleet: Fleet) -> None:
    """Let what the API is asked to do with AMIs happen to what is stored."""
    @adding(AmisResponse)
    def create_image(response: Any) -> ActionResult:
        response.error_on_dryrun()
        backend, name = response.ec2_backend, response._get_param('Name')
        instance = backend.get_instance(response._get_param('InstanceId'))
        must_change(instance, 'imaged')
        refuse_known_name(backend, name)
        tags = tags_by_kind(response._get_param('TagSpecifications', []))
        ami = backend.create_image(instance.id, name, response._get_param('Description', ''), [])
        take_over(ami, instance)
        volume = root_volume(instance)
        set_disk(ami, volume, volume.encrypted)
        ami.add_tags(tags.get('image', {}))
        ami.ebs_snapshot.add_tags(tags.get('snapshot', {}))
        # Only to stop the machine makes sure that its file systems are whole.
        fleet.capture(instance, ami, not response._get_bool_param('NoReboot', False))
        return ActionResult({'ImageId': ami.id})

    @wrapping(AmiBackend, 'copy_image')
    def copy_image(original: Any, backend: Any, source_image_id: str, source_region: str, *arguments: Any,
                   **options: Any) -> Any:
        ami = original(backend, source_image_id, source_region, *arguments, **options)
        source = backend.amis[source_image_id]
        take_over(ami, source)
        set_disk(ami, source.ebs_snapshot.volume, source.ebs_snapshot.encrypted)
        fleet.copy(source_image_id, ami)
        return ami

    @wrapping(AmisResponse, 'copy_image')
    def copy_encrypted(original: Any, response: Any) -> Any:
        answer = original(response)
        if response._get_bool_param('Encrypted', False):
            response.ec2_backend.amis[answer.result['ImageId']].ebs_snapshot.encrypted = True
        return answer

    @adding(AmisResponse)
    def deregister_image(response: Any) -> ActionResult:
        response.error_on_dryrun()
        backend, ami = response.ec2_backend, response._get_param('ImageId')
        snapshot = getattr(backend.amis.get(ami), 'ebs_snapshot', None)
        backend.deregister_image(ami)
        fleet.forget(ami)
        result: dict[str, Any] = {'Return': True}
        if snapshot and response._get_bool_param('DeleteAssociatedSnapshots', False):
            backend.delete_snapshot(snapshot.id)
            result['DeleteSnapshotResults'] = [{'SnapshotId': snapshot.id, 'ReturnCode': 'success'}]
        return ActionResult(result)

    @wrapping(AmisResponse, 'modify_image_attribute')
    def modify_image_attribute(original: Any, response: Any) -> Any:
        wanted = response._get_param('ImdsSupport', {}).get('Value')
        if not wanted:
            return original(response)
        response.error_on_dryrun()
        (ami,) = response.ec2_backend.describe_images(ami_ids=[response._get_param('ImageId')])
        ami.imds_support = wanted
        return EmptyResult()

    @wrapping(AmisResponse, 'describe_image_attribute')
    def describe_image_attribute(original: Any, response: Any) -> Any:
        if response._get_param('Attribute') != 'imdsSupport':
            return original(response)
        (ami,) = response.ec2_backend.describe_images(ami_ids=[response._get_param('ImageId')])
        return ActionResult({'ImageId': ami.id, 'ImdsSupport': {'Value': getattr(ami, 'imds_support', None)}})


def take_over(ami: Any, source: Any) -> None:
    """Give a new AMI what it takes over from an instance or another AMI; it is not stored yet."""
    ami.state = 'pending'
    ami.root_device_type, ami.root_device_name = 'ebs', source.root_device_name
    ami.image_location = f'{ami.owner_id}/{ami.name}'
    ami.hypervisor, ami.ena_support = 'xen', True


def set_disk(ami: Any, volume: Any, encrypted: bool) -> None:
    """Have an AMI's snapshot be one of a disk."""
    ami.ebs_snapshot.volume, ami.ebs_snapshot.encrypted = volume, encrypted


def refuse_known_name(backend: Any, name: str) -> None:
    """Refuse a name that another AMI of the account has.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html#InvalidAMIName.Duplicate
    """
    taken = [ami.id for ami in backend.amis.values() if ami.name == name and ami.owner_id == backend.account_id]
    if taken:
        raise EC2ClientError('InvalidAMIName.Duplicate', f'AMI name {name} is already in use by AMI {taken[0]}')


def tags_by_kind(specifications: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return the tags that a request gives to each kind of what it makes."""
    return {specification['ResourceType']: {tag['Key']: tag['Value'] for tag in specification.get('Tags', [])}
            for specification in specifications}
