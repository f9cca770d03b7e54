"""The real image of the application, baked from a clean clone by real Packer and Ansible on a rehearsal's machines.

The tests build on each other, in their order: what one has baked is what the next one finds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest

from rehearsal.cloud import Rehearsal
from rehearsal.engine import Engine
from tests.checkout import Ended
from tests.images.containers import eventually
from tests.images.fixtures import Image
from tests.server import ROOT

BAKE_SECONDS = 840
pytestmark = [pytest.mark.machine, pytest.mark.timeout(BAKE_SECONDS + 60)]
GIT = ('git', '-c', 'user.name=a', '-c', 'user.email=a@example.org')
# How a machine gets a key that nobody has asked for, and then turns itself off, to become an image.
PLANT = """#!/bin/sh
install --directory --mode=0700 /root/.ssh
echo 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA stray' > /root/.ssh/authorized_keys
poweroff
"""


@dataclass(frozen=True)
class Workshop:
    """A clean clone, the container image as a file, and the rehearsal that it is baked on."""

    clone: Path
    archive: Path
    cloud: Rehearsal

    def release(self, *arguments: str) -> Ended:
        """Return what the release tool of the clone has ended with."""
        kept = {name: os.environ[name] for name in ('HOME', 'LANG', 'PATH') if name in os.environ}
        settings = {'PKR_VAR_ssh_interface': 'private_ip', 'PYTHONUNBUFFERED': '1'}
        done = subprocess.run([sys.executable, '-m', 'release', *arguments], cwd=self.clone, text=True,
                              env={**kept, **self.cloud.environment, **settings}, capture_output=True,
                              timeout=BAKE_SECONDS, check=False)
        return Ended(done.returncode, done.stdout, done.stderr)

    def bake(self, *arguments: str) -> Ended:
        """Return what a bake of the image has ended with."""
        return self.release('bake', '--archive', str(self.archive), *arguments)

    def touch(self, role: str) -> None:
        """Change a role's tasks, to no effect but that they are other ones."""
        with (self.clone / 'packer' / 'ansible' / 'roles' / role / 'tasks' / 'main.yml').open('a') as tasks:
            tasks.write('# touched\n')

    @property
    def report(self) -> dict[str, Any]:
        """The report of the last bake."""
        return dict(json.loads((self.clone / 'build' / 'bake.json').read_text(encoding='utf-8')))

    def images(self, stage: str) -> list[dict[str, Any]]:
        """Return the images of a stage."""
        filters = [{'Name': 'tag:Project', 'Values': ['visitors']}, {'Name': 'tag:Stage', 'Values': [stage]}]
        return list(self.cloud.client('ec2').describe_images(Owners=['self'], Filters=filters)['Images'])

    def tags(self, ami: str) -> dict[str, str]:
        """Return the tags of an image."""
        (image,) = self.cloud.client('ec2').describe_images(ImageIds=[ami])['Images']
        return {tag['Key']: tag['Value'] for tag in image['Tags']}

    def machines(self, *states: str) -> list[str]:
        """Return the ids of the machines in these states; of all that there ever were, if none is named."""
        filters = [{'Name': 'instance-state-name', 'Values': list(states)}] if states else []
        found = self.cloud.client('ec2').describe_instances(Filters=filters)['Reservations']
        return [instance['InstanceId'] for reservation in found for instance in reservation['Instances']]

    def leftovers(self) -> dict[str, list[str]]:
        """Return what is there besides images and their snapshots."""
        ec2 = self.cloud.client('ec2')
        kept = {disk['Ebs']['SnapshotId'] for image in ec2.describe_images()['Images']
                for disk in image['BlockDeviceMappings'] if 'Ebs' in disk}
        found = {
            'machines': self.machines('pending', 'running', 'stopping', 'stopped'),
            'volumes': [volume['VolumeId'] for volume in ec2.describe_volumes()['Volumes']],
            'key pairs': [pair['KeyName'] for pair in ec2.describe_key_pairs()['KeyPairs']],
            'groups': [group['GroupName'] for group in ec2.describe_security_groups()['SecurityGroups']
                       if group['GroupName'] != 'default'],
            'snapshots': [each['SnapshotId'] for each in ec2.describe_snapshots(OwnerIds=['self'])['Snapshots']
                          if each['SnapshotId'] not in kept],
        }
        return {kind: names for kind, names in found.items() if names}


