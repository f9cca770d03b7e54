"""What the API tells of disks: an instance's come from its AMI and what its launch says, an AMI's from its instance.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-device-mapping-concepts.html
"""

from collections.abc import Iterable, Mapping
from typing import Any

from moto.ec2.models.amis import Ami
from moto.ec2.responses.elastic_block_store import ElasticBlockStore

from rehearsal.api.patching import wrapping

Mappings = Iterable[Mapping[str, Any]]


def install() -> None:
    """Add what moto leaves out of disks."""
    Ami.block_device_mappings = property(mappings_of)  # type: ignore[method-assign,assignment]

    @wrapping(ElasticBlockStore, 'describe_snapshots')
    def describe_snapshots(original: Any, response: Any) -> Any:
        owners = response._get_param('OwnerIds', [])
        answer = original(response)
        if owners:
            accounts = {response.current_account if owner == 'self' else owner for owner in owners}
            answer.result['Snapshots'] = [found for found in answer.result['Snapshots'] if found.owner_id in accounts]
        return answer


def mappings_of(ami: Any) -> list[dict[str, Any]]:
    """Return the disks of an AMI."""
    snapshot = ami.ebs_snapshot
    return [{'DeviceName': ami.root_device_name,
             'Ebs': {'SnapshotId': snapshot.id, 'VolumeSize': snapshot.volume.size, 'DeleteOnTermination': True,
                     'VolumeType': snapshot.volume.volume_type, 'Encrypted': snapshot.encrypted}}]


def merged(inherited: Mappings, *given: Mappings) -> list[dict[str, Any]]:
    """Return the disks of a launch: what is given for a device changes what the AMI says of it, or adds to it."""
    found: dict[str, dict[str, Any]] = {}
    for mapping in [*inherited, *(each for mappings in given for each in mappings)]:
        device = mapping['DeviceName']
        if mapping.get('NoDevice') is not None:
            found.pop(device, None)
            continue
        disk = {name: value for name, value in (mapping.get('Ebs') or {}).items() if value is not None}
        found[device] = {'DeviceName': device, 'Ebs': {**found.get(device, {}).get('Ebs', {}), **disk}}
    return list(found.values())


def root_volume(instance: Any) -> Any:
    """Return the disk that an instance has booted from."""
    attached = instance.block_device_mapping.get(instance.root_device_name)
    return instance.ec2_backend.get_volume(attached.volume_id) if attached else None
