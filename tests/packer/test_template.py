"""The template of the AMI: its variables, and its agreements with release tool, playbooks and rehearsal."""

from itertools import zip_longest
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from typing import Any

import hcl2
import pytest
import yaml

from release.amis import APP, BASE, DEBIAN, PROJECT, SOURCE_NAME
from tests.support.server import ROOT

TEMPLATE = ROOT / 'packer' / 'ami.pkr.hcl'
ROLES = ROOT / 'packer' / 'ansible' / 'roles'
PROGRAMS = Path(sys.executable).parent
# The roles of each playbook that need values of a build.
ROLES_WITH_VALUES = {BASE: ('inventory',), APP: ('inventory', 'access', 'application')}
REQUIRED = ('region', 'base_ami', 'ssh_source_cidrs')

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
BAD = {
    'region': ['Frankfurt'], 'ec2_endpoint': ['localhost'], 'instance_type': ['small'], 'volume_size': ['4'],
    'subnet_id': ['mine'], 'ssh_username': ['Admin Istrator'], 'ssh_interface': ['telnet'],
    'ssh_source_cidrs': ['[]', '["0.0.0.0/0"]', '["::/0"]'], 'iam_instance_profile': ['a b'],
    'user_data_file': ['nowhere'], 'source_ami': ['', 'debian'], 'base_ami': ['base'],
    'image_archive': ['nowhere', 'packer'], 'image_name': ['visitors'], 'image_id': ['sha256:7'],
    'database_ca_file': ['nowhere'], 'ssm_agent_file': ['nowhere'], 'version': ['', 'v1'], 'commit': ['main'],
    'build_time': ['today'], 'input_hash': ['XYZ'], 'run_id': ['a b'], 'build_url': [''], 'created_by': [''],
    'manifest': [''], 'inventory_folder': [''],
}


def parse(path: Path) -> dict[str, Any]:
    options = hcl2.SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)
    with path.open(encoding='utf-8') as file:
        return hcl2.load(file, serialization_options=options)


DOCUMENT = parse(TEMPLATE)
VARIABLES = {name: body for block in DOCUMENT['variable'] for name, body in block.items()}
LOCALS = DOCUMENT['locals'][0]
BUILDER = DOCUMENT['source'][0]['amazon-ebs']['visitors']
BUILDS = {build['name']: build for build in DOCUMENT['build']}


def source_of(build: str) -> dict[str, Any]:
    return dict(BUILDS[build]['source'][0]['amazon-ebs.visitors'])


def validate(values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    if not shutil.which('packer'):
        pytest.fail('no Packer: `make test-packer` names its source', pytrace=False)
    options = [f'-var={name}={value}' for name, value in values.items()]
    environment = {'PATH': f'{PROGRAMS}:{os.environ["PATH"]}', 'HOME': '/nonexistent', 'CHECKPOINT_DISABLE': '1'}
    return subprocess.run(['packer', 'validate', *options, 'packer'], cwd=ROOT, env=environment, capture_output=True,
                          text=True, timeout=120, check=False)


@pytest.mark.packer
def test_a_template_with_every_variable_set_is_valid() -> None:
    assert GOOD.keys() == VARIABLES.keys(), 'this test has no value for a variable, or one too many'
    result = validate(GOOD)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope='module')
def refusals() -> dict[tuple[str, str], subprocess.CompletedProcess[str]]:
    """Return Packer's answer for each bad value; Packer reports all variables of a call, so three calls do."""
    results = {}
    for values in zip_longest(*BAD.values()):
        bad = {name: value for name, value in zip(BAD, values) if value is not None}
        result = validate({**{name: GOOD[name] for name in REQUIRED}, **bad})
        results.update({pair: result for pair in bad.items()})
    return results


