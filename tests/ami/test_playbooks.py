"""The playbooks on a machine: a second run changes nothing, and the verification finds each defect."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import json
import os
from pathlib import Path
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest

from rehearsal.client import Rehearsal
from rehearsal.machines.engine import Engine
from tests.support.containers.bases import certificates
from tests.support.containers.fixtures import Image
from tests.support.instances import Instance, launch_to_build_on
from tests.support.server import ROOT

pytestmark = [pytest.mark.ami, pytest.mark.timeout(900)]

ANSIBLE = ROOT / 'packer' / 'ansible'
PLAY_SECONDS = 600
BEFORE_THE_END = '--skip-tags=sysprep,verification'
UNITS = '/etc/systemd/system'
# Defects: the commands that make and undo each, the role that verifies it, and its message.
DEFECTS = {
    'a unit that is enabled': (
        'systemctl enable visitors.target', 'systemctl disable visitors.target',
        'application', 'visitors.target would start a unit before it is configured'),
    'a unit that systemd does not understand': (
        f'cp -p {UNITS}/visitors-ready.service /root/kept && sed -i s/ExecStart=.*/ExecStart=nowhere/ '
        f'{UNITS}/visitors-ready.service', f'mv /root/kept {UNITS}/visitors-ready.service',
        'application', 'visitors-ready.service'),
    'another image than the one meant': (
        'cp -p /etc/visitors/image.json /root/kept && sed -i s/sha256:./sha256:x/ /etc/visitors/image.json',
        'mv /root/kept /etc/visitors/image.json', 'application', 'in image.json'),
    'a package that is not compiled': (
        'mv /usr/lib/visitors/instance/__pycache__ /root/kept', 'mv /root/kept /usr/lib/visitors/instance/__pycache__',
        'application', 'not compiled'),
    'SSH that starts by itself': (
        'systemctl enable ssh.service', 'systemctl disable ssh.service', 'access', "found ['ssh.service'] enabled"),
    'an account with a password': (
        "usermod --password '$6$x$y' root", 'usermod --lock root',
        'hardening', 'these accounts have a password: root'),
    'a rule that others can change': (
        'chmod o+w /etc/sysctl.d/60-hardening.conf', 'chmod o-w /etc/sysctl.d/60-hardening.conf',
        'hardening', '/etc/sysctl.d/60-hardening.conf is missing'),
    'a packet filter that is not loaded': (
        'systemctl disable nftables.service', 'systemctl enable nftables.service', 'hardening', "found ['disabled']"),
    'a timer that wakes the machine': (
        f'rm {UNITS}/apt-daily.timer && systemctl daemon-reload',
        f'ln -s /dev/null {UNITS}/apt-daily.timer && systemctl daemon-reload', 'tuning', 'apt-daily.timer'),
    'swap': (
        "cp -p /etc/fstab /root/kept && echo '/swapfile none swap sw 0 0' >> /etc/fstab", 'mv /root/kept /etc/fstab',
        'tuning', '/swapfile'),
    'an engine that does not start with the machine': (
        'systemctl disable docker.service', 'systemctl enable docker.service', 'docker', 'disabled'),
    'settings that the engine does not understand': (
        'cp -p /etc/docker/daemon.json /root/kept && echo nonsense > /etc/docker/daemon.json',
        'mv /root/kept /etc/docker/daemon.json', 'docker', 'instead of'),
    'a journal that is lost with the power': (
        "printf '[Journal]\\nStorage=volatile\\n' > /etc/systemd/journald.conf.d/99.conf",
        'rm /etc/systemd/journald.conf.d/99.conf', 'logging', 'Storage=volatile'),
}
LEFTOVERS = ('host key /etc/ssh/ssh_host_', 'key /home/admin/.ssh/authorized_keys', 'machine id /etc/machine-id',
             'state of cloud-init /var/lib/cloud/', 'log /var/log/', 'list of packages /var/lib/apt/lists/')


@dataclass(frozen=True)
class Run:
    """The exit code and the output of a playbook."""

    code: int
    output: str

    @property
    def changed(self) -> int:
        """The number of changes."""
        return int(re.findall(r'changed=(\d+)', self.output)[-1])


@dataclass(frozen=True)
class Builder:
    """A machine on which the playbooks run as Packer runs them, and the values for them."""

    machine: Instance
    values: Mapping[str, object]

    def play(self, playbook: str, *options: str, **values: object) -> Run:
        """Run a playbook."""
        variables = json.dumps({**self.values, **values})
        command = [str(Path(sys.executable).with_name('ansible-playbook')), str(ANSIBLE / f'{playbook}.yml'),
                   f'--inventory={self.machine.described["PrivateIpAddress"]},', '--user=admin',
                   f'--private-key={self.machine.key}', f'--extra-vars={variables}', *options]
        environment = {**os.environ, 'ANSIBLE_CONFIG': str(ANSIBLE / 'ansible.cfg'), 'ANSIBLE_NOCOLOR': '1'}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PLAY_SECONDS,
                                check=False)
        return Run(result.returncode, result.stdout + result.stderr)

    def must(self, playbook: str, *options: str, **values: object) -> Run:
        """Run a playbook that must succeed."""
        run = self.play(playbook, *options, **values)
        assert run.code == 0, run.output[-4000:]
        return run

    def verify(self, role: str) -> Run:
        """Run the verification of one role."""
        return self.play('verify', verify_roles=[role])

    def root(self, command: str) -> str:
        """Return the output of a command of root."""
        return self.machine.run(f'sudo sh -c {shlex.quote(command)}')


@pytest.fixture(scope='module')
def builder(rehearsal: Rehearsal, engine: Engine, image: Image,
            tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """Give a machine of Debian's own AMI, and the values of a build of the application's AMI."""
    folder = tmp_path_factory.mktemp('builder')
    archive = folder / 'image.tar'
    engine.docker('image', 'save', '--output', str(archive), image.name)
    values: dict[str, Any] = {
        'inventory_folder': str(folder / 'inventory'), 'inventory_version': image.build['VERSION'],
        'application_image_archive': str(archive), 'application_image_name': image.name,
        'application_image_id': engine.docker('image', 'inspect', '--format={{.Id}}', image.name),
        'application_version': image.build['VERSION'], 'application_commit': image.build['REVISION'],
        'application_build_time': image.build['CREATED']}
    machine = launch_to_build_on(rehearsal, folder)
    machine.run('true')
    yield Builder(machine, values)
    machine.terminate()


@pytest.fixture(scope='module')
def played(builder: Builder) -> dict[str, tuple[Run, Run]]:
    """Return the first and the second run of each playbook on one machine, up to its sysprep."""
    return {name: (builder.must(name, BEFORE_THE_END), builder.must(name, BEFORE_THE_END)) for name in ('base', 'app')}


@pytest.mark.parametrize('playbook', ['base', 'app'])
def test_a_second_run_changes_nothing(played: dict[str, tuple[Run, Run]], playbook: str) -> None:
    first, second = played[playbook]
    assert first.changed > 0, 'nothing was done, so this test would have proven nothing'
    assert second.changed == 0, '\n'.join(re.findall(r'TASK.*\n(?=changed)', second.output))


@pytest.mark.usefixtures('played')
@pytest.mark.parametrize('role', ['docker', 'tuning', 'hardening', 'logging', 'access', 'application'])
def test_each_promise_of_a_role_holds(builder: Builder, role: str) -> None:
    run = builder.verify(role)
    assert run.code == 0, run.output[-4000:]


@pytest.mark.usefixtures('played')
@pytest.mark.parametrize('defect', DEFECTS)
def test_the_verification_finds(builder: Builder, defect: str) -> None:
    broken, mended, role, words = DEFECTS[defect]
    builder.root(broken)
    try:
        run = builder.verify(role)
    finally:
        builder.root(mended)
    assert run.code != 0, 'it was not noticed'
    assert words in run.output


@pytest.mark.usefixtures('played')
@pytest.mark.parametrize('leftover', LEFTOVERS)
def test_the_verification_finds_what_sysprep_would_have_removed(builder: Builder, leftover: str) -> None:
    run = builder.verify('sysprep')
    assert run.code != 0
    assert leftover in run.output


# The template's settings for Ansible through Packer's proxy, on a machine that runs already: Session Manager only
# carries the connection below it.
PROXIED = """
source "null" "visitors" {
  communicator         = "ssh"
  ssh_host             = "%(address)s"
  ssh_username         = "admin"
  ssh_private_key_file = "%(key)s"
}
build {
  source "null.visitors" {
    name = "base"
  }
%(provisioner)s
}
"""


@pytest.mark.parametrize('interface', ['session_manager', 'private_ip'])
def test_packer_runs_ansible_whichever_way_it_reaches_the_machine(builder: Builder, tmp_path: Path,
                                                                  interface: str) -> None:
    template = (ROOT / 'packer' / 'ami.pkr.hcl').read_text(encoding='utf-8')
    (provisioner,) = re.findall(r'^  provisioner "ansible" \{\n.*?^  \}$', template[template.index('name = "base"'):
                                template.index('name = "app"')], re.MULTILINE | re.DOTALL)
    (tmp_path / 'ask.yml').write_text('- hosts: all\n  gather_facts: false\n  tasks:\n'
                                      '    - ansible.builtin.command: cat /etc/hostname\n', encoding='utf-8')
    provisioner = re.sub(r'playbook_file .*', f'playbook_file = "{tmp_path}/ask.yml"', provisioner)
    head = template[:template.index('source "amazon-ebs"')].replace('path.root', f'"{ROOT}/packer"')
    (tmp_path / 'proxied.pkr.hcl').write_text(head + PROXIED % {
        'address': builder.machine.described['PrivateIpAddress'], 'key': builder.machine.key,
        'provisioner': provisioner}, encoding='utf-8')
    command = ['packer', 'build', '-color=false', f'-var=ssh_interface={interface}',
               '-var=ssh_source_cidrs=["198.51.100.7/32"]', str(tmp_path / 'proxied.pkr.hcl')]
    environment = {**os.environ, 'CHECKPOINT_DISABLE': '1',
                   'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True,
                            timeout=PLAY_SECONDS, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr
    assert 'changed=1' in result.stdout


@pytest.mark.usefixtures('played')
def test_an_archive_with_another_image_than_the_one_meant_is_refused(builder: Builder) -> None:
    other = f'sha256:{"7" * 64}'
    run = builder.play('app', BEFORE_THE_END, application_image_id=other)
    assert run.code != 0
    assert f'with the id {builder.values["application_image_id"]} and not {other}' in run.output


@pytest.mark.usefixtures('played')
def test_a_file_that_is_no_archive_is_refused(builder: Builder, tmp_path: Path) -> None:
    (tmp_path / 'image.tar').write_text('nonsense', encoding='ascii')
    run = builder.play('app', BEFORE_THE_END, application_image_archive=str(tmp_path / 'image.tar'),
                       application_image_name='visitors:none', application_image_id=f'sha256:{"7" * 64}')
    assert run.code != 0
    assert f'{tmp_path / "image.tar"} holds visitors:none with the id' in run.output


@pytest.mark.usefixtures('played')
def test_a_build_without_an_identity_is_refused_by_name(builder: Builder) -> None:
    values = {name: value for name, value in builder.values.items() if name != 'application_commit'}
    run = Builder(builder.machine, values).play('app', BEFORE_THE_END)
    assert run.code != 0
    assert 'missing required arguments: application_commit' in run.output


@pytest.mark.usefixtures('played')
def test_the_machine_has_the_authorities_of_the_database(builder: Builder, tmp_path: Path) -> None:
    (tmp_path / 'ca.pem').write_bytes(certificates())
    builder.must('app', BEFORE_THE_END, application_database_ca_file=str(tmp_path / 'ca.pem'))
    try:
        assert builder.root('stat --format=%a:%U /etc/visitors/database-ca.pem') == '644:root'
        (tmp_path / 'ca.pem').write_text('nonsense', encoding='ascii')
        run = builder.play('app', BEFORE_THE_END, application_database_ca_file=str(tmp_path / 'ca.pem'))
        assert run.code != 0
        assert 'failed to validate' in run.output
    finally:
        builder.must('app', BEFORE_THE_END)


@pytest.mark.usefixtures('played')
def test_ssh_and_its_account_stay_where_they_are_wanted(builder: Builder) -> None:
    try:
        builder.must('app', BEFORE_THE_END, access_ssh_enabled=True)
        assert builder.root('systemctl is-enabled ssh.service') == 'enabled'
        assert 'users_groups' in builder.root('cat /etc/cloud/cloud.cfg.d/95-access.cfg')
        assert builder.play('verify', verify_roles=['access'], access_ssh_enabled=True).code == 0
    finally:
        builder.must('app', BEFORE_THE_END)


@pytest.mark.usefixtures('played')
def test_the_agent_of_session_manager_is_a_way_in_where_it_is_given(builder: Builder, tmp_path: Path) -> None:
    package = str(agent_package(tmp_path))
    try:
        builder.must('app', BEFORE_THE_END, access_ssm_agent_file=package)
        assert builder.root('systemctl is-enabled amazon-ssm-agent.service') == 'enabled'
        assert builder.play('verify', verify_roles=['access'], access_ssm_agent_file=package).code == 0
        assert "found ['amazon-ssm-agent.service'] enabled instead of []" in builder.verify('access').output
    finally:
        builder.root('dpkg --purge amazon-ssm-agent')


def agent_package(folder: Path) -> Path:
    """Return a package with the name and the unit of the agent's, because Debian does not package AWS's own."""
    tree = folder / 'tree'
    (tree / 'DEBIAN').mkdir(parents=True)
    (tree / 'lib/systemd/system').mkdir(parents=True)
    (tree / 'DEBIAN/control').write_text('Package: amazon-ssm-agent\nVersion: 1\nArchitecture: all\n'
                                         'Description: none\nMaintainer: nobody <nobody@example.com>\n',
                                         encoding='ascii')
    (tree / 'lib/systemd/system/amazon-ssm-agent.service').write_text(
        '[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n', encoding='ascii')
    package = folder / 'agent.deb'
    subprocess.run(['dpkg-deb', '--build', '--root-owner-group', str(tree), str(package)], check=True,
                   capture_output=True, timeout=60)
    return package
