"""The template and the playbooks of the machine image, as far as no machine is needed to judge them."""

from collections.abc import Iterator, Mapping
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
import yaml

from release.amis import DEBIAN, SOURCE_NAME
from tests.support.server import ROOT

TEMPLATE = ROOT / 'packer' / 'ami.pkr.hcl'
ANSIBLE = ROOT / 'packer' / 'ansible'
ROLES = ANSIBLE / 'roles'
BILL = ROLES / 'inventory' / 'files' / 'bill.py'
# Lie in a role and go to no place of their own: one is read on the builder, the other in memory only.
NOT_OF_THE_IMAGE = {'inventory/files/bill.py', 'sysprep/files/sysprep.conf'}
# The units and what belongs to them are packed and unpacked as a whole.
UNPACKED = 'application/files/etc/'
PROGRAMS = Path(sys.executable).parent
TAGS = {'Project', 'Version', 'Commit', 'InputHash', 'SourceAmi', 'Released', 'BuildUrl', 'CreatedBy', 'Run'}
# The roles of each playbook that have to be told something which only a build knows.
TOLD = {'base': ('inventory',), 'app': ('inventory', 'access', 'application')}

GOOD = {
    'region': 'eu-central-1', 'ec2_endpoint': 'http://localhost:5000', 'instance_type': 't3.small', 'volume_size': '8',
    'subnet_id': 'subnet-0123456789abcdef0', 'ssh_username': 'admin', 'ssh_interface': 'public_ip',
    'ssh_source_cidrs': '["198.51.100.7/32"]', 'iam_instance_profile': 'builder', 'user_data_file': str(TEMPLATE),
    'source_ami': 'ami-0123456789abcdef0', 'base_ami': 'ami-0123456789abcdef0', 'image_archive': str(TEMPLATE),
    'image_name': 'visitors:1.0.2-build.41', 'image_id': f'sha256:{"a" * 64}', 'database_ca_file': str(TEMPLATE),
    'ssm_agent_file': str(TEMPLATE), 'ssh_enabled': 'true', 'version': '1.0.2+build.41', 'commit': 'c' * 40,
    'build_time': '2026-01-02T03:04:05Z', 'input_hash': '0123456789abcdef', 'run_id': '20260102T030405Z-4f2a9c',
    'build_url': 'https://ci.example.com/7', 'created_by': 'ci', 'manifest': 'build/manifest.json',
    'inventory_folder': 'build/inventory',
}
BAD = [
    ('region', 'Frankfurt'), ('ec2_endpoint', 'localhost'), ('instance_type', 'small'), ('volume_size', '4'),
    ('subnet_id', 'mine'), ('ssh_username', 'Admin Istrator'), ('ssh_interface', 'telnet'), ('ssh_source_cidrs', '[]'),
    ('ssh_source_cidrs', '["0.0.0.0/0"]'), ('ssh_source_cidrs', '["::/0"]'), ('iam_instance_profile', 'a b'),
    ('user_data_file', 'nowhere'), ('source_ami', ''), ('source_ami', 'debian'), ('base_ami', 'base'),
    ('image_archive', 'nowhere'), ('image_archive', 'packer'), ('image_name', 'visitors'), ('image_id', 'sha256:7'),
    ('database_ca_file', 'nowhere'), ('ssm_agent_file', 'nowhere'), ('version', ''), ('version', 'v1'),
    ('commit', 'main'), ('build_time', 'today'), ('input_hash', 'XYZ'), ('run_id', 'a b'), ('build_url', ''),
    ('created_by', ''), ('manifest', ''), ('inventory_folder', ''),
]


def template() -> str:
    return TEMPLATE.read_text(encoding='utf-8')


def variables() -> dict[str, str]:
    """Return the block of each variable of the template."""
    found = re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', template(), re.MULTILINE | re.DOTALL)
    return dict(found)


