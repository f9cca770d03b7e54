"""A moto server of a test's own, with the few things that a release needs and moto lacks, and with faults on demand.

It has no machines: what an instance writes on its console, and what becomes of it, the tests say by files in a folder.
`python -m tests.support.account PORT FOLDER` runs it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import io
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
import requests

from tests.support.postgresql import free_port
from tests.support.server import ROOT

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
            [sys.executable, '-m', 'tests.support.account', str(self.port), str(folder)], cwd=ROOT, stdout=self._log,
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
        """Let a console say this (console), new images stay in this state (image-state), or groups be refreshed."""
        (self.folder / fault).write_text(text, encoding='utf-8')

    def refuse(self, times: int, *actions: str, status: int = 503, code: str = 'Unavailable') -> None:
        """Refuse the next calls of these actions, of every one if none is named, so many times each."""
        text = json.dumps({'times': times, 'actions': actions, 'status': status, 'code': code,
                           'since': time.monotonic()})
        partial = self.folder / 'refusals.partial'
        partial.write_text(text, encoding='utf-8')
        partial.replace(self.folder / 'refusals')

    @property
    def refused(self) -> list[str]:
        """The actions that were refused, in their order."""
        log = self.folder / 'refused'
        return log.read_text(encoding='utf-8').split() if log.exists() else []

    def reset(self) -> None:
        """Forget everything, but for Debian's images."""
        for fault in ('console', 'image-state', 'refreshes', 'refusals', 'refused'):
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
    from moto.autoscaling.responses import AutoScalingResponse
    from moto.ec2.models.amis import Ami, AmiBackend
    from moto.ec2.responses.amis import AmisResponse
    from moto.ec2.responses.general import General
    from moto.ec2.responses.launch_templates import LaunchTemplates
    from moto.moto_server.werkzeug_app import create_backend_app, DomainDispatcherApplication
    from werkzeug.serving import make_server

    _patch_images(Ami, AmiBackend, AmisResponse, folder)
    _patch_console(General, folder)
    _patch_users_of_images(LaunchTemplates, AutoScalingResponse, folder)
    application = Refusals(DomainDispatcherApplication(create_backend_app), folder)
    make_server('localhost', port, application, threaded=True).serve_forever()


class Refusals:
    """An API that is unavailable for some calls, as a file says."""

    def __init__(self, application: Any, folder: Path) -> None:
        """Stand before an API."""
        self._application = application
        self._file = folder / 'refusals'
        self._log = folder / 'refused'
        self._lock = threading.Lock()
        self._given: tuple[str, dict[str, int]] = ('', {})

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Refuse a call, or let the API answer it."""
        body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
        environ['wsgi.input'] = io.BytesIO(body)
        action = self._action(environ, body)
        refusal = self._refusal(action) if action else None
        if not refusal:
            return self._application(environ, start_response)
        code, status = refusal['code'], refusal['status']
        if environ.get('HTTP_X_AMZ_TARGET'):
            kind, text = 'application/x-amz-json-1.1', json.dumps({'__type': code, 'message': 'injected'})
        else:
            kind = 'text/xml'
            error = f'<Error><Code>{code}</Code><Message>injected</Message></Error>'
            text = f'<Response><Errors>{error}</Errors><RequestID>0</RequestID></Response>'
        start_response(f'{status} Refused', [('Content-Type', kind), ('Content-Length', str(len(text)))])
        return [text.encode()]

    def _action(self, environ: dict[str, Any], body: bytes) -> str:
        """Return the action that a call asks for; nothing where it is not AWS's."""
        target = str(environ.get('HTTP_X_AMZ_TARGET', ''))
        return target.rpartition('.')[2] or parse_qs(body.decode(errors='replace')).get('Action', [''])[0]

    def _refusal(self, action: str) -> dict[str, Any] | None:
        with self._lock:
            text = self._file.read_text(encoding='utf-8') if self._file.exists() else ''
            if not text:
                return None
            if text != self._given[0]:
                self._given = (text, {})
            refusal: dict[str, Any] = json.loads(text)
            count = self._given[1].get(action, 0)
            if count >= refusal['times'] or refusal['actions'] and action not in refusal['actions']:
                return None
            self._given[1][action] = count + 1
            with self._log.open('a', encoding='utf-8') as log:
                print(action, file=log)
            return refusal


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


def _patch_users_of_images(templates: Any, groups: Any, folder: Path) -> None:
    """Let templates resolve the alias of an image when asked to, and groups have the refreshes that a test says."""
    from moto.core.responses import ActionResult
    from moto.ssm.models import ssm_backends

    describe = templates.describe_launch_template_versions

    def describe_launch_template_versions(self: Any) -> Any:
        answer = describe(self)
        if self._get_bool_param('ResolveAlias'):
            for version in answer.result['LaunchTemplateVersions']:
                data = dict(version['LaunchTemplateData'])
                kind, _, name = str(data.get('ImageId', '')).rpartition(':')
                if kind == 'resolve:ssm':
                    parameter = ssm_backends[self.current_account][self.region].get_parameter(name)
                    data['ImageId'] = parameter.value if parameter else data['ImageId']
                version['LaunchTemplateData'] = data
        return answer

    def describe_instance_refreshes(self: Any) -> Any:
        said = folder / 'refreshes'
        refreshes = json.loads(said.read_text(encoding='utf-8')) if said.exists() else {}
        return ActionResult({'InstanceRefreshes': refreshes.get(self._get_param('AutoScalingGroupName'), [])})

    templates.describe_launch_template_versions = describe_launch_template_versions
    groups.describe_instance_refreshes = describe_instance_refreshes


if __name__ == '__main__':
    serve(int(sys.argv[1]), Path(sys.argv[2]))
