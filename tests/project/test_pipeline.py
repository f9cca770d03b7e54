"""The pipeline, the update bot and the base images: the tools of production are pinned, current, and updated."""

import dataclasses
import json
import re
from typing import Any

import pytest
import yaml

from release.amis import APP
from release.bake import Outcome
from release.plan_report import report_of
from tests.support.server import ROOT

DIGEST = re.compile(r'[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}')
PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / '.gitlab-ci.yml').read_text(encoding='utf-8'))
BOT: dict[str, Any] = json.loads((ROOT / 'renovate.json').read_text(encoding='utf-8'))
ENVIRONMENTS = sorted(path.stem for path in (ROOT / 'terraform' / 'environments').glob('*.tfvars'))
IMAGE_FILES = ('Dockerfile', 'docker-compose.yml', '.env.example')


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding='utf-8')


@pytest.mark.parametrize('name', IMAGE_FILES)
def test_a_base_image_is_named_by_its_digest(name: str) -> None:
    named = re.findall(r'^[^\n]*_IMAGE(?:=|:-)([^}\n]+)', text(name), re.MULTILINE)
    assert named
    assert [image for image in named if not DIGEST.fullmatch(image)] == []


def test_what_makes_production_runs_in_images_that_are_named_by_digest() -> None:
    images = [PIPELINE['default']['image'], PIPELINE['packer']['image']['name'],
              PIPELINE['terraform']['image']['name'], *PIPELINE['.engine']['services']]
    assert [image for image in images if not DIGEST.fullmatch(image)] == []


def test_production_is_baked_with_a_current_packer_and_its_plugins() -> None:
    floor = re.search(r'required_version = ">= (\d+)\.(\d+)', text('packer/plugins/plugins.pkr.hcl'))
    pinned = re.search(r'hashicorp/packer:(\d+)\.(\d+)', PIPELINE['packer']['image']['name'])
    assert floor and pinned
    assert tuple(map(int, pinned.groups())) >= tuple(map(int, floor.groups()))
    assert 'packer' in PIPELINE['bake']['needs']
    made, used = PIPELINE['packer'], PIPELINE['bake']
    assert made['variables']['PACKER_PLUGIN_PATH'] == used['variables']['PACKER_PLUGIN_PATH']
    assert made['artifacts']['paths'] == ['build/packer']
    assert used['script'][0] == 'export PATH="$CI_PROJECT_DIR/build/packer:$PATH"'


def test_a_schedule_bakes_although_nothing_has_changed_and_nothing_else_does() -> None:
    first, second = PIPELINE['bake']['rules']
    assert 'schedule' in first['if']
    assert first['variables'] == {'OPTIONS': '--force'}
    assert 'variables' not in second
    assert PIPELINE['bake']['variables']['OPTIONS'] == ''
    assert PIPELINE['bake']['script'][-1].endswith('OPTIONS="$OPTIONS"')


def with_bases(name: str) -> dict[str, Any]:
    """Return a job with everything that it inherits, as GitLab merges it."""
    job = PIPELINE[name]
    if 'extends' not in job:
        return dict(job)
    base = with_bases(job['extends'])
    return {**base, **job, 'variables': {**base.get('variables', {}), **job.get('variables', {})}}


@pytest.mark.parametrize('environment', ENVIRONMENTS)
@pytest.mark.parametrize(('job', 'role'), [
    ('review', 'review'), ('drift', 'plan'), ('plan', 'plan'), ('apply', 'apply')])
def test_a_job_of_an_environment_asks_for_the_role_of_its_stage(job: str, role: str, environment: str) -> None:
    merged = with_bases(f'{job}-{environment}')
    assert merged['id_tokens']['AWS_OIDC']['aud'] == f'visitors-{role}-{environment}'
    assert merged['variables']['AWS_ROLE_ARN'] == f'${role.upper()}_ROLE_ARN'
    assert merged['variables']['ENVIRONMENT'] == merged['environment']['name'] == environment
    assert merged['script'][0].startswith(f'make {job} ENVIRONMENT="$ENVIRONMENT"')
    assert f'visitors-{role}-${{environment}}"' in text('terraform/bootstrap/roles.tf')


