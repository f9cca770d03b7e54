"""A workshop for the tests: a clean clone and the image of the application, released on a rehearsal's machines."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import pytest

from rehearsal.client import Rehearsal
from rehearsal.machines.engine import Engine
from tests.support import resources
from tests.support.checkout import Ended
from tests.support.containers.fixtures import Image
from tests.support.instances import admit_this_host, launch
from tests.support.server import ROOT

BAKE_SECONDS = 840
GIT = ('git', '-c', 'user.name=a', '-c', 'user.email=a@example.org')
# The end of a script that edits a machine; without the first line it would have turned itself off because it failed.
DONE = 'the copy is edited'
TURN_OFF = f"""
echo '{DONE}' > /dev/console
poweroff
"""


@dataclass(frozen=True)
class Workshop:
    """A clean clone, the container image as a file, and the rehearsal that it is baked on."""

    clone: Path
    archive: Path
    cloud: Rehearsal

    def release(self, *arguments: str) -> Ended:
        """Return the result of the clone's release tool."""
        kept = {name: os.environ[name] for name in ('HOME', 'LANG', 'PATH') if name in os.environ}
        settings = {'PKR_VAR_ssh_interface': 'private_ip', 'PYTHONUNBUFFERED': '1'}
        result = subprocess.run([sys.executable, '-m', 'release', *arguments], cwd=self.clone, text=True,
                                env={**kept, **self.cloud.environment, **settings}, capture_output=True,
                                timeout=BAKE_SECONDS, check=False)
        return Ended(result.returncode, result.stdout, result.stderr)

    def bake(self, *arguments: str) -> Ended:
        """Return the result of a bake of the image."""
        return self.release('bake', '--archive', str(self.archive), *arguments)

    def touch(self, role: str) -> None:
        """Change a role's tasks, to no effect but that they are other ones."""
        with (self.clone / 'packer' / 'ansible' / 'roles' / role / 'tasks' / 'main.yml').open('a') as tasks:
            tasks.write('# touched\n')

    @property
    def report(self) -> dict[str, Any]:
        """The report of the last bake."""
        return dict(json.loads((self.clone / 'build' / 'bake.json').read_text(encoding='utf-8')))

    def tags(self, ami: str) -> dict[str, str]:
        """Return the tags of an image."""
        (image,) = self.cloud.client('ec2').describe_images(ImageIds=[ami])['Images']
        return {tag['Key']: tag['Value'] for tag in image['Tags']}

    def edited(self, ami: str, name: str, commands: str) -> str:
        """Return the id of a copy of an image, with its tags, on whose machine a script has run as root."""
        ec2 = self.cloud.client('ec2')
        machine = launch(self.cloud, ImageId=ami, UserData=f'#!/bin/sh\nset -eux\n{commands}\n{TURN_OFF}')
        machine.wait_until('stopped')
        made = str(ec2.create_image(InstanceId=machine.name, Name=name)['ImageId'])
        tags = {**self.tags(ami), 'Released': 'false'}
        ec2.create_tags(Resources=[made], Tags=[{'Key': key, 'Value': value} for key, value in tags.items()])
        ec2.get_waiter('image_available').wait(ImageIds=[made], WaiterConfig={'Delay': 1, 'MaxAttempts': 120})
        machine.terminate()
        assert DONE in machine.console, machine.console
        return made

    def instances(self) -> list[str]:
        """Return the ids of all instances that there ever were."""
        return [instance['InstanceId'] for instance in resources.instances(self.cloud.client('ec2'))]

    def leftovers(self) -> dict[str, list[str]]:
        """Return all resources besides AMIs and their snapshots."""
        return resources.leftovers(self.cloud.client('ec2'))


@pytest.fixture(scope='session')
def workshop(engine: Engine, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Give a workshop for the whole run."""
    with opened_workshop(engine, image, tmp_path_factory.mktemp('workshop')) as made:
        yield made


@contextmanager
def opened_workshop(engine: Engine, image: Image, folder: Path) -> Iterator[Workshop]:
    """Give a workshop with a rehearsal of its own, so that its leftovers can be counted."""
    subprocess.run([*GIT, 'clone', '--quiet', str(ROOT), str(folder / 'clone')], check=True)
    archive = folder / 'image.tar'
    engine.docker('image', 'save', '--output', str(archive), image.name)
    with Rehearsal() as cloud:
        admit_this_host(cloud)
        yield Workshop(folder / 'clone', archive, cloud)


@dataclass(frozen=True)
class Baked:
    """The result of the first bake, and its report."""

    ended: Ended
    report: dict[str, Any]


@pytest.fixture(scope='session')
def first_bake(workshop: Workshop) -> Baked:
    """Give the first bake, of everything."""
    ended = workshop.bake()
    assert ended.code == 0, ended
    return Baked(ended, workshop.report)


@pytest.fixture(scope='session')
def released(first_bake: Baked) -> str:
    """Give the id of the image that the first bake has released."""
    return first_bake.ended.out
