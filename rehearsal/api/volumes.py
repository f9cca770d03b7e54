"""Disks: an instance's come from its AMI and its launch, an AMI's from its instance.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-device-mapping-concepts.html
"""

from collections.abc import Iterable, Mapping
from typing import Any

from moto.ec2.responses.elastic_block_store import ElasticBlockStore

from rehearsal.api.patching import Extension

Mappings = Iterable[Mapping[str, Any]]


class Snapshots(Extension, extends=ElasticBlockStore):
    """Actions on snapshots."""

    def describe_snapshots(self) -> Any:
        """List the snapshots of the accounts that the request names; moto lists those of all."""
        owners = self._get_param('OwnerIds', [])
        answer = self.moto_describe_snapshots()
        if owners:
            accounts = {self.current_account if owner == 'self' else owner for owner in owners}
            answer.result['Snapshots'] = [each for each in answer.result['Snapshots'] if each.owner_id in accounts]
        return answer


def disks_of(ami: Any) -> list[dict[str, Any]]:
    """Return the disks of an AMI."""
    snapshot = ami.ebs_snapshot
    return [{'DeviceName': ami.root_device_name,
             'Ebs': {'SnapshotId': snapshot.id, 'VolumeSize': snapshot.volume.size, 'DeleteOnTermination': True,
                     'VolumeType': snapshot.volume.volume_type, 'Encrypted': snapshot.encrypted}}]


def merged(inherited: Mappings, *changes: Mappings) -> list[dict[str, Any]]:
    """Return the disks of a launch: a later mapping of a device changes the AMI's, or adds one."""
    disks: dict[str, dict[str, Any]] = {}
    for mapping in [*inherited, *(each for mappings in changes for each in mappings)]:
        device = mapping['DeviceName']
        if mapping.get('NoDevice') is not None:
            disks.pop(device, None)
            continue
        disk = {name: value for name, value in (mapping.get('Ebs') or {}).items() if value is not None}
        disks[device] = {'DeviceName': device, 'Ebs': {**disks.get(device, {}).get('Ebs', {}), **disk}}
    return list(disks.values())


def root_volume(instance: Any) -> Any:
    """Return the disk that an instance boots from."""
    attached = instance.block_device_mapping.get(instance.root_device_name)
    return instance.ec2_backend.get_volume(attached.volume_id) if attached else None
