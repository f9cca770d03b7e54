"""The rehearsal on a kernel with version 2 of cgroups only: its instances boot, are limited, and end in order."""

from collections.abc import Iterator, Mapping
import os
import re
import subprocess
from typing import BinaryIO

import pytest

from rehearsal.machines.cache import cache_folder
from rehearsal.machines.debian import root_filesystem
from rehearsal.machines.source_ami import HOOKS, PACKAGES, VARIANT, writing_hooks
from rehearsal.virtual.disk import disk_of, Part
from rehearsal.virtual.kernel import debian_kernel, Kernel
from rehearsal.virtual.machine import Specification, VirtualMachine
from tests.support.server import ROOT

# Everything is emulated, the machine in the machine as well.
SECONDS = 3600
pytestmark = [pytest.mark.vm, pytest.mark.timeout(SECONDS + 600)]

HOST_PACKAGES = ('apt', 'dbus', 'docker-cli', 'docker.io', 'iptables', 'iproute2', 'kmod', 'nftables', 'procps',
                 'python3', 'systemd-sysv', 'udev')
# The rehearsal's libraries, for Debian 13's Python, at their locked versions.
LIBRARIES = ('boto3', 'dnslib', 'docker', 'moto[server]', 'psutil', 'pyyaml', 'rich', 'shtab')
GIBIBYTE = 1 << 30
UNIT = """[Unit]
After=multi-user.target
[Service]
Type=exec
Environment=HOME=/root PYTHONPATH=/root/project:/root/libraries PYTHONUNBUFFERED=1
ExecStart=/usr/bin/python3 /root/host.py
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
ExecStopPost=/usr/bin/systemctl --no-block poweroff
"""
# The user data of the instance: it prints its state on the console and powers itself off.
REPORT = """#!/bin/sh
# By a unit of its own: user data is a part of the boot, so it cannot wait for the end of the boot.
cat > /run/report << 'END'
state=$(systemctl is-system-running --wait)
{
    printf '\\nSEEN instance-state %s\\n' "$state"
    printf '\\nSEEN instance-failed %s\\n' "$(systemctl list-units --failed --plain --no-legend)"
    printf '\\nSEEN instance-cgroups %s\\n' "$(stat --file-system --format=%T /sys/fs/cgroup)"
    printf '\\nSEEN instance-command-line %s\\n' "$(tr '\\0' ' ' < /proc/1/cmdline)"
} > /dev/console
systemctl poweroff
END
systemd-run --no-block sh /run/report
"""
HOST = '''
"""Bring a rehearsal up on this host, run one instance to its end, and print what the host sees."""

from pathlib import Path
import time

from rehearsal.client import Rehearsal
from rehearsal.machines.engine import running_engines
from rehearsal.machines.machine import has_unified_cgroups

REPORT = {report!r}


def report(name, value):
    print(f'\\nFACT {{name}}={{value}}', flush=True)


def until(holds, what):
    end = time.monotonic() + 2400
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(1)


report('unified', has_unified_cgroups())
with Rehearsal() as cloud:
    report('up', True)
    ec2 = cloud.client('ec2')
    launched = ec2.run_instances(ImageId=cloud.facts['source_ami'], InstanceType='t3.small', MinCount=1, MaxCount=1,
                                 UserData=REPORT, MetadataOptions={{'HttpTokens': 'required'}})
    name = launched['Instances'][0]['InstanceId']

    def state():
        return ec2.describe_instances(InstanceIds=[name])['Reservations'][0]['Instances'][0]['State']['Name']

    try:
        until(lambda: state() != 'pending', 'the instance is started')
        with running_engines() as engines:
            (engine,) = engines
            report('engine', engine.docker('info', '--format={{{{.CgroupDriver}}}} {{{{.CgroupVersion}}}}'))
            container = cloud.settings.names.machine(name)
            process = engine.docker('inspect', '--format={{{{.State.Pid}}}}', container)
        group = Path(f'/proc/{{process}}/cgroup').read_text().strip()
        report('group', group)
        group = group.removeprefix('0::').removesuffix('/init.scope')
        report('memory', Path(f'/sys/fs/cgroup{{group}}/memory.max').read_text().strip())
        until(lambda: state() == 'stopped', 'the instance has powered itself off')
    finally:
        for line in cloud.console(name).splitlines():
            seen = line.removeprefix('SEEN ').split(' ', 1)
            if line.startswith('SEEN '):
                report(seen[0], seen[-1] if len(seen) > 1 else '')
            else:
                print('instance:', line)
    report('ended', state())
    ec2.terminate_instances(InstanceIds=[name])
    until(lambda: state() == 'terminated', 'the instance is terminated')
report('left', [str(path) for path in Path('/sys/fs/cgroup').rglob('docker-*')])
report('all', 'reported')
'''


