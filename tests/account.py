"""A moto server of a test's own, with the few things that a release needs and moto lacks, and with faults on demand.

It has no machines: what an instance writes on its console, and what becomes of it, the tests say by files in a folder.
`python -m tests.account PORT FOLDER` runs it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import Any

import boto3
import pytest
import requests

from tests.postgresql import free_port
from tests.server import ROOT

REGION = 'us-east-1'
DEBIAN, SOURCE_AMI = '136693071363', 'ami-0debian13newest'
START_SECONDS = 60


def source_image(ami: str, day: str) -> dict[str, object]:
    """Return one of Debian's images, as moto takes it."""
    return {'ami_id': ami, 'name': f'debian-13-amd64-{day}-1', 'description': 'Debian 13', 'owner_id': DEBIAN,
            'public': True, 'virtualization_type': 'hvm', 'architecture': 'x86_64', 'image_location': 'debian',
            'hypervisor': 'xen', 'root_device_type': 'ebs', 'root_device_name': '/dev/xvda',
            'creation_date': f'{day[:4]}-{day[4:6]}-{day[6:]}T00:00:00.000Z'}


SOURCES = [source_image('ami-0debian13older', '20260901'), source_image(SOURCE_AMI, '20261001')]


class Account:
    def __init__(self, folder: Path) -> None:
        """Start a server whose faults are in a folder."""
        self.folder = folder
        self.port = free_port()
        (folder / 'sources.json').write_text(json.dumps(SOURCES), encoding='utf-8')
        self._log = (folder / 'log').open('wb')
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'tests.account', str(self.port), str(folder)], cwd=ROOT, stdout=self._log,
            stderr=self._log, env={**os.environ, 'MOTO_AMIS_PATH': str(folder / 'sources.json')})
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                requests.get(f'{self.url}/moto-api/', timeout=5).raise_for_status()
            except requests.RequestException:
                assert self._process.poll() is None and time.monotonic() < until, (self.folder / 'log').read_text()
                time.sleep(0.1)
            else:
                return

    @property
    def url(self) -> str:
        """The endpoint of all its services."""
        return f'http://localhost:{self.port}'

    @property
    def environment(self) -> dict[str, str]:
        """What tells the SDKs, and the template, to use it."""
        return {'AWS_ENDPOINT_URL': self.url, 'AWS_ACCESS_KEY_ID': 'testing', 'AWS_REGION': REGION,
                'AWS_SECRET_ACCESS_KEY': 'testing',  # pragma: allowlist secret
                'AWS_EC2_METADATA_DISABLED': 'true', 'AWS_POLL_DELAY_SECONDS': '1', 'CHECKPOINT_DISABLE': '1',
                'PKR_VAR_ec2_endpoint': self.url}

    def client(self, service: str, region: str = REGION) -> Any:
        """Return a client for the tests' own questions."""
        return boto3.client(service, region_name=region, endpoint_url=self.url, aws_access_key_id='testing',
                            aws_secret_access_key='testing')  # pragma: allowlist secret

    def say(self, fault: str, text: str) -> None:
        """Let an instance's console say this (console), or new images stay in this state (image-state)."""
        (self.folder / fault).write_text(text, encoding='utf-8')

    def reset(self) -> None:
        """Forget everything, but for Debian's images."""
        for fault in ('console', 'image-state'):
            (self.folder / fault).unlink(missing_ok=True)
        requests.post(f'{self.url}/moto-api/reset', timeout=30).raise_for_status()

    def sources(self, region: str) -> list[str]:
        """Return the ids of Debian's images in a region."""
        found = self.client('ec2', region).describe_images(Owners=[DEBIAN])['Images']
        return [image['ImageId'] for image in found]

    def images(self, **tags: str) -> list[dict[str, Any]]:
        """Return the images of this project that have these tags, the oldest first."""
        filters = [{'Name': f'tag:{key}', 'Values': [value]} for key, value in {'Project': 'visitors', **tags}.items()]
        found: list[dict[str, Any]] = self.client('ec2').describe_images(Owners=['self'], Filters=filters)['Images']
        return sorted(found, key=lambda image: image['CreationDate'])

    def instances(self, *states: str) -> list[dict[str, Any]]:
        """Return the instances in these states; all that there ever were, if none is named."""
        filters = [{'Name': 'instance-state-name', 'Values': list(states)}] if states else []
        found = self.client('ec2').describe_instances(Filters=filters)['Reservations']
        return [instance for reservation in found for instance in reservation['Instances']]

    def run_in_a_group(self, ami: str) -> str:
        """Return the name of an Auto Scaling group that runs an image."""
        template = self.client('ec2').create_launch_template(
            LaunchTemplateName=f'of-{ami}', LaunchTemplateData={'ImageId': ami, 'InstanceType': 't3.small'})
        identity = template['LaunchTemplate']['LaunchTemplateId']
        name = f'group-of-{ami}'
        self.client('autoscaling').create_auto_scaling_group(
            AutoScalingGroupName=name, MinSize=1, MaxSize=1, AvailabilityZones=[f'{REGION}a'],
            LaunchTemplate={'LaunchTemplateId': identity, 'Version': '1'})
        return name

    def leftovers(self) -> dict[str, list[str]]:
        """Return everything that costs money or is in the way, besides images of this project and their snapshots."""
        ec2, ssm = self.client('ec2'), self.client('ssm')
        ours = ec2.describe_images(Owners=['self'])['Images']
        kept = {mapping['Ebs']['SnapshotId'] for image in ec2.describe_images()['Images']
                for mapping in image['BlockDeviceMappings']}
        running = self.instances('pending', 'running', 'stopping', 'stopped')
        found = {
            'instances': [instance['InstanceId'] for instance in running],
            'volumes': [volume['VolumeId'] for volume in ec2.describe_volumes()['Volumes']],
            'key pairs': [pair['KeyName'] for pair in ec2.describe_key_pairs()['KeyPairs']],
            'groups': [group['GroupName'] for group in ec2.describe_security_groups()['SecurityGroups']
                       if group['GroupName'] != 'default'],
            'snapshots': [snapshot['SnapshotId'] for snapshot in ec2.describe_snapshots(OwnerIds=['self'])['Snapshots']
                          if snapshot['SnapshotId'] not in kept],
            'half images': [image['ImageId'] for image in ours if image.get('ImdsSupport') != 'v2.0'],
            'locks': [entry['Name'] for entry in ssm.get_parameters_by_path(Path='/', Recursive=True)['Parameters']],
        }
        return {kind: names for kind, names in found.items() if names}

    def stop(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


@contextmanager
def account_running() -> Iterator[Account]:
    """Give a server for the time of the block."""
    with tempfile.TemporaryDirectory(prefix='visitors-account-') as folder:
        made = Account(Path(folder))
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture(scope='session')
def account_server() -> Iterator[Account]:
    """Give a server for the whole run."""
    with account_running() as made:
        yield made


@pytest.fixture
def account(account_server: Account) -> Account:
    """Give a server on which nothing has been done yet."""
    account_server.reset()
    return account_server


def serve(port: int, folder: Path) -> None:
    """Serve until the process is ended."""
    from moto.ec2.models.amis import Ami, AmiBackend
    from moto.ec2.responses.amis import AmisResponse
    from moto.ec2.responses.general import General
    from moto.moto_server.werkzeug_app import create_backend_app, DomainDispatcherApplication
    from werkzeug.serving import make_server

    _patch_images(Ami, AmiBackend, AmisResponse, folder)
    _patch_console(General, folder)
    make_server('localhost', port, DomainDispatcherApplication(create_backend_app), threaded=True).serve_forever()


def _patch_images(image: Any, backend: Any, response: Any, folder: Path) -> None:
    """Let images have the attribute ImdsSupport, and new ones a state that a test wants."""
    modify, create = response.modify_image_attribute, backend.create_image
    image.imds_support = None

    def modify_image_attribute(self: Any) -> Any:
        wanted = self._get_param('ImdsSupport', {}).get('Value')
        if wanted:
            self.ec2_backend.describe_images(ami_ids=[self._get_param('ImageId')])[0].imds_support = wanted
        return modify(self)

    def create_image(self: Any, *arguments: Any, **named: Any) -> Any:
        made = create(self, *arguments, **named)
        state = folder / 'image-state'
        made.state = state.read_text(encoding='utf-8') if state.exists() else made.state
        made.root_device_type = 'ebs'
        return made

    response.modify_image_attribute, backend.create_image = modify_image_attribute, create_image


def _patch_console(response: Any, folder: Path) -> None:
    """Let consoles say what a test wants; {version} is that of the image."""
    from moto.core.responses import ActionResult
    from moto.core.types import Base64EncodedString

    def get_console_output(self: Any) -> Any:
        instance = self.ec2_backend.get_instance(self._get_param('InstanceId'))
        (image,) = self.ec2_backend.describe_images(ami_ids=[instance.image_id])
        version = {tag['key']: tag['value'] for tag in image.get_tags()}.get('Version', '')
        said = folder / 'console'
        text = said.read_text(encoding='utf-8') if said.exists() else 'SELFTEST PASSED {version}\n'
        output = Base64EncodedString.from_raw_string(text.replace('{version}', version))
        return ActionResult({'InstanceId': instance.id, 'Output': output})

    response.get_console_output = get_console_output


if __name__ == '__main__':
    serve(int(sys.argv[1]), Path(sys.argv[2]))
