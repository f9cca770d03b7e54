"""The playbooks and roles: their agreements with each other, with the boot of an instance and with the network."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
import json
from pathlib import Path
import re
from typing import Any

import hcl2
import pytest
import yaml

from instance.machine import Image, Machine
from tests.support.server import ROOT
from tests.support.units import drop_in

ANSIBLE = ROOT / 'packer' / 'ansible'
ROLES = ANSIBLE / 'roles'
NAMES = sorted(path.name for path in ROLES.iterdir() if path.is_dir())
SYSCTL_FILES = sorted(ROLES.glob('*/files/etc/sysctl.d/*.conf'))
PLAYBOOKS = ('base', 'app')
COPYING = ('ansible.builtin.copy', 'ansible.builtin.template')
# Files with no path of their own on an instance: one runs on the controller, the other is in memory only.
NOT_ON_AN_INSTANCE = {'inventory/files/bill.py', 'sysprep/files/sysprep.conf'}
# Units and their settings are transferred as one archive.
ARCHIVED = 'application/files/etc/'
# A build of a Debian package, such as 26.1.5+dfsg1-9: the archive drops it with the next update.
EXACT_REVISION = re.compile(r'(?<![\w.])\d[\w.+~]*-\d+[\w.+~]*(?![\w*-])|[+]deb\d+u\d|[+]dfsg|[+]b\d+\b')


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def tasks(document: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every task of a file, also those of its blocks."""
    for entry in document or []:
        blocks = [entry[name] for name in ('block', 'rescue', 'always') if name in entry]
        yield from (task for block in blocks for task in tasks(block))
        if not blocks:
            yield entry


def tasks_of(role: str) -> list[Mapping[str, Any]]:
    files = [*sorted((ROLES / role).glob('tasks/*.yml')), *sorted((ROLES / role).glob('handlers/*.yml'))]
    return [task for path in files for task in tasks(read(path))]


def defaults_of(role: str) -> dict[str, Any]:
    path = ROLES / role / 'defaults' / 'main.yml'
    return dict(read(path)) if path.exists() else {}


def files_of(role: str) -> list[Path]:
    return [path for kind in ('files', 'templates') for path in (ROLES / role / kind).rglob('*')
            if path.is_file() and '__pycache__' not in path.parts]


@pytest.mark.parametrize('role', NAMES)
def test_each_default_of_a_role_is_described(role: str) -> None:
    options = read(ROLES / role / 'meta' / 'argument_specs.yml')['argument_specs']['main']['options']
    assert defaults_of(role).keys() <= options.keys()


@pytest.mark.parametrize('role', NAMES)
def test_a_file_has_the_same_path_in_its_role_and_on_an_instance(role: str) -> None:
    for task in tasks_of(role):
        for module in COPYING:
            source = task.get(module, {}).get('src', '')
            kind = next((kind for kind in ('files', 'templates') if (ROLES / role / kind / source).is_file()), None)
            if kind and f'{role}/{kind}/{source}' not in NOT_ON_AN_INSTANCE:
                assert task[module]['dest'] == f'/{source.removesuffix(".j2")}'
            elif source == '{{ item }}':
                assert task[module]['dest'] == '/{{ item }}'
                assert all((ROLES / role / 'files' / item).is_file() for item in task['loop'])


@pytest.mark.parametrize('role', NAMES)
def test_each_file_of_a_role_is_used_by_a_task(role: str) -> None:
    names = json.dumps(tasks_of(role))
    places = {path: str(path.relative_to(ROLES)) for path in files_of(role)}
    unused = [place for path, place in places.items() if '/'.join(Path(place).parts[2:]) not in names]
    assert [place for place in unused if place not in NOT_ON_AN_INSTANCE and not place.startswith(ARCHIVED)] == []


@pytest.mark.parametrize('role', NAMES)
def test_a_role_needs_no_collection(role: str) -> None:
    modules = {name for task in tasks_of(role) for name in task if '.' in name}
    assert modules
    assert {name for name in modules if not name.startswith('ansible.builtin.')} == set()


@pytest.mark.parametrize('role', NAMES)
def test_each_assertion_of_a_role_names_the_value_and_the_remedy(role: str) -> None:
    assertions = [task['ansible.builtin.assert'] for task in tasks_of(role) if 'ansible.builtin.assert' in task]
    messages = [assertion['fail_msg'] for assertion in assertions]
    assert messages, 'the role verifies nothing'
    assert [message for message in messages if '{{' not in message or len(message) < 60] == []


@pytest.mark.parametrize('role', NAMES)
def test_a_role_is_run_and_verified_in_the_same_bake(role: str) -> None:
    runs, verifications = set(), set()
    for name in PLAYBOOKS:
        play, verification = read(ANSIBLE / f'{name}.yml')
        roles = {entry if isinstance(entry, str) else entry['role'] for entry in play['roles']}
        imported = {task['ansible.builtin.import_role']['name'] for task in play['post_tasks']}
        runs |= {name} if role in roles | imported else set()
        verifications |= {name} if role in verification['vars']['verify_roles'] else set()
    assert runs
    assert runs == verifications


