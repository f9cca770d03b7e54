"""The pipeline, the update bot and the base images: what production is made with is pinned, current, and moves."""

import json
import re
from typing import Any

import pytest
import yaml

from tests.support.server import ROOT

DIGEST = re.compile(r'[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}')
PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / '.gitlab-ci.yml').read_text(encoding='utf-8'))
BOT: dict[str, Any] = json.loads((ROOT / 'renovate.json').read_text(encoding='utf-8'))
IMAGE_FILES = ('Dockerfile', 'docker-compose.yml', '.env.example')


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding='utf-8')


@pytest.mark.parametrize('name', IMAGE_FILES)
def test_a_base_image_is_named_by_its_digest(name: str) -> None:
    named = re.findall(r'^[^\n]*_IMAGE(?:=|:-)([^}\n]+)', text(name), re.MULTILINE)
    assert named
    assert [image for image in named if not DIGEST.fullmatch(image)] == []


def test_what_makes_production_runs_in_images_that_are_named_by_digest() -> None:
    images = [PIPELINE['default']['image'], PIPELINE['packer']['image']['name'], *PIPELINE['.engine']['services']]
    assert [image for image in images if not DIGEST.fullmatch(image)] == []


def test_production_is_baked_with_a_current_packer_and_its_plugins() -> None:
    floor = re.search(r'required_version = ">= (\d+)\.(\d+)', text('packer/plugins/plugins.pkr.hcl'))
    given = re.search(r'hashicorp/packer:(\d+)\.(\d+)', PIPELINE['packer']['image']['name'])
    assert floor and given
    assert tuple(map(int, given.groups())) >= tuple(map(int, floor.groups()))
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
    for lock in ('requirements.txt', 'requirements.test.txt', 'release/requirements.txt'):
        assert re.search(pattern.strip('/'), lock)


def test_bakes_on_supported_pythons_have_a_supported_ansible() -> None:
    pins = re.findall(r"^ansible-core==(\d+)\.(\d+)\S* ; python_full_version >= '3\.12'",
                      text('packer/ansible/requirements.txt'), re.MULTILINE)
    assert [(int(major), int(minor)) >= (2, 20) for major, minor in pins] == [True]
