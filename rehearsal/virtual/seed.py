"""The metadata of a virtual machine: user data, a role, and the facts of an instance."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
import json
import socket
from types import SimpleNamespace

from rehearsal.listeners import serve
from rehearsal.machines.metadata.service import MetadataService
from rehearsal.machines.metadata.tree import identity_of, Tree
from rehearsal.settings import ACCOUNT
from rehearsal.virtual.machine import ADDRESS, MAC, NETWORK

TYPE, ROLE = 't3.small', 'virtual'
PROFILE = {'Arn': f'arn:aws:iam::{ACCOUNT}:instance-profile/{ROLE}'}


@contextmanager
def metadata(instance: str, user_data: str, region: str) -> Iterator[int]:
    """Give the port of this host's loopback that serves the metadata of an instance."""
    facts = tree(instance, user_data, region)
    options = SimpleNamespace(http_endpoint='enabled', http_tokens='required')
    listener = serve(MetadataService(lambda: facts, lambda: options), socket.create_server(('127.0.0.1', 0)))
    try:
        yield listener.server.port
    finally:
        listener.close()


def tree(instance: str, user_data: str, region: str) -> Tree:
    """Return the metadata, with no more than cloud-init and AWS's libraries read."""
    host, zone = f'ip-{ADDRESS.replace(".", "-")}', f'{region}a'
    card = {'device-number': '0', 'local-ipv4s': ADDRESS, 'mac': MAC, 'subnet-ipv4-cidr-block': NETWORK}
    document = {'accountId': ACCOUNT, 'architecture': 'x86_64', 'availabilityZone': zone, 'instanceId': instance,
                'instanceType': TYPE, 'privateIp': ADDRESS, 'region': region, 'version': '2017-09-30'}
    return {
        'dynamic': {'instance-identity': {'document': json.dumps(document)}},
        'meta-data': {
            'hostname': host, 'iam': identity_of(PROFILE, ROLE, datetime.now(timezone.utc)), 'instance-id': instance,
            'instance-type': TYPE, 'local-hostname': host, 'local-ipv4': ADDRESS, 'mac': MAC,
            'network': {'interfaces': {'macs': {MAC: card}}},
            'placement': {'availability-zone': zone, 'region': region},
            'services': {'domain': 'amazonaws.com', 'partition': 'aws'}},
        'user-data': user_data}
