"""The resources of EC2 that cost money or are in the way when a bake, or a test, is over."""

from typing import Any

LIVE = ('pending', 'running', 'stopping', 'stopped')


def instances(ec2: Any, *states: str) -> list[dict[str, Any]]:
    """Return the instances in these states; all that there ever were, if none is named."""
    filters = [{'Name': 'instance-state-name', 'Values': list(states)}] if states else []
    reservations = ec2.describe_instances(Filters=filters)['Reservations']
    return [instance for reservation in reservations for instance in reservation['Instances']]


def leftovers(ec2: Any) -> dict[str, list[str]]:
    """Return the ids of all resources by their kind, without AMIs and the snapshots that belong to one."""
    kept = {disk['Ebs']['SnapshotId'] for image in ec2.describe_images()['Images']
            for disk in image['BlockDeviceMappings'] if 'Ebs' in disk}
    kinds = {
        'instances': [instance['InstanceId'] for instance in instances(ec2, *LIVE)],
        'volumes': [volume['VolumeId'] for volume in ec2.describe_volumes()['Volumes']],
        'key pairs': [pair['KeyName'] for pair in ec2.describe_key_pairs()['KeyPairs']],
        'groups': [group['GroupName'] for group in ec2.describe_security_groups()['SecurityGroups']
                   if group['GroupName'] != 'default'],
        'snapshots': [snapshot['SnapshotId'] for snapshot in ec2.describe_snapshots(OwnerIds=['self'])['Snapshots']
                      if snapshot['SnapshotId'] not in kept],
    }
    return {kind: names for kind, names in kinds.items() if names}