@pytest.fixture(scope='module')
def kernel() -> Iterator[Kernel]:
    """Give the kernel that the host boots."""
    with debian_kernel() as found:
        yield found


@pytest.fixture(scope='module')
def disk(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BinaryIO]:
    """Give the disk of a host: Debian with an engine, the working copy, and the rehearsal's cache."""
    folder = tmp_path_factory.mktemp('host')
    locks = [f'--constraint={ROOT / lock}' for lock in ('release/requirements.txt', 'requirements.test.txt')]
    environment = {**os.environ, 'UV_NO_PROGRESS': '1'}
    subprocess.run([str(ROOT / '.venv/bin/uv'), 'pip', 'install', '--quiet', f'--target={folder}/libraries',
                    '--python-version=3.13', '--only-binary=:all:', *locks, *LIBRARIES], check=True, env=environment)
    source = root_filesystem('source', (*PACKAGES,), (*HOOKS, *writing_hooks()), VARIANT)
    for name, text in {'rehearsal.service': UNIT, 'host.py': HOST.format(report=REPORT)}.items():
        (folder / name).write_text(text, encoding='utf-8')
    parts = [
        Part(['cat', str(root_filesystem('virtual-rehearsal', HOST_PACKAGES))]), kernel.modules,
        Part(['tar', '--create', f'--directory={folder}', 'rehearsal.service'], 'etc/systemd/system'),
        Part(['tar', '--create', f'--directory={folder}', 'libraries', 'host.py'], 'root'),
        Part(['tar', '--create', f'--directory={ROOT}', 'rehearsal', 'release'], 'root/project'),
        Part(['tar', '--create', f'--directory={cache_folder()}', source.name], 'root/.cache/rehearsal')]
    with disk_of(*parts) as made:
        yield made


@pytest.fixture(scope='module')
def facts(kernel: Kernel, disk: BinaryIO) -> Mapping[str, str]:
    """Return the facts that a host prints until it powers itself off; pytest shows its whole console."""
    # The unit is asked for here: nothing has to be enabled in the file system.
    arguments = ('systemd.wants=rehearsal.service', 'systemd.mask=docker.service', 'systemd.mask=docker.socket',
                 # It would hang up the terminal that the facts are written to.
                 'systemd.mask=serial-getty@ttyS0.service',
                 'systemd.unit=multi-user.target', 'loglevel=4')
    host = Specification(kernel, disk, 'i-of-the-host', arguments=arguments, megabytes=3072, seconds=SECONDS)
    with VirtualMachine(host) as machine:
        try:
            said = machine.wait_until_off(SECONDS)
        finally:
            print(machine.console())
    return dict(re.findall('^FACT ([^=]+)=(.*)$', said, re.MULTILINE))


def test_the_kernel_has_the_second_version_of_cgroups_only(facts: Mapping[str, str]) -> None:
    assert (facts['unified'], facts['engine'].split()[1]) == ('True', '2')


def test_an_instance_boots_without_a_failed_unit(facts: Mapping[str, str]) -> None:
    assert (facts['instance-state'], facts['instance-failed'].strip()) == ('running', '')
    assert facts['instance-cgroups'] == 'cgroup2fs'


def test_no_argument_asks_an_instance_for_the_first_version(facts: Mapping[str, str]) -> None:
    assert 'ds=ec2' in facts['instance-command-line']
    assert 'LEGACY' not in facts['instance-command-line']


def test_an_instance_has_the_memory_of_its_type(facts: Mapping[str, str]) -> None:
    assert int(facts['memory']) == 2 * GIBIBYTE


def test_an_instance_that_powers_itself_off_is_stopped_and_nothing_is_left_of_it(facts: Mapping[str, str]) -> None:
    assert (facts['ended'], facts['left'], facts['all']) == ('stopped', '[]', 'reported')
