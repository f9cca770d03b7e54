"""Bakes by the real release tool and the real Packer, without machines: what is baked, and what is not."""

import json
from pathlib import Path

import pytest

from tests.support.account import Account, SOURCE_AMI
from tests.support.checkout import Checkout

pytestmark = pytest.mark.packer


@pytest.fixture
def checkout(account: Account, tmp_path: Path) -> Checkout:
    """Give a checkout that can be baked in seconds."""
    return Checkout(tmp_path, account)


def test_a_bake_makes_a_released_image_once_and_takes_it_from_then_on(checkout: Checkout, account: Account) -> None:
    first = checkout.bake()
    assert first.code == 0, first
    report = checkout.report
    assert (report['baked'], report['verified'], report['released']) == (['base', 'app'], True, True)
    assert [phase['name'] for phase in report['phases']][-1] == 'verify: terminate it'
    assert not account.leftovers()
    machines = len(account.instances())

    again = checkout.bake()
    assert (again.code, again.out) == (0, first.out), again
    assert checkout.report['baked'] == []
    assert len(account.instances()) == machines, 'a machine was started although nothing has changed'
    (image,) = account.images(Stage='app')
    assert image['ImageId'] == first.out


def test_an_image_tells_what_it_was_made_of(checkout: Checkout, account: Account) -> None:
    assert checkout.bake(CI_JOB_URL='https://gitlab.example.org/job/7').code == 0
    (base,), (app,) = account.images(Stage='base'), account.images(Stage='app')
    tags = {tag['Key']: tag['Value'] for tag in app['Tags']}
    assert (tags['Version'], tags['Commit']) == ('1.0.2+build.41', '5' * 40)
    assert (tags['SourceAmi'], tags['InputHash']) == (base['ImageId'], checkout.report['keys']['app'])
    assert tags['BuildUrl'] == 'https://gitlab.example.org/job/7'
    assert (tags['Released'], tags['Verified']) == ('true', 'passed 1.0.2+build.41')
    assert {tag['Key']: tag['Value'] for tag in base['Tags']}['SourceAmi'] == SOURCE_AMI
    assert tags['Engine'] == '26.1.5+dfsg1-9', 'the exact version, where the inputs have a release line'
    assert 'docker.io 26.1.5+dfsg1-9' in checkout.bake('--explain').out
    assert (base['ImdsSupport'], app['ImdsSupport']) == ('v2.0', 'v2.0')


def test_a_changed_role_of_the_application_bakes_the_application_only(checkout: Checkout, account: Account) -> None:
    assert checkout.bake().code == 0
    checkout.add_task('application', "\n- name: More\n  ansible.builtin.command: 'true'\n  changed_when: false\n")
    again = checkout.bake()
    assert (again.code, checkout.report['baked']) == (0, ['app']), again
    assert len(account.images(Stage='base')) == 1


def test_a_changed_role_of_the_base_bakes_both(checkout: Checkout) -> None:
    assert checkout.bake().code == 0
    checkout.add_task('engine', "\n- name: More\n  ansible.builtin.command: 'true'\n  changed_when: false\n")
    again = checkout.bake()
    assert (again.code, checkout.report['baked']) == (0, ['base', 'app']), again


def test_a_forced_bake_bakes_both_although_nothing_has_changed(checkout: Checkout, account: Account) -> None:
    first = checkout.bake()
    forced = checkout.bake('--force')
    assert (forced.code, checkout.report['baked']) == (0, ['base', 'app']), forced
    assert forced.out != first.out
    assert checkout.bake().out == forced.out, 'the newest of the same inputs is the one to take'
    assert not account.leftovers()


def test_an_explanation_names_what_has_changed_and_begins_nothing(checkout: Checkout, account: Account) -> None:
    assert 'there is no AMI to compare with' in checkout.bake('--explain').out
    assert checkout.bake().code == 0
    machines = len(account.instances())
    checkout.add_task('application', "\n- name: More\n  ansible.builtin.command: 'true'\n")
    checkout.write('instance/new.py', '')
    told = checkout.bake('--explain')
    assert told.code == 0
    assert 'new      instance/new.py' in told.out
    assert 'changed  packer/ansible/roles/application/tasks/main.yml' in told.out
    assert 'role:engine' not in told.out
    assert len(account.instances()) == machines


def test_an_explanation_works_on_a_machine_that_has_nothing_but_a_clone(checkout: Checkout, tmp_path: Path) -> None:
    assert checkout.bake().code == 0
    (tmp_path / 'other').mkdir()
    other = checkout.clone(tmp_path / 'other')
    other.add_task('application', "\n- name: More\n  ansible.builtin.command: 'true'\n")
    told = json.loads(other.bake('--explain', '--json').out)
    assert told['base']['changes'] == []
    assert told['app']['changes'] == [{'name': 'role:application', 'kind': 'changed'}]


def test_an_explanation_compares_with_what_runs_rather_than_the_newest(checkout: Checkout, account: Account) -> None:
    running = checkout.bake().out
    account.run_in_a_group(running)
    checkout.write('instance/new.py', '')
    newest = checkout.bake().out
    told = checkout.bake('--explain').out
    assert f'against {running} (1.0.2+build.41, running, docker.io 26.1.5+dfsg1-9)' in told, told
    assert newest not in told
    assert 'new      instance/new.py' in told


def test_what_a_bake_leaves_beside_an_image_is_found_by_its_id(checkout: Checkout, tmp_path: Path) -> None:
    ami = checkout.bake().out
    fetched = checkout.release('artefacts', ami, '--to', str(tmp_path / 'fetched'))
    assert fetched.code == 0, fetched
    assert sorted(Path(line).name for line in fetched.out.splitlines()) == [
        'inputs.json', 'manifest.json', 'packages.tsv', 'sbom.spdx.json']
    inputs = json.loads((tmp_path / 'fetched' / ami / 'inputs.json').read_text(encoding='utf-8'))
    assert inputs['image'] == checkout.image_id


def test_artefacts_may_be_kept_in_a_bucket(checkout: Checkout, account: Account, tmp_path: Path) -> None:
    account.client('s3').create_bucket(Bucket='artefacts')
    place = {'VISITORS_ARTEFACTS': 's3://artefacts/of/visitors'}
    ami = checkout.bake(**place).out
    keys = [entry['Key'] for entry in account.client('s3').list_objects_v2(Bucket='artefacts')['Contents']]
    assert f'of/visitors/{ami}/sbom.spdx.json' in keys
    (tmp_path / 'other').mkdir()
    other = checkout.clone(tmp_path / 'other')
    other.write('instance/new.py', '')
    assert 'new      instance/new.py' in other.bake('--explain', **place).out
    assert checkout.release('remove', ami, '--yes', **place).code == 0
    left = [entry['Key'] for entry in account.client('s3').list_objects_v2(Bucket='artefacts')['Contents']]
    assert not [key for key in left if ami in key]


def test_an_image_that_was_baked_but_not_verified_is_verified_only(checkout: Checkout, account: Account) -> None:
    account.say('console', 'SELFTEST FAILED docker: it is off\n')
    failed = checkout.bake()
    assert failed.code == 6
    assert 'docker: it is off' in failed.err
    (image,) = account.images(Stage='app')

    account.say('console', 'SELFTEST PASSED {version}\n')
    again = checkout.bake()
    assert (again.code, again.out) == (0, image['ImageId']), again
    assert (checkout.report['baked'], checkout.report['verified']) == ([], True)
