"""The real AMI of the application, baked from a clean clone by real Packer and Ansible on a rehearsal's machines.

The tests build on each other, in their order: a test finds the AMIs of the earlier ones.
"""

from pathlib import Path

import pytest

from tests.support.containers.fixtures import Image
from tests.support.workshop import BAKE_SECONDS, Baked, Workshop

pytestmark = [pytest.mark.ami, pytest.mark.timeout(BAKE_SECONDS + 60)]


def test_the_real_image_is_baked_boots_passes_and_is_released(
        workshop: Workshop, first_bake: Baked, image: Image) -> None:
    report = first_bake.report
    assert (report['baked'], report['verified'], report['released']) == (['base', 'app'], True, True)
    tags = workshop.tags(first_bake.ended.out)
    assert (tags['Released'], tags['Verified']) == ('true', f'passed {image.build["VERSION"]}')
    assert (tags['Version'], tags['Commit']) == (image.build['VERSION'], image.build['REVISION'])
    assert {Path(place).name for place in report['artefacts']} >= {'inputs.json', 'manifest.json', 'packages.tsv',
                                                                   'sbom.cdx.json'}
    assert not workshop.leftovers()


def test_the_same_again_starts_no_machine(workshop: Workshop, released: str) -> None:
    instances = workshop.instances()
    result = workshop.bake()
    assert (result.code, result.out) == (0, released), result
    assert workshop.report['baked'] == []
    assert workshop.instances() == instances


def test_verify_passes_the_released_image_again(workshop: Workshop, released: str) -> None:
    result = workshop.release('verify', released)
    assert result.code == 0, result
    assert not workshop.leftovers()


def test_a_changed_role_of_the_application_bakes_that_stage_only(workshop: Workshop) -> None:
    workshop.touch('application')
    assert 'changed  packer/ansible/roles/application/tasks/main.yml' in workshop.bake('--explain').out
    result = workshop.bake()
    assert (result.code, workshop.report['baked']) == (0, ['app']), result
    assert not workshop.leftovers()


def test_a_changed_role_of_the_base_bakes_both_stages(workshop: Workshop) -> None:
    workshop.touch('docker')
    result = workshop.bake()
    assert (result.code, workshop.report['baked']) == (0, ['base', 'app']), result
    assert not workshop.leftovers()
    assert workshop.cloud.gaps() == []