@pytest.mark.packer
@pytest.mark.parametrize(('name', 'value'), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_by_its_name(
        refusals: dict[tuple[str, str], subprocess.CompletedProcess[str]], name: str, value: str) -> None:
    result = refusals[name, value]
    assert result.returncode != 0
    assert f'The {name} must' in result.stdout + result.stderr


def test_every_variable_except_a_switch_has_a_bad_value() -> None:
    assert BAD.keys() == {name for name, body in VARIABLES.items() if body['type'] != 'bool'}


def test_each_variable_is_described_in_a_sentence() -> None:
    assert [name for name, body in VARIABLES.items() if not re.fullmatch('[A-Z].*[.]', body['description'])] == []


def test_no_variable_is_a_secret() -> None:
    assert [name for name in VARIABLES if re.search('secret|passw|token|private|access_key', name)] == []


def test_each_plugin_is_pinned_to_a_minor_version() -> None:
    (plugins,) = parse(ROOT / 'packer' / 'plugins' / 'plugins.pkr.hcl')['packer'][0]['required_plugins']
    versions = {name: plugin['version'] for name, plugin in plugins.items()}
    assert versions.keys() == {'amazon', 'ansible'}
    assert all(re.fullmatch(r'~> \d+\.\d+\.\d+', version) for version in versions.values()), versions


@pytest.mark.parametrize('stage', [BASE, APP])
def test_the_amis_have_the_tags_that_the_release_tool_reads(stage: str) -> None:
    reads = set(re.findall(r"tags\.get\('(\w+)'", ''.join(
        (ROOT / 'release' / name).read_text(encoding='utf-8') for name in ('amis.py', 'listing.py', 'removal.py'))))
    assert {'Stage', 'Project', 'InputHash'} <= reads, 'this test looks in the wrong place'
    assert reads - {'Stage', 'Verified'} <= LOCALS['tags'].keys(), 'only `release verify` sets Verified'
    assert LOCALS['tags']['Project'] == PROJECT
    assert f'Stage = "{stage}"' in LOCALS[f'{stage}_tags']
    assert {source_of(stage)[key] for key in ('tags', 'snapshot_tags')} == {f'${{local.{stage}_tags}}'}


def test_builder_and_volume_have_the_tags_by_which_a_killed_bake_is_cleaned_up() -> None:
    assert {BUILDER[key] for key in ('run_tags', 'run_volume_tags')} == {'${local.builder_tags}'}
    assert 'Run' in LOCALS['tags']


def test_the_source_ami_is_the_one_that_the_release_tool_looks_up() -> None:
    (ami_filter,) = source_of(BASE)['source_ami_filter']
    assert (ami_filter['owners'], ami_filter['filters']['name']) == ([DEBIAN], SOURCE_NAME)


def test_every_wait_of_packer_has_a_limit() -> None:
    assert re.fullmatch(r'\d+m', BUILDER['ssh_timeout'])
    assert BUILDER['aws_polling'][0]['max_attempts'] > 0


@pytest.mark.parametrize('stage', [BASE, APP])
def test_the_template_passes_the_values_that_the_roles_of_a_playbook_require(stage: str) -> None:
    provisioner = BUILDS[stage]['provisioner'][0]['ansible']
    assert provisioner['playbook_file'].endswith(f'/{stage}.yml')
    values = set(re.findall(r'(\w+) = ', provisioner['extra_arguments']))
    specs = [yaml.safe_load((ROLES / role / 'meta' / 'argument_specs.yml').read_text(encoding='utf-8'))
             for role in ROLES_WITH_VALUES[stage]]
    options = {name: option for spec in specs for name, option in spec['argument_specs']['main']['options'].items()}
    assert {name for name, option in options.items() if option.get('required')} <= values <= options.keys()


def test_the_account_of_a_bake_is_the_one_of_the_source_ami() -> None:
    path = ROOT / 'rehearsal/machines/files/source/etc/cloud/cloud.cfg.d/01_debian_cloud.cfg'
    source = yaml.safe_load(path.read_text(encoding='utf-8'))
    assert VARIABLES['ssh_username']['default'] == source['system_info']['default_user']['name']