def test_a_job_of_an_environment_signs_in_as_the_bake_does() -> None:
    assert PIPELINE['.stack']['before_script'][:-1] == PIPELINE['.aws']['before_script']


@pytest.mark.parametrize('environment', ENVIRONMENTS)
def test_an_apply_gets_the_plan_of_its_pipeline_and_runs_alone(environment: str) -> None:
    plan, apply = with_bases(f'plan-{environment}'), with_bases(f'apply-{environment}')
    assert f'plan-{environment}' in apply['needs']
    assert plan['artifacts']['paths'] == ['build/plan']
    assert 'PLANS ?= build/plan\n' in text('Makefile')
    assert plan['resource_group'] == apply['resource_group'] == environment
    assert not plan['interruptible'] and not apply['interruptible']


def test_only_merge_requests_are_reviewed_and_only_the_default_branch_is_planned_and_applied() -> None:
    for environment in ENVIRONMENTS:
        (rule,) = with_bases(f'review-{environment}')['rules']
        assert rule['if'] == '$CI_PIPELINE_SOURCE == "merge_request_event"'
        for job in ('drift', 'plan', 'apply'):
            assert all('$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH' in rule['if']
                       for rule in with_bases(f'{job}-{environment}')['rules']), (job, environment)


def test_production_follows_staging_with_the_same_ami_when_a_person_starts_it() -> None:
    assert {'bake', 'apply-staging'} <= set(PIPELINE['plan-production']['needs'])
    assert with_bases('plan-production')['script'] == with_bases('plan-staging')['script']
    assert [rule.get('when') for rule in with_bases('apply-production')['rules']] == ['manual']
    assert 'when' not in with_bases('apply-staging')['rules'][0]


def test_the_pipeline_finds_the_ami_where_a_bake_reports_it() -> None:
    (command,) = re.findall(r"python3 -c '([^']+)'", PIPELINE['.plan']['script'][0])
    assert '["amis"]["app"]' in command
    assert 'amis' in {field.name for field in dataclasses.fields(Outcome)}
    assert APP == 'app'


def test_the_report_of_a_plan_counts_a_replacement_twice() -> None:
    changes = [['create'], ['update'], ['delete', 'create'], ['no-op'], ['read']]
    assert report_of({'resource_changes': [{'change': {'actions': actions}} for actions in changes]}) == {
        'create': 2, 'update': 1, 'delete': 1}
    assert report_of({}) == {'create': 0, 'update': 0, 'delete': 0}


@pytest.mark.parametrize(('path', 'found'), [
    ('Dockerfile', 1), ('docker-compose.yml', 2), ('.env.example', 2), ('packer/plugins/plugins.pkr.hcl', 2),
    ('packer/ansible/roles/docker/defaults/main.yml', 1)])
def test_the_update_bot_finds_every_pin(path: str, found: int) -> None:
    managers = [manager for manager in BOT['customManagers']
                if any(re.search(pattern.strip('/'), path) for pattern in manager['managerFilePatterns'])]
    assert len(managers) == 1
    # Both kinds of regular expressions write groups almost alike.
    (expression,) = (each.replace('(?<', '(?P<') for each in managers[0]['matchStrings'])
    assert len(re.findall(expression, text(path))) == found


def test_every_lock_is_the_update_bots() -> None:
    (pattern,) = BOT['pip-compile']['managerFilePatterns']
    for lock in ('requirements.txt', 'requirements.test.txt', 'release/requirements.txt',
                 'packer/ansible/requirements.txt', 'terraform/requirements.txt'):
        assert re.search(pattern.strip('/'), lock)
        assert text(lock).startswith('# This file was autogenerated by uv'), 'the bot reads the command there'


def test_the_update_bot_moves_the_provider_of_terraform() -> None:
    assert 'terraform' in BOT['enabledManagers']
    assert re.search(r'source  = "hashicorp/aws"\n\s+version = "~> \d+\.\d+"', text('terraform/versions.tf'))


def test_bakes_on_supported_pythons_have_a_supported_ansible() -> None:
    pins = re.findall(r"^ansible-core==(\d+)\.(\d+)\S* ; python_full_version >= '3\.12'",
                      text('packer/ansible/requirements.txt'), re.MULTILINE)
    assert [(int(major), int(minor)) >= (2, 20) for major, minor in pins] == [True]