def validate(*options: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which('packer'):
        pytest.fail('no Packer: `make test-packer` says where to get it', pytrace=False)
    environment = {'PATH': f'{PROGRAMS}:{os.environ["PATH"]}', 'HOME': '/nonexistent', 'CHECKPOINT_DISABLE': '1'}
    return subprocess.run(['packer', 'validate', *options, 'packer'], cwd=ROOT, env=environment, capture_output=True,
                          text=True, timeout=120, check=False)


def tasks(document: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every task of a file of tasks, also of its blocks."""
    for entry in document or []:
        parts = [entry[name] for name in ('block', 'rescue', 'always') if name in entry]
        yield from (task for part in parts for task in tasks(part))
        if not parts:
            yield entry


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def tasks_of(role: Path) -> Iterator[Mapping[str, Any]]:
    for path in sorted(role.glob('tasks/*.yml')) + sorted(role.glob('handlers/*.yml')):
        yield from tasks(read(path))


def options_of(role: str) -> dict[str, Any]:
    return dict(read(ROLES / role / 'meta' / 'argument_specs.yml')['argument_specs']['main']['options'])


def roles() -> list[Path]:
    return sorted(path for path in ROLES.iterdir() if path.is_dir())


def told_to(playbook: str) -> set[str]:
    """Return the names of what the template tells a playbook."""
    block = template()[template().index(f'/{playbook}.yml'):]
    return set(re.findall(r'^\s+(\w+)\s+=', block[block.index('jsonencode'):block.index('})}')], re.MULTILINE))


def settings(path: Path) -> list[tuple[str, str]]:
    lines = [line for line in path.read_text(encoding='utf-8').splitlines() if line and not line.startswith('#')]
    return [(name.strip(), value.strip()) for name, _, value in (line.partition('=') for line in lines)]


@pytest.mark.packer
def test_a_template_with_every_variable_set_is_valid() -> None:
    options = [f'-var={name}={value}' for name, value in GOOD.items()]
    assert GOOD.keys() == variables().keys(), 'a variable is new or gone, and nobody has tried it'
    done = validate(*options)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.packer
@pytest.mark.parametrize(('name', 'value'), BAD, ids=lambda given: given or 'nothing')
def test_a_bad_value_is_refused_by_its_name(name: str, value: str) -> None:
    needed = ('region', 'base_ami', 'ssh_source_cidrs')
    done = validate(*[f'-var={each}={GOOD[each]}' for each in needed if each != name], f'-var={name}={value}')
    assert done.returncode != 0
    assert f'The {name} must' in done.stdout + done.stderr


def test_every_variable_but_a_switch_has_a_bad_value_that_was_tried() -> None:
    switches = {name for name, block in variables().items() if 'type        = bool' in block}
    assert {name for name, _ in BAD} == variables().keys() - switches


@pytest.mark.parametrize('name', GOOD)
def test_a_variable_says_what_it_is_in_a_sentence(name: str) -> None:
    description = re.search('description = "(.*)"', variables()[name])
    assert description, f'{name} has no description'
    assert re.fullmatch('[A-Z].*[.]', description[1])


def test_no_variable_is_a_secret() -> None:
    assert not [name for name in variables() if re.search('secret|passw|token|private|access_key', name)]


def test_plugins_are_pinned_to_a_minor_version() -> None:
    text = (ROOT / 'packer' / 'plugins' / 'plugins.pkr.hcl').read_text(encoding='utf-8')
    pins = re.findall(r'^ +version = "(.*)"', text, re.MULTILINE)
    assert len(pins) == text.count('source ')
    assert all(re.fullmatch(r'~> \d+\.\d+\.\d+', pin) for pin in pins)


def test_an_image_tells_what_the_release_tool_looks_for() -> None:
    tags = set(re.findall(r'^    (\w+) += ', template()[template().index('  tags = {'):], re.MULTILINE))
    assert TAGS <= tags
    for use in ('tags', 'snapshot_tags', 'run_tags', 'run_volume_tags'):
        assert re.search(rf'^ +{use} += local\.\w+_tags$', template(), re.MULTILINE), f'{use} are not set'


def test_the_source_is_the_same_as_the_release_tool_looks_for() -> None:
    assert re.findall(r'owners += \["(\d+)"\]', template()) == [DEBIAN]
    assert re.findall(r'name += "(debian-.*)"', template()) == [SOURCE_NAME]


def test_every_wait_has_an_end() -> None:
    assert re.search(r'ssh_timeout += "\d+m"', template())
    assert re.search(r'aws_polling \{\n +max_attempts = \d+\n', template())
    assert 'timeout 180 cloud-init status --wait' in (ANSIBLE / 'tasks' / 'started.yml').read_text(encoding='utf-8')


@pytest.mark.parametrize('playbook', TOLD)
def test_the_template_tells_a_playbook_what_its_roles_ask_for(playbook: str) -> None:
    options = {name: option for role in TOLD[playbook] for name, option in options_of(role).items()}
    required = {name for name, option in options.items() if option.get('required')}
    assert required <= told_to(playbook) <= options.keys()


@pytest.mark.parametrize('role', roles(), ids=lambda role: role.name)
def test_a_role_describes_every_default_that_it_has(role: Path) -> None:
    defaults = read(role / 'defaults' / 'main.yml') if (role / 'defaults' / 'main.yml').exists() else {}
    assert set(defaults) <= options_of(role.name).keys()


@pytest.mark.parametrize('role', roles(), ids=lambda role: role.name)
def test_a_file_goes_to_the_place_that_it_has_in_its_role(role: Path) -> None:
    for task in tasks_of(role):
        for module in ('ansible.builtin.copy', 'ansible.builtin.template'):
            source = task.get(module, {}).get('src', '')
            if (role / 'files' / source).is_file() or (role / 'templates' / source).is_file():
                is_ours = f'{role.name}/files/{source}' in NOT_OF_THE_IMAGE
                assert is_ours or task[module]['dest'] == f'/{source.removesuffix(".j2")}'
            elif source == '{{ item }}':
                assert task[module]['dest'] == '/{{ item }}'
                assert all((role / 'files' / item).is_file() for item in task['loop'])


@pytest.mark.parametrize('role', roles(), ids=lambda role: role.name)
def test_no_file_of_a_role_is_forgotten(role: Path) -> None:
    named = json.dumps(list(tasks_of(role)))
    for kind in ('files', 'templates'):
        for path in (role / kind).rglob('*'):
            if path.is_file() and '__pycache__' not in path.parts:
                place = str(path.relative_to(ROLES))
                known = place in NOT_OF_THE_IMAGE or place.startswith(UNPACKED)
                assert known or str(path.relative_to(role / kind)) in named, f'no task puts {place} anywhere'


@pytest.mark.parametrize('role', roles(), ids=lambda role: role.name)
def test_a_role_needs_no_collection(role: Path) -> None:
    modules = {name for task in tasks_of(role) for name in task if '.' in name}
    assert modules
    assert not {name for name in modules if not name.startswith('ansible.builtin.')}


def test_every_role_is_in_a_playbook() -> None:
    text = ''.join((ANSIBLE / f'{name}.yml').read_text(encoding='utf-8') for name in ('base', 'app'))
    assert all(re.search(rf'\b{role.name}\b', text) for role in roles())


def test_sysprep_comes_after_all_roles_and_their_handlers_and_before_the_verification() -> None:
    for name in ('base', 'app'):
        play, verification = read(ANSIBLE / f'{name}.yml')
        assert [task['ansible.builtin.import_role']['name'] for task in play['post_tasks']] == ['sysprep']
        assert verification['ansible.builtin.import_playbook'] == 'verify.yml'
        assert 'sysprep' in verification['vars']['verify_roles']


def test_what_is_verified_can_be_asked() -> None:
    for name in ('base', 'app'):
        for role in read(ANSIBLE / f'{name}.yml')[1]['vars']['verify_roles']:
            assert (ROLES / role / 'tasks' / 'verify.yml').is_file(), f'{role} has nothing to ask'


def test_no_role_reads_what_a_result_says_of_its_own_call() -> None:
    # ansible-core 2.21 leaves it out of results, and older ones have it.
    assert not [path for path in ANSIBLE.rglob('*.yml') if '.invocation' in path.read_text(encoding='utf-8')]


def test_each_assertion_says_what_was_found_and_what_to_do() -> None:
    asserted = [task['ansible.builtin.assert'] for role in roles() for task in tasks_of(role)
                if 'ansible.builtin.assert' in task]
    assert asserted
    assert all('{{' in each['fail_msg'] and len(each['fail_msg']) > 60 for each in asserted)


def test_the_engine_is_pinned_to_a_release_line() -> None:
    known = read(ROLES / 'docker' / 'defaults' / 'main.yml')
    assert re.fullmatch(r'\d+\.\d+', known['docker_release'])
    assert {'docker.io={{ docker_release }}.*', 'docker-cli={{ docker_release }}.*'} <= set(known['docker_packages'])
    assert 'apparmor' in known['docker_packages'], 'with install_recommends off it has to be named'


# What Debian's archive drops with the next update: a build, known by the revision of the package behind the version.
REVISION = re.compile(r'(?<![\w.])\d[\w.+~]*-\d+[\w.+~]*(?![\w*-])|[+]deb\d+u\d|[+]dfsg|[+]b\d+\b')


@pytest.mark.parametrize('text', ['docker.io=26.1.5+dfsg1-9+deb13u1+b1', 'version: 252.39-1~deb12u1', 'curl=8.14.1-2',
                                  'nginx=1.26.3-3+deb13u1', '"7.0.15-1"'])
def test_an_exact_revision_would_be_found(text: str) -> None:
    assert REVISION.search(text)


def test_no_role_names_an_exact_revision_that_the_archive_drops() -> None:
    files = [path for path in ANSIBLE.rglob('*.yml')]
    assert len(files) > 30, 'this test looks in the wrong place'
    lines = [line for path in files for line in path.read_text(encoding='utf-8').splitlines()]
    assert [line for line in lines if not line.lstrip().startswith('#') and REVISION.search(line)] == []


def test_the_engine_leaves_the_network_and_the_firewall_alone() -> None:
    daemon = read(ROLES / 'docker' / 'defaults' / 'main.yml')['docker_daemon']
    assert [daemon[name] for name in ('iptables', 'ip6tables', 'ip-forward', 'userland-proxy')] == [False] * 4
    assert not [pool for pool in daemon['default-address-pools'] if re.match(r'10\.|172\.', pool['base'])]
    assert daemon['live-restore'] is True


def test_no_setting_of_the_kernel_is_given_twice() -> None:
    names = [name for path in ROLES.glob('*/files/etc/sysctl.d/*.conf') for name, _ in settings(path)]
    assert names
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize('path', sorted(ROLES.glob('*/files/etc/sysctl.d/*.conf')), ids=lambda path: path.stem)
def test_every_group_of_settings_of_the_kernel_has_its_reason(path: Path) -> None:
    groups = path.read_text(encoding='utf-8').split('\n\n')
    assert all(group.lstrip().startswith('#') for group in groups)
    assert all(re.fullmatch(r'[a-z0-9_.]+', name) and re.fullmatch(r'\d+', value) for name, value in settings(path))


def test_settings_of_the_kernel_are_not_applied_in_a_container() -> None:
    path = ROLES / 'tuning/files/etc/systemd/system/systemd-sysctl.service.d/10-own-kernel.conf'
    assert 'ConditionVirtualization=!container\n' in path.read_text(encoding='utf-8')
    modules = {name for role in roles() for task in tasks_of(role) for name in task}
    assert 'ansible.posix.sysctl' not in modules


def test_the_package_lies_where_the_units_look_for_it() -> None:
    packed = (ROLES / 'application' / 'tasks' / 'boot.yml').read_text(encoding='utf-8')
    (folder,) = re.findall(r"--transform='s,\^,(.*)/,'", packed)
    units = ROLES / 'application' / 'files' / 'etc' / 'systemd' / 'system'
    told = {found for path in units.rglob('*') if path.is_file()
            for found in re.findall(r'PYTHONPATH=(\S+)', path.read_text(encoding='utf-8'))}
    assert told == {f'/{folder}'}


def test_the_machine_is_told_of_its_image_where_it_looks_and_what_it_asks_for() -> None:
    asked = (ROOT / 'instance' / 'machine.py').read_text(encoding='utf-8')
    (place,) = re.findall(r"'(etc/\S+image\.json)'", asked)
    written = (ROLES / 'application' / 'templates' / f'{place}.j2').read_text(encoding='utf-8')
    assert set(re.findall(r"known\['(\w+)'\]", asked)) <= set(re.findall(r'"(\w+)":', written))


def test_user_data_that_fails_ends_the_machine_by_a_unit_that_exists() -> None:
    units = ROLES / 'application' / 'files' / 'etc' / 'systemd' / 'system'
    text = (units / 'cloud-final.service.d' / '10-visitors.conf').read_text(encoding='utf-8')
    (unit,) = re.findall(r'^OnFailure=(.*)$', text, re.MULTILINE)
    assert (units / unit).is_file()


def test_an_instance_runs_its_user_data_and_makes_no_account() -> None:
    known = read(ROLES / 'access' / 'defaults' / 'main.yml')
    assert known['access_cloud_final_modules'] == ['scripts_user']
    assert not set(known['access_cloud_init_modules']) & {'users_groups', 'ssh'}
    assert known['access_ssh_enabled'] is False


def test_the_account_of_the_build_is_the_one_that_the_source_image_makes() -> None:
    source = read(ROOT / 'rehearsal/machines/files/source/etc/cloud/cloud.cfg.d/01_debian_cloud.cfg')
    assert f'default     = "{source["system_info"]["default_user"]["name"]}"' in variables()['ssh_username']


def test_the_name_of_the_application_is_the_same_in_the_image_and_its_bill() -> None:
    assert '--distro-name=visitors' in BILL.read_text(encoding='utf-8')
    assert re.search('Project += "visitors"', template())


LISTS = """# machine
Package: bash
Status: install ok installed
Version: 5.2.37-2+b5
Architecture: amd64
Source: bash (5.2.37-2)

# image
Package: base-files
Status: install ok installed
Version: 13.8
Architecture: amd64

# python
Flask==3.1.3
"""


def bill(folder: Path, lists: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(BILL), str(folder), '1.0.2+build.41'], input=lists, capture_output=True,
                          text=True, timeout=120, check=False)


def test_the_inventory_has_the_packages_of_each_part(tmp_path: Path) -> None:
    done = bill(tmp_path / 'new', LISTS)
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / 'new' / 'packages.tsv').read_text(encoding='utf-8').splitlines()
    assert rows == ['machine\tbash\t5.2.37-2+b5', 'image\tbase-files\t13.8', 'python\tFlask\t3.1.3']


def test_the_bill_of_materials_is_one_cyclonedx_of_all_parts(tmp_path: Path) -> None:
    assert bill(tmp_path, LISTS).returncode == 0
    (written,) = tmp_path.glob('*.json')
    known = json.loads(written.read_text(encoding='utf-8'))
    assert (known['bomFormat'], known['specVersion']) == ('CycloneDX', '1.7')
    assert known['metadata']['component']['version'] == '1.0.2+build.41'
    assert {'pkg:deb/debian/bash@5.2.37-2%2Bb5?arch=amd64', 'pkg:deb/debian/bash@5.2.37-2?arch=source',
            'pkg:pypi/flask@3.1.3'} <= {component.get('purl') for component in known['components']}


def test_a_list_that_no_tool_understands_ends_the_inventory(tmp_path: Path) -> None:
    done = bill(tmp_path, '# machine\nthis is no list of packages at all\n')
    assert done.returncode != 0
    assert 'the bill of the part machine could not be made' in done.stderr
    assert not list(tmp_path.glob('*.tsv'))