@pytest.fixture(scope='module')
def workshop(engine: Engine, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Give a workshop with a rehearsal of its own, so that what is left on it can be counted."""
    folder = tmp_path_factory.mktemp('workshop')
    subprocess.run([*GIT, 'clone', '--quiet', str(ROOT), str(folder / 'clone')], check=True)
    archive = folder / 'image.tar'
    engine.docker('image', 'save', '--output', str(archive), image.name)
    with Rehearsal() as cloud:
        yield Workshop(folder / 'clone', archive, cloud)


def test_the_real_image_is_baked_boots_passes_and_is_released(workshop: Workshop, image: Image) -> None:
    done = workshop.bake()
    assert done.code == 0, done
    report = workshop.report
    assert (report['baked'], report['verified'], report['released']) == (['base', 'app'], True, True)
    tags = workshop.tags(done.out)
    assert (tags['Released'], tags['Verified']) == ('true', f'passed {image.build["VERSION"]}')
    assert (tags['Version'], tags['Commit']) == (image.build['VERSION'], image.build['REVISION'])
    assert {Path(place).name for place in report['artefacts']} >= {'inputs.json', 'manifest.json', 'packages.tsv',
                                                                   'sbom.cdx.json'}
    assert not workshop.leftovers()


def test_the_same_again_starts_no_machine(workshop: Workshop) -> None:
    (before,), machines = workshop.images('app'), workshop.machines()
    done = workshop.bake()
    assert (done.code, done.out) == (0, before['ImageId']), done
    assert workshop.report['baked'] == []
    assert workshop.machines() == machines


def test_verify_passes_the_released_image_again(workshop: Workshop) -> None:
    (image,) = workshop.images('app')
    done = workshop.release('verify', image['ImageId'])
    assert done.code == 0, done
    assert not workshop.leftovers()


def test_verify_names_what_is_wrong_with_an_image(workshop: Workshop) -> None:
    ec2 = workshop.cloud.client('ec2')
    (good,) = workshop.images('app')
    started = ec2.run_instances(ImageId=good['ImageId'], InstanceType='t3.small', MinCount=1, MaxCount=1,
                                UserData=PLANT)['Instances'][0]['InstanceId']
    eventually(lambda: started in workshop.machines('stopped'), 120, 'the machine has turned itself off')
    bad = ec2.create_image(InstanceId=started, Name='visitors-with-a-stray-key')['ImageId']
    tags = {**workshop.tags(good['ImageId']), 'Stage': 'bad'}
    ec2.create_tags(Resources=[bad], Tags=[{'Key': key, 'Value': value} for key, value in tags.items()])
    ec2.terminate_instances(InstanceIds=[started])

    done = workshop.release('verify', bad)
    assert done.code == 6, done
    assert 'authorized-keys' in done.err
    assert workshop.tags(bad)['Released'] == 'false'
    assert 'authorized-keys' in workshop.tags(bad)['Verified']
    eventually(lambda: not workshop.leftovers(), 60, 'nothing is left')


def test_a_changed_role_of_the_application_bakes_that_stage_only(workshop: Workshop) -> None:
    workshop.touch('application')
    done = workshop.bake()
    assert (done.code, workshop.report['baked']) == (0, ['app']), done
    assert 'changed  packer/ansible/roles/application/tasks/main.yml' in done.err
    assert not workshop.leftovers()


def test_a_changed_role_of_the_base_bakes_both_stages(workshop: Workshop) -> None:
    workshop.touch('docker')
    done = workshop.bake()
    assert (done.code, workshop.report['baked']) == (0, ['base', 'app']), done
    assert not workshop.leftovers()
    assert workshop.cloud.gaps() == []
