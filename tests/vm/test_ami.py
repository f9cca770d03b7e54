"""The AMI on a machine with a kernel of its own: proofs that machines with the host's kernel cannot give."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import json
import re
from typing import BinaryIO
from urllib.parse import urlsplit

import pytest

from rehearsal.client import Rehearsal
from rehearsal.machines.addresses import API, METADATA
from rehearsal.machines.engine import Engine
from rehearsal.virtual.disk import disk_of
from rehearsal.virtual.image import parts_of
from rehearsal.virtual.kernel import debian_kernel, Kernel
from rehearsal.virtual.machine import Specification, VirtualMachine
from rehearsal.virtual.seed import metadata
from release.selftest_output import lines_of, Verdict, verdict_of
from release.userdata import render
from tests.support.postgresql import PostgresServer
from tests.support.server import KEY, ROOT
from tests.support.workshop import Workshop

# Ten times slower than a processor, on a machine that may have other things to do.
SECONDS = 900
pytestmark = [pytest.mark.vm, pytest.mark.timeout(3 * SECONDS)]

INSTANCE, PREFIX = 'i-0123456789abcdef0', '/visitors/virtual'
# Where the machine finds its database: an address that only means something on its cable.
DATABASE = '169.254.169.252'
SYSCTL_FILES = sorted((ROOT / 'packer' / 'ansible' / 'roles').glob('*/files/etc/sysctl.d/*.conf'))
# Units, and those that have to wait for them.
ORDER = (('apparmor.service', 'docker.service'), ('docker.service', 'visitors-migrate.service'),
         ('visitors-config.service', 'visitors-migrate.service'), ('visitors-migrate.service', 'visitors.service'),
         ('visitors.service', 'visitors-ready.service'))
# Enabled, so that it prints the same after a restart; --no-block, because it starts only after the boot.
PRINT_FACTS = """
install --mode=0755 /dev/stdin /usr/local/sbin/facts <<'END_OF_FACTS'
{facts}
END_OF_FACTS
cat > /etc/systemd/system/facts.service <<'END_OF_UNIT'
[Unit]
After=visitors-ready.service
[Service]
Type=exec
ExecStart=/usr/local/sbin/facts {keys}
[Install]
WantedBy=multi-user.target
END_OF_UNIT
systemctl enable --now --no-block facts.service
"""


@dataclass(frozen=True)
class MachineImage:
    """An AMI on a disk, the kernel that boots it, and the version of the application in it."""

    disk: BinaryIO
    kernel: Kernel
    version: str

    def console(self, user_data: str, region: str, ways: Mapping[str, int]) -> str:
        """Return the console of a machine that runs until it powers itself off; pytest shows it too."""
        with metadata(INSTANCE, user_data, region) as port:
            ways = {f'{METADATA}:80': port, **ways}
            with VirtualMachine(Specification(self.kernel, self.disk, INSTANCE, ways, seconds=SECONDS)) as machine:
                console = machine.wait_until_off(SECONDS)
        print(console)
        return console


@dataclass(frozen=True)
class Boot:
    """The facts that a machine prints after one of its boots."""

    facts: Mapping[str, str]

    def moments(self, unit: str) -> tuple[int, int]:
        """Return when systemd began to start a unit, and when it was started."""
        began, started = self.facts[unit].split()
        return int(began), int(started)


def sysctl_settings() -> dict[str, str]:
    """Return the kernel settings of the roles."""
    lines = [line for path in SYSCTL_FILES for line in path.read_text(encoding='utf-8').splitlines()]
    pairs = [line.split('=', 1) for line in lines if line.strip() and not line.lstrip().startswith(('#', ';'))]
    return {key.strip(' -'): ' '.join(value.split()) for key, value in pairs}


@pytest.fixture(scope='module')
def machine_image(workshop: Workshop, released: str, engine: Engine) -> Iterator[MachineImage]:
    """Give the AMI of the working copy, on a disk with Debian's kernel."""
    names = workshop.cloud.settings.names
    stored = parts_of(engine, f'{names.images}:{released}', names.volume(released), names.labels)
    with debian_kernel() as kernel, stored as parts, disk_of(*parts, kernel.modules) as disk:
        yield MachineImage(disk, kernel, workshop.tags(released)['Version'])


@pytest.fixture(scope='module')
def selftest_console(machine_image: MachineImage, workshop: Workshop) -> str:
    """Give the console of the AMI in self-test mode: without role, database or any network but its metadata."""
    region = workshop.cloud.facts['region']
    environment = {'SELFTEST': '1', 'LIFECYCLE_HOOK': '', 'AWS_REGION': region, 'DEPLOY_ID': 'virtual'}
    return machine_image.console(render(ROOT, environment), region, {})