@pytest.mark.parametrize('name', PLAYBOOKS)
def test_sysprep_is_the_last_change_and_the_bill_is_complete_before_the_verification(name: str) -> None:
    play, verification = read(ANSIBLE / f'{name}.yml')
    imports = [task['ansible.builtin.import_role'] for task in play['post_tasks']]
    assert imports == [{'name': 'sysprep'}, {'name': 'inventory', 'tasks_from': 'await'}]
    assert play['roles'][-1] == 'inventory' or play['roles'][-1]['role'] == 'inventory'
    assert verification['ansible.builtin.import_playbook'] == 'verify.yml'


def test_waiting_for_the_bill_changes_nothing_on_the_builder() -> None:
    assert {task['delegate_to'] for task in tasks(read(ROLES / 'inventory' / 'tasks' / 'await.yml'))} == {'localhost'}


def test_no_task_reads_the_invocation_of_a_result() -> None:
    # ansible-core 2.21 omits it from results; older releases have it.
    assert [path for path in ANSIBLE.rglob('*.yml') if '.invocation' in path.read_text(encoding='utf-8')] == []


@pytest.mark.parametrize('text', ['docker.io=26.1.5+dfsg1-9+deb13u1+b1', 'version: 252.39-1~deb12u1', 'curl=8.14.1-2',
                                  'nginx=1.26.3-3+deb13u1', '"7.0.15-1"'])
def test_an_exact_revision_would_be_noticed(text: str) -> None:
    assert EXACT_REVISION.search(text)


def test_no_role_names_an_exact_revision_that_the_archive_drops() -> None:
    files = list(ANSIBLE.rglob('*.yml'))
    assert len(files) > 30, 'this test looks in the wrong place'
    lines = [line for path in files for line in path.read_text(encoding='utf-8').splitlines()]
    assert [line for line in lines if not line.lstrip().startswith('#') and EXACT_REVISION.search(line)] == []


def test_the_packages_of_the_engine_follow_its_release_line() -> None:
    engine = defaults_of('docker')
    assert re.fullmatch(r'\d+\.\d+', engine['docker_release'])
    versions = [name.partition('=')[2] for name in engine['docker_packages'] if name.startswith('docker')]
    assert set(versions) == {'{{ docker_release }}.*'}


@pytest.mark.parametrize('environment', ['staging', 'production'])
def test_networks_of_the_engine_do_not_overlap_the_vpc(environment: str) -> None:
    with (ROOT / 'terraform' / 'environments' / f'{environment}.tfvars').open(encoding='utf-8') as file:
        options = hcl2.SerializationOptions(strip_string_quotes=True)
        vpc = ip_network(hcl2.load(file, serialization_options=options)['vpc_cidr'])
    pools = [ip_network(pool['base']) for pool in defaults_of('docker')['docker_daemon']['default-address-pools']]
    assert pools
    assert not [pool for pool in pools if pool.overlaps(vpc)]


def kernel_settings(path: Path) -> list[str]:
    """Return the lines of a file of kernel settings, without comments."""
    return [line for line in path.read_text(encoding='utf-8').splitlines() if line and not line.startswith('#')]


def test_no_kernel_setting_is_made_twice() -> None:
    names = [line.partition('=')[0].strip() for path in SYSCTL_FILES for line in kernel_settings(path)]
    assert names
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize('path', SYSCTL_FILES, ids=lambda path: path.stem)
def test_a_kernel_setting_is_a_name_and_a_number(path: Path) -> None:
    assert [line for line in kernel_settings(path) if not re.fullmatch(r'[a-z0-9_.]+ *= *\d+', line)] == []


@pytest.mark.parametrize('path', SYSCTL_FILES, ids=lambda path: path.stem)
def test_each_group_of_kernel_settings_has_its_reason(path: Path) -> None:
    groups = path.read_text(encoding='utf-8').split('\n\n')
    assert [group for group in groups if not group.lstrip().startswith('#')] == []


def test_the_package_is_installed_where_the_units_import_it() -> None:
    packed = (ROLES / 'application' / 'tasks' / 'boot.yml').read_text(encoding='utf-8')
    (folder,) = re.findall(r"--transform='s,\^,(.*)/,'", packed)
    for name in ('visitors-.service.d', 'visitors.service.d'):
        assert f'PYTHONPATH=/{folder}' in drop_in(f'{name}/step.conf').words('Environment')


def test_an_instance_can_read_the_identity_that_the_bake_writes(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    template = ROLES / 'application' / 'templates' / f'{machine.image_file.relative_to(tmp_path)}.j2'
    values = {'application_image_name': 'visitors:1', 'application_image_id': f'sha256:{"5a" * 32}',
              'application_version': '1.0.2', 'application_commit': 'c', 'application_build_time': 't'}
    pairs = re.findall(r'"(\w+)": (\w+),', template.read_text(encoding='utf-8'))
    machine.image_file.parent.mkdir(parents=True)
    machine.image_file.write_text(json.dumps({name: values[variable] for name, variable in pairs}), encoding='utf-8')
    assert machine.image == Image('visitors:1', values['application_image_id'], '1.0.2')
