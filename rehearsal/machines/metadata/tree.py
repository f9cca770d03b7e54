"""The tree of an instance's metadata, made for each request.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html lists the categories.
"""

from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
import json
from typing import Any

from rehearsal.api.permissions.principals import instance_key
from rehearsal.settings import ROLE_CREDENTIALS

Tree = Mapping[str, 'Tree | str | bytes']
CREDENTIALS_LIFETIME = timedelta(hours=6)


def instance_tree(instance: Any, *, public_key: str | None, role: str | None, lifecycle_state: str | None,
                  now: datetime) -> dict[str, Tree | str | bytes]:
    """Return the metadata and the user data of an instance of moto's."""
    tree: dict[str, Tree | str | bytes] = {
        'dynamic': {'instance-identity': {'document': identity_document(instance)}},
        'meta-data': meta_data(instance, public_key, role, lifecycle_state, now)}
    if instance.user_data:
        tree['user-data'] = b64decode(str(instance.user_data))
    return tree


def meta_data(instance: Any, public_key: str | None, role: str | None, lifecycle_state: str | None,
              now: datetime) -> dict[str, Tree | str | bytes]:
    """Return the part of the tree below `meta-data`."""
    card = instance.nics[0]
    interface = {'device-number': '0', 'interface-id': card.id, 'local-hostname': instance.private_dns_name,
                 'local-ipv4s': instance.private_ip, 'mac': card.mac_address, 'owner-id': instance.owner_id,
                 'security-group-ids': lines(group.id for group in instance.security_groups),
                 'security-groups': lines(group.name for group in instance.security_groups),
                 'subnet-id': instance.subnet_id, 'subnet-ipv4-cidr-block': card.subnet.cidr_block,
                 'vpc-id': card.subnet.vpc_id}
    tree: dict[str, Tree | str | bytes] = {
        'ami-id': instance.image_id, 'ami-launch-index': str(instance.ami_launch_index),
        'hostname': instance.private_dns_name, 'instance-action': 'none', 'instance-id': instance.id,
        'instance-life-cycle': instance.lifecycle or 'on-demand', 'instance-type': instance.instance_type,
        'local-hostname': instance.private_dns_name, 'local-ipv4': instance.private_ip, 'mac': card.mac_address,
        'network': {'interfaces': {'macs': {card.mac_address: interface}}},
        'placement': {'availability-zone': instance.placement.zone, 'region': instance.region_name},
        'reservation-id': reservation_of(instance), 'security-groups': interface['security-groups'],
        'services': {'domain': 'amazonaws.com', 'partition': 'aws'}}
    if instance.key_name and public_key:
        tree['public-keys'] = {f'0={instance.key_name}': {'openssh-key': public_key}}
    if instance.metadata_options.instance_metadata_tags == 'enabled':
        tree['tags'] = {'instance': {tag['key']: tag['value'] for tag in instance.get_tags()}}
    if instance.iam_instance_profile and role:
        tree['iam'] = identity_of(instance, role, now)
    if lifecycle_state:
        tree['autoscaling'] = {'target-lifecycle-state': lifecycle_state}
    return tree


def identity_of(instance: Any, role: str, now: datetime) -> Tree:
    """Return an instance profile and the temporary credentials of its role."""
    updated, ends = (f'{moment:%Y-%m-%dT%H:%M:%SZ}' for moment in (now, now + CREDENTIALS_LIFETIME))
    credentials = {'Code': 'Success', 'LastUpdated': updated, 'Type': 'AWS-HMAC',
                   'AccessKeyId': instance_key(instance.id), **ROLE_CREDENTIALS, 'Expiration': ends}
    profile = instance.iam_instance_profile
    about = {'Code': 'Success', 'LastUpdated': updated, 'InstanceProfileArn': profile['Arn'],
             'InstanceProfileId': profile.get('Id', '')}
    return {'info': json.dumps(about), 'security-credentials': {role: json.dumps(credentials)}}


def identity_document(instance: Any) -> str:
    """Return the identity document of an instance.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html
    """
    return json.dumps({
        'accountId': instance.owner_id, 'architecture': instance.architecture,
        'availabilityZone': instance.placement.zone, 'billingProducts': None, 'devpayProductCodes': None,
        'imageId': instance.image_id, 'instanceId': instance.id, 'instanceType': instance.instance_type,
        'kernelId': None, 'marketplaceProductCodes': None,
        'pendingTime': f'{instance.launch_time.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}',
        'privateIp': instance.private_ip, 'ramdiskId': None, 'region': instance.region_name,
        'version': '2017-09-30'}, indent=2)


def reservation_of(instance: Any) -> str:
    """Return the id of an instance's reservation."""
    reservations = instance.ec2_backend.reservations.copy().values()
    return next((each.id for each in reservations if instance in each.instances), '')


def lines(texts: Any) -> str:
    """Return texts as the metadata service lists them."""
    return '\n'.join(texts)