@pytest.fixture(scope='module')
def boots(machine_image: MachineImage, workshop: Workshop, postgresql: PostgresServer) -> list[Boot]:
    """Give the console of a machine that serves, is restarted, and serves again."""
    cloud = workshop.cloud
    region, url = cloud.facts['region'], urlsplit(postgresql.create_database())
    configure(cloud, url._replace(netloc=f'{url.username}@{DATABASE}:5432').geturl())
    environment = {'PARAMETER_PREFIX': PREFIX, 'AWS_REGION': region, 'DEPLOY_ID': 'virtual', 'LIFECYCLE_HOOK': '',
                   'AWS_ENDPOINT_URL': cloud.machine_endpoint}
    facts = PRINT_FACTS.format(facts=(ROOT / 'tests' / 'facts').read_text(encoding='utf-8').rstrip(),
                               keys=' '.join(sysctl_settings()))
    ways = {f'{API}:80': urlsplit(cloud.endpoint).port or 80, f'{DATABASE}:5432': postgresql.port}
    console = machine_image.console(render(ROOT, environment) + facts, region, ways)
    matches = [re.fullmatch('FACT ([^=]+)=(.*)', line) for line in lines_of(console)]
    everything = [(fact[1], fact[2].strip()) for fact in matches if fact]
    ends = [number for number, (name, _) in enumerate(everything, 1) if name == 'all']
    assert len(ends) == 2, f'it printed its facts {len(ends)} times instead of twice:\n{console}'
    return [Boot(dict(everything[begin:end])) for begin, end in zip((0, ends[0]), ends)]


@pytest.fixture(params=['first', 'second'])
def boot(boots: list[Boot], request: pytest.FixtureRequest) -> Boot:
    """Give the facts of a machine after its first boot, and after its restart."""
    return boots[0] if request.param == 'first' else boots[1]


def configure(cloud: Rehearsal, database_url: str) -> None:
    """Make the parameters of this prefix: the database, a key, and a place for logs."""
    cloud.client('logs').create_log_group(logGroupName=PREFIX)
    key = cloud.client('secretsmanager').create_secret(Name=f'{PREFIX}/key', SecretString=KEY)['ARN']
    parameters = cloud.client('ssm')
    for name, value in {'settings/DATABASE_URL': database_url, 'secrets/VISITOR_KEY': key}.items():
        parameters.put_parameter(Name=f'{PREFIX}/{name}', Value=value, Type='String')


def test_the_image_passes_its_self_test(machine_image: MachineImage, selftest_console: str) -> None:
    assert verdict_of(selftest_console) == Verdict(machine_image.version), selftest_console


@pytest.mark.parametrize('phase', ['power-on', 'network', 'config', 'migrate', 'application', 'ready'])
def test_each_phase_of_the_boot_is_on_the_console(selftest_console: str, phase: str) -> None:
    assert re.search(rf'visitors {phase}: [0-9.]+ s: ', selftest_console), selftest_console


def test_the_machine_comes_back_from_a_restart(boots: list[Boot]) -> None:
    assert boots[0].facts['boot'] != boots[1].facts['boot']


def test_no_unit_has_failed(boot: Boot) -> None:
    assert (boot.facts['failed'], boot.facts['state']) == ('', 'running')


def test_the_application_serves(boot: Boot, machine_image: MachineImage) -> None:
    assert json.loads(boot.facts['version'])['version'] == machine_image.version
    assert json.loads(boot.facts['readyz'])['ready'] is True


def test_the_log_of_both_boots_is_in_cloudwatch(boots: list[Boot], workshop: Workshop) -> None:
    assert len(boots) == 2
    pages = workshop.cloud.client('logs').get_paginator('filter_log_events').paginate(logGroupName=PREFIX)
    ready = [event for page in pages for event in page['events'] if 'visitors ready: ' in event['message']]
    assert len({event['eventId'] for event in ready}) == 2
    assert {event['logStreamName'] for event in ready} == {INSTANCE}


def test_visits_are_counted_before_the_restart_and_after_it(boots: list[Boot]) -> None:
    assert [boot.facts['visits'] for boot in boots] == ['1', '2']
    assert [json.loads(boot.facts['stats.json'])['total'] for boot in boots] == [1, 1]


def test_apparmor_is_on_and_has_the_profile_of_containers(boot: Boot) -> None:
    assert boot.facts['apparmor'] == 'Y'
    assert 'docker-default' in boot.facts['profiles'].split()


def test_the_application_is_confined_and_does_nothing_that_is_denied(boot: Boot) -> None:
    assert (boot.facts['profile'], boot.facts['denied']) == ('docker-default (enforce)', '')


def test_there_is_the_second_version_of_cgroups_and_it_limits_the_application(boot: Boot) -> None:
    assert boot.facts['cgroups'] == 'cgroup2fs'
    assert boot.facts['engine'] == 'overlay2 systemd 2'
    assert int(boot.facts['memory']) > 0


@pytest.mark.parametrize('key', sysctl_settings())
def test_the_kernel_settings_of_the_roles_are_in_force(boot: Boot, key: str) -> None:
    assert ' '.join(boot.facts[key].split()) == sysctl_settings()[key]


@pytest.mark.parametrize(('before', 'after'), ORDER)
def test_each_unit_waits_for_the_one_before_it(boot: Boot, before: str, after: str) -> None:
    assert 0 < boot.moments(before)[1] <= boot.moments(after)[0]
