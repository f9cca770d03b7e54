"""A machine in a folder: its files, the programs that it calls, and its steps as processes of their own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, ExitStack
import json
import os
from pathlib import Path
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from instance.aws import METADATA_SETTINGS
from instance.machine import Machine
from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.settings import CREDENTIALS
from tests.support.local_aws import launch, make_profile
from tests.support.server import ROOT
from tests.support.warm import Libraries, socket_of, WarmProcess

PREFIX = '/visitors/test'
DEPLOY = '7/ami-0123456789abcdef0'
IMAGE_ID = f'sha256:{"5a" * 32}'
POWERED_ON = 5_000_000  # microseconds
STEP_SECONDS = 120
IMAGE = {'image': 'visitors:1.0.2-build.41', 'id': IMAGE_ID, 'version': '1.0.2', 'commit': '5' * 40,
         'build_time': '2026-01-02T03:04:05Z'}


class FolderMachine:
    """A machine that was just turned on: an instance of the API, whose files and programs are in a folder."""

    def __init__(self, folder: Path, aws: EmbeddedRehearsal) -> None:
        """Launch the instance and write its files."""
        self.root = folder / 'root'
        self.programs = folder / 'programs'
        self._aws = aws
        self._services = ExitStack()
        self.become(launch(aws))
        for path in ('etc/visitors', 'var/lib', 'run'):
            (self.root / path).mkdir(parents=True)
        self.programs.mkdir()
        self.write_user_data(PARAMETER_PREFIX=PREFIX, AWS_REGION=aws.region, DEPLOY_ID=DEPLOY, LIFECYCLE_HOOK='')
        self.write('etc/visitors/image.json', json.dumps({**IMAGE, 'version': version()}))
        self.answer_systemctl({
            '': {'UserspaceTimestampMonotonic': str(POWERED_ON)},
            'network-online.target': {'ActiveEnterTimestampMonotonic': str(POWERED_ON + 1_500_000)},
        })
        self.answer_docker({'image inspect': {'stdout': f'{IMAGE_ID}\n'}})
        warm = f'WARM_APPLICATION={socket_of(Libraries.APPLICATION)}'
        stand_in = f'{warm} exec {sys.executable} -S -E {ROOT}/tests/support/stand_in.py'
        for program in ('docker', 'systemctl'):
            self.install(program, f'{stand_in} {program} {self.programs} "$@"')
        self.install('journalctl', 'exit 0')

    def write(self, path: str, text: str) -> Path:
        """Write a file of the machine."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding='utf-8')
        return file

    def write_user_data(self, **names: str) -> None:
        """Write the file that the user data writes."""
        sdk = {'AWS_ENDPOINT_URL': self._aws.endpoint}
        lines = ''.join(f'{name}={value}\n' for name, value in {**names, **sdk}.items())
        self.write('etc/visitors/instance.env', lines)

    def add_sdk_settings(self, **names: str) -> None:
        """Add settings of the SDK to the file that the user data writes."""
        with self.environment_file.open('a', encoding='utf-8') as file:
            file.writelines(f'{name}={value}\n' for name, value in names.items())

    @property
    def environment_file(self) -> Path:
        """The file that the user data writes."""
        return self.root / 'etc/visitors/instance.env'

    def become(self, instance: str) -> None:
        """Become this instance; its metadata service answers from now on."""
        self.instance = instance
        self.metadata = self._services.enter_context(self._aws.metadata(instance))

    def give_role(self, role: str) -> None:
        """Give the instance a profile with a role, whose keys its metadata service hands out."""
        make_profile(self._aws.client('iam'), role)
        self._aws.client('ec2').associate_iam_instance_profile(
            InstanceId=self.instance, IamInstanceProfile={'Name': role})

    def close(self) -> None:
        """Let the metadata service of the instance end."""
        self._services.close()

    def answer_systemctl(self, units: Mapping[str, Any]) -> None:
        """Write the answers of systemctl."""
        (self.programs / 'systemctl.json').write_text(json.dumps(units), encoding='utf-8')

    def answer_docker(self, answers: Mapping[str, Mapping[str, object]]) -> None:
        """Write the answers of docker; it really runs all other commands."""
        (self.programs / 'docker.json').write_text(json.dumps(answers), encoding='utf-8')

    def answer_migration(self, code: int, stderr: str = '') -> None:
        """Let the container of the migration end with a code."""
        self.answer_docker({'image inspect': {'stdout': f'{IMAGE_ID}\n'}, 'run': {'code': code, 'stderr': stderr}})

    def age_boot(self, seconds: float) -> None:
        """Set the begin of the boot to so many seconds ago."""
        path = self.root / 'run/visitors/boot.json'
        started = time.monotonic() - seconds
        text = re.sub(r'"started": [0-9.]+', f'"started": {started}', path.read_text(encoding='utf-8'))
        path.write_text(text, encoding='utf-8')

    def install(self, program: str, line: str) -> None:
        """Write a program that this machine calls."""
        path = self.programs / program
        path.write_text(f'#!/bin/sh\n{line}\n', encoding='utf-8')
        path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a step as its unit sets it, and keys, because the instance has no role."""
        kept = {name: value for name, value in os.environ.items() if name.startswith('COVERAGE_')}
        path = f'{self.programs}:/usr/sbin:/usr/bin:/sbin:/bin'
        return {**kept, **CREDENTIALS, 'PATH': path, 'PYTHONPATH': str(ROOT),
                'AWS_EC2_METADATA_SERVICE_ENDPOINT': self.metadata.endpoint, 'PYTHONUNBUFFERED': '1'}

    def start(self, *step: str, **environment: str) -> WarmProcess:
        """Start a step."""
        # From the root folder, as systemd does: imports have to come from PYTHONPATH.
        return WarmProcess(['instance', f'--root={self.root}', *step], {**self.environment, **environment},
                           folder=Path('/'), libraries=Libraries.SDK)

    def run(self, *step: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Return the result of a step."""
        with self.start(*step, **environment) as process:
            try:
                stdout, stderr = process.communicate(timeout=STEP_SECONDS)
            finally:
                process.kill()
        return subprocess.CompletedProcess(step, process.wait(), stdout, stderr)

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> Machine:
        """Make this process one on this machine, for a test that has to change how long something takes."""
        # A step adds the user data's settings of the SDK to its environment; here they have to be gone afterwards.
        lines = self.environment_file.read_text(encoding='utf-8').split('\n') if self.environment_file.exists() else []
        sdk = dict(line.split('=', 1) for line in lines if line.startswith('AWS_'))
        for name, value in {**self.environment, **METADATA_SETTINGS, **sdk}.items():
            monkeypatch.setenv(name, value)
        return Machine(self.root)

    def calls(self, program: str) -> list[list[str]]:
        """Return how a program was called, in order."""
        path = self.programs / 'calls'
        lines = path.read_text(encoding='utf-8').splitlines() if path.exists() else []
        return [arguments for name, *arguments in map(json.loads, lines) if name == program]

    @property
    def was_turned_off(self) -> bool:
        """Whether a step has turned this machine off."""
        return ['--no-block', 'poweroff'] in self.calls('systemctl')

    @property
    def boot(self) -> dict[str, Any]:
        """The record of its boot."""
        return dict(json.loads((self.root / 'run/visitors/boot.json').read_text(encoding='utf-8')))

    def variables(self, role: str) -> dict[str, str]:
        """Return the environment that a kind of container gets."""
        text = (self.root / f'run/visitors/{role}.env').read_text(encoding='utf-8')
        return dict(line.split('=', 1) for line in text.rstrip('\n').split('\n'))

    def secret(self, role: str, name: str) -> Path:
        """Return the file of a secret."""
        return self.root / 'run/visitors/secrets' / role / name


