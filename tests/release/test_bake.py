"""Bakes by the real release tool and the real Packer, without instances: the stages that are baked, and the result."""

import json
from pathlib import Path

import pytest

from tests.support.account import Account, SOURCE_AMI
from tests.support.checkout import Checkout

pytestmark = pytest.mark.packer


@pytest.fixture
def checkout(account: Account, tmp_path: Path) -> Checkout:
    """Give a checkout that bakes in seconds."""
    return Checkout(tmp_path, account)


def test_a_bake_makes_a_released_ami_once_and_then_finds_it(checkout: Checkout, account: Account) -> None:
    first = checkout.bake()
    assert first.code == 0, first
    report = checkout.report
    assert (report['baked'], report['verified'], report['released']) == (['base', 'app'], True, True)
    assert [phase['name'] for phase in report['phases']][-1] == 'verify: terminate it'
    assert not account.leftovers()
    instances = len(account.instances())

    again = checkout.bake()
    assert (again.code, again.out) == (0, first.out), again
    assert checkout.report['baked'] == []
    assert len(account.instances()) == instances, 'an instance was started although nothing changed'
    (ami,) = account.images(Stage='app')
    assert ami['ImageId'] == first.out


def test_the_tags_of_an_ami_name_its_inputs(checkout: Checkout, account: Account) -> None:
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


def test_a_forced_bake_bakes_both_even_if_nothing_changed(checkout: Checkout, account: Account) -> None:
    first = checkout.bake()
    forced = checkout.bake('--force')
    assert (forced.code, checkout.report['baked']) == (0, ['base', 'app']), forced
    assert forced.out != first.out
    assert checkout.bake().out == forced.out, 'the newest of the same inputs is the one to take'
    assert not account.leftovers()


def test_an_explanation_names_the_changes_and_starts_nothing(checkout: Checkout, account: Account) -> None:
    assert 'there is no AMI to compare with' in checkout.bake('--explain').out
    assert checkout.bake().code == 0
    instances = len(account.instances())
    checkout.add_task('application', "\n- name: More\n  ansible.builtin.command: 'true'\n")
    checkout.write('instance/new.py', '')
    explanation = checkout.bake('--explain')
    assert explanation.code == 0
    assert 'new      instance/new.py' in explanation.out
    assert 'changed  packer/ansible/roles/application/tasks/main.yml' in explanation.out
    assert 'role:engine' not in explanation.out
    assert len(account.instances()) == instances


def test_an_explanation_needs_nothing_but_a_clone(checkout: Checkout, tmp_path: Path) -> None:
    assert checkout.bake().code == 0
    (tmp_path / 'other').mkdir()
    other = checkout.clone(tmp_path / 'other')
    other.add_task('application', "\n- name: More\n  ansible.builtin.command: 'true'\n")
    explanation = json.loads(other.bake('--explain', '--json').out)
    assert explanation['base']['changes'] == []
    assert explanation['app']['changes'] == [{'name': 'role:application', 'kind': 'changed'}]


def test_an_explanation_compares_with_the_running_ami_rather_than_the_newest(
        checkout: Checkout, account: Account) -> None:
    running = checkout.bake().out
    account.run_in_a_group(running)
    checkout.write('instance/new.py', '')
    newest = checkout.bake().out
    explanation = checkout.bake('--explain').out
    assert f'against {running} (1.0.2+build.41, running, docker.io 26.1.5+dfsg1-9)' in explanation, explanation
    assert newest not in explanation
    assert 'new      instance/new.py' in explanation


def test_the_artefacts_of_an_ami_are_fetched_by_its_id(checkout: Checkout, tmp_path: Path) -> None:
    ami = checkout.bake().out
    fetched = checkout.release('artefacts', ami, '--to', str(tmp_path / 'fetched'))
    assert fetched.code == 0, fetched
    assert sorted(Path(line).name for line in fetched.out.splitlines()) == [
        'inputs.json', 'manifest.json', 'packages.tsv', 'sbom.cdx.json']
    inputs = json.loads((tmp_path / 'fetched' / ami / 'inputs.json').read_text(encoding='utf-8'))
    assert inputs['image'] == checkout.image_id


def test_artefacts_may_be_stored_in_a_bucket(checkout: Checkout, account: Account, tmp_path: Path) -> None:
    account.client('s3').create_bucket(Bucket='artefacts')
    place = {'VISITORS_ARTEFACTS': 's3://artefacts/of/visitors'}
    ami = checkout.bake(**place).out
    keys = [entry['Key'] for entry in account.client('s3').list_objects_v2(Bucket='artefacts')['Contents']]
    assert f'of/visitors/{ami}/sbom.cdx.json' in keys
    (tmp_path / 'other').mkdir()
    other = checkout.clone(tmp_path / 'other')
    other.write('instance/new.py', '')
    assert 'new      instance/new.py' in other.bake('--explain', **place).out
    assert checkout.release('remove', ami, '--yes', **place).code == 0
    left = [entry['Key'] for entry in account.client('s3').list_objects_v2(Bucket='artefacts')['Contents']]
    assert not [key for key in left if ami in key]


def test_an_ami_that_failed_its_self_test_is_verified_again_and_not_baked_again(
        checkout: Checkout, account: Account) -> None:
    account.say('SELFTEST FAILED docker: it is off\n')
    failed = checkout.bake()
    assert failed.code == 6
    assert 'docker: it is off' in failed.err
    (ami,) = account.images(Stage='app')

    account.say('SELFTEST PASSED {Version}\n')
    again = checkout.bake()
    assert (again.code, again.out) == (0, ami['ImageId']), again
    assert (checkout.report['baked'], checkout.report['verified']) == ([], True)
