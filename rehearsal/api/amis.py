"""AMIs, behind each of which a machine's disks are stored.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html and the pages of the other actions.
"""

from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.responses.amis import AmisResponse

from rehearsal.api.instance_records import must_change
from rehearsal.api.patching import Extension
from rehearsal.api.volumes import disks_of, root_volume


class AmiActions(Extension, extends=AmisResponse):
    """Actions on AMIs."""

    def create_image(self) -> ActionResult:
        """Make an AMI of an instance's disks."""
        self.error_on_dryrun()
        backend, name = self.ec2_backend, self._get_param('Name')
        instance = backend.get_instance(self._get_param('InstanceId'))
        must_change(instance, 'imaged')
        refuse_duplicate_name(backend, name)
        tags = tags_by_kind(self._get_param('TagSpecifications', []))
        ami = backend.create_image(instance.id, name, self._get_param('Description', ''), [])
        take_over(ami, instance)
        volume = root_volume(instance)
        set_disk(ami, volume, volume.encrypted)
        ami.add_tags(tags.get('image', {}))
        ami.ebs_snapshot.add_tags(tags.get('snapshot', {}))
        # Only a stopped machine's file systems are certainly whole.
        self.rehearsal.fleet.capture(instance, ami, not self._get_bool_param('NoReboot', False))
        return ActionResult({'ImageId': ami.id})

    def copy_image(self) -> Any:
        """Copy an AMI, encrypted where the request says so."""
        answer = self.moto_copy_image()
        if self._get_bool_param('Encrypted', False):
            self.ec2_backend.amis[answer.result['ImageId']].ebs_snapshot.encrypted = True
        return answer

    def deregister_image(self) -> ActionResult:
        """Deregister an AMI, and delete its snapshot where the request says so."""
        self.error_on_dryrun()
        backend, ami = self.ec2_backend, self._get_param('ImageId')
        snapshot = getattr(backend.amis.get(ami), 'ebs_snapshot', None)
        backend.deregister_image(ami)
        self.rehearsal.fleet.forget(ami)
        result: dict[str, Any] = {'Return': True}
        if snapshot and self._get_bool_param('DeleteAssociatedSnapshots', False):
            backend.delete_snapshot(snapshot.id)
            result['DeleteSnapshotResults'] = [{'SnapshotId': snapshot.id, 'ReturnCode': 'success'}]
        return ActionResult(result)

    def modify_image_attribute(self) -> Any:
        """Keep an AMI's ImdsSupport; moto keeps the other attributes."""
        support = self._get_param('ImdsSupport', {}).get('Value')
        if not support:
            return self.moto_modify_image_attribute()
        self.error_on_dryrun()
        (ami,) = self.ec2_backend.describe_images(ami_ids=[self._get_param('ImageId')])
        ami.imds_support = support
        return EmptyResult()

    def describe_image_attribute(self) -> Any:
        """Show an AMI's ImdsSupport; moto shows the other attributes."""
        if self._get_param('Attribute') != 'imdsSupport':
            return self.moto_describe_image_attribute()
        (ami,) = self.ec2_backend.describe_images(ami_ids=[self._get_param('ImageId')])
        return ActionResult({'ImageId': ami.id, 'ImdsSupport': {'Value': getattr(ami, 'imds_support', None)}})


class AmiCopies(Extension, extends=AmiBackend):
    """Copies of AMIs."""

    def copy_image(self, source_image_id: str, source_region: str, *arguments: Any, **options: Any) -> Any:
        """Copy the disks of an AMI with its record."""
        ami = self.moto_copy_image(source_image_id, source_region, *arguments, **options)
        source = self.amis[source_image_id]
        take_over(ami, source)
        set_disk(ami, source.ebs_snapshot.volume, source.ebs_snapshot.encrypted)
        self.rehearsal.fleet.copy(source_image_id, ami)
        return ami


class AmiDisks(Extension, extends=Ami):
    """The disks of an AMI."""

    @property
    def block_device_mappings(self) -> list[dict[str, Any]]:
        """The disks that an instance of it begins with."""
        return disks_of(self)


def take_over(ami: Any, source: Any) -> None:
    """Give a new AMI, whose disks are not stored yet, the attributes of its source: an instance or an AMI."""
    ami.state = 'pending'
    ami.root_device_type, ami.root_device_name = 'ebs', source.root_device_name
    ami.image_location = f'{ami.owner_id}/{ami.name}'
    ami.hypervisor, ami.ena_support = 'xen', True


def set_disk(ami: Any, volume: Any, encrypted: bool) -> None:
    """Make an AMI's snapshot one of a disk."""
    ami.ebs_snapshot.volume, ami.ebs_snapshot.encrypted = volume, encrypted


def refuse_duplicate_name(backend: Any, name: str) -> None:
    """Refuse a name that another AMI of the account has.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html#InvalidAMIName.Duplicate
    """
    others = [ami.id for ami in backend.amis.values() if ami.name == name and ami.owner_id == backend.account_id]
    if others:
        raise EC2ClientError('InvalidAMIName.Duplicate', f'AMI name {name} is already in use by AMI {others[0]}')


def tags_by_kind(specifications: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return the tags of a request by the kind of resource that they are for."""
    return {specification['ResourceType']: {tag['Key']: tag['Value'] for tag in specification.get('Tags', [])}
            for specification in specifications}