def version() -> str:
    """Return the version that the application of this working copy answers, unless a build wrote another."""
    build = ROOT / 'build.json'
    number = (ROOT / 'version.txt').read_text(encoding='utf-8').strip()
    built = json.loads(build.read_text(encoding='utf-8'))['version'] if build.exists() else number
    return str(built) if str(built).partition('+')[0] == number else number


def last_line(text: str) -> str:
    """Return the last line, the one that ends a step."""
    return text.strip().splitlines()[-1]


def value_of(options: Sequence[str], name: str) -> str:
    """Return the value of an option of a command line."""
    (value,) = [option.partition('=')[2] for option in options if option.startswith(f'{name}=')]
    return value


@pytest.fixture
def machine(tmp_path: Path, aws: EmbeddedRehearsal) -> Iterator[FolderMachine]:
    """Give a machine that was just turned on."""
    with machine_in(tmp_path, aws) as machine:
        yield machine


@contextmanager
def machine_in(folder: Path, aws: EmbeddedRehearsal) -> Iterator[FolderMachine]:
    """Give a machine in a folder; some of its files belong to others than its user, as only root can make it.

    The API's calls begin with the machine's own.
    """
    if os.geteuid():
        pytest.skip('not root: a machine gives files to the user of its containers')
    with closing(FolderMachine(folder, aws)) as machine:
        aws.faults.clear()
        yield machine
