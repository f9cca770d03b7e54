"""The removal of a broken AMI with its parts, unless something runs it or would start it; the list of AMIs."""

import json
import os
from pathlib import Path
import pty
import subprocess
import sys

import pytest

from tests.support.account import Account, SOURCE_AMI
from tests.support.checkout import Checkout, PATIENCE, START

pytestmark = pytest.mark.packer


@pytest.fixture
def checkout(account: Account, tmp_path: Path) -> Checkout:
    """Give a checkout, and an account with AMIs of both its stages."""
    made = Checkout(tmp_path, account)
    baked = made.bake()
    assert baked.code == 0, baked
    return made


def test_an_ami_is_removed_by_its_id_and_baked_again(checkout: Checkout, account: Account) -> None:
    ami = checkout.report['amis']['app']
    result = checkout.release('remove', ami, '--yes')
    assert (result.code, f'removed {ami}, app 1.0.2+build.41' in result.out) == (0, True), result
    assert not account.images(Stage='app')
    assert not account.leftovers()
    assert not (checkout.root / 'build' / 'artefacts' / ami).exists()
    again = checkout.bake()
    assert (again.code, checkout.report['baked']) == (0, ['app']), again


def test_amis_are_removed_by_their_input_hash(checkout: Checkout, account: Account) -> None:
    keys = checkout.report['keys']
    assert checkout.release('remove', keys['base'], '--yes').code == 0
    assert not account.images(Stage='base')
    assert account.images(Stage='app')


def test_a_running_ami_stays(checkout: Checkout, account: Account) -> None:
    ami = checkout.report['amis']['app']
    group = account.run_in_a_group(ami)
    result = checkout.release('remove', ami, '--yes')
    assert result.code == 3, result
    assert f'runs {ami}' in result.err
    assert f'the Auto Scaling group {group} starts {ami}' in result.err
    assert account.images(Stage='app')


def test_a_missing_or_foreign_ami_is_refused(checkout: Checkout, account: Account) -> None:
    for which, says in (('0000000000000000', 'the region us-east-1 has no AMI with the input hash 0000000000000000'),
                        ('ami-00000000000000000', 'the region us-east-1 has no AMI ami-00000000000000000'),
                        (SOURCE_AMI, 'is no AMI of this project')):
        result = checkout.release('remove', which, '--yes')
        assert (result.code, says in result.err) == (3, True), result
    assert len(account.images()) == 2


def test_a_group_of_capacity_0_that_names_an_ami_by_a_parameter_keeps_it(checkout: Checkout,
                                                                         account: Account) -> None:
    ami = checkout.report['amis']['app']
    account.client('ssm').put_parameter(Name='/visitors/ami', Value=ami, Type='String')
    account.client('ec2').create_launch_template(LaunchTemplateName='idle', LaunchTemplateData={
        'ImageId': 'resolve:ssm:/visitors/ami', 'InstanceType': 't3.small'})
    account.client('autoscaling').create_auto_scaling_group(
        AutoScalingGroupName='idle', MinSize=0, MaxSize=0, AvailabilityZones=['us-east-1a'],
        LaunchTemplate={'LaunchTemplateName': 'idle', 'Version': '$Latest'})
    result = checkout.release('remove', ami, '--yes')
    assert (result.code, f'the Auto Scaling group idle starts {ami}' in result.err) == (3, True), result
    assert account.images(Stage='app')


def test_without_confirmation_the_parts_are_shown_and_nothing_is_removed(checkout: Checkout, account: Account) -> None:
    (ami,) = account.images(Stage='app')
    snapshot = ami['BlockDeviceMappings'][0]['Ebs']['SnapshotId']
    result = checkout.release('remove', ami['ImageId'])
    assert (result.code, result.out) == (2, ''), result
    assert f'to be removed:\n  {ami["ImageId"]}, app 1.0.2+build.41, input hash ' in result.err
    assert snapshot in result.err and 'sbom.cdx.json' in result.err
    assert 'nothing was removed; in a CI and without a terminal use --yes' in result.err
    assert account.images(Stage='app')


@pytest.mark.parametrize(('answer', 'settings', 'code', 'left'), [
    ('no', {}, 2, 1), ('', {}, 2, 1), ('y', {'CI': 'true'}, 2, 1), ('y', {}, 0, 0)])
def test_a_terminal_may_confirm_but_not_in_a_ci(checkout: Checkout, account: Account, answer: str,
                                                settings: dict[str, str], code: int, left: int) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, '-c', START, json.dumps(PATIENCE), 'remove', checkout.report['amis']['app']]
    os.write(ours, f'{answer}\n'.encode())
    result = subprocess.run(command, cwd=checkout.root, env=checkout.environment(**settings), stdin=theirs, text=True,
                            capture_output=True, check=False)
    os.close(ours)
    os.close(theirs)
    assert (result.returncode, len(account.images(Stage='app'))) == (code, left), result


@pytest.mark.parametrize('which', ['ami', 'input hash'])
def test_a_second_call_finishes_a_removal_that_failed_halfway(checkout: Checkout, account: Account,
                                                              which: str) -> None:
    ami, input_hash = checkout.report['amis']['app'], checkout.report['keys']['app']
    named = {'ami': ami, 'input hash': input_hash}[which]
    account.keep_snapshot_of(ami)
    account.refuse('DeleteSnapshot', times=1, status=400, code='InvalidSnapshot.InUse')
    result = checkout.release('remove', named, '--yes')
    assert result.code == 3, result
    assert 'InvalidSnapshot.InUse' in result.err and 'Repeat the call' in result.err
    assert not account.images(Stage='app')
    assert account.leftovers()['snapshots']
    again = checkout.release('remove', named, '--yes')
    assert again.code == 0, again
    assert 'deregistered already' in again.err
    assert not account.leftovers()
    assert checkout.release('remove', named, '--yes').code == 3, 'no remains exist'


def test_files_without_an_ami_are_removed_too(checkout: Checkout, account: Account) -> None:
    ami = checkout.report['amis']['app']
    account.client('ec2').deregister_image(ImageId=ami)
    folder = checkout.root / 'build' / 'artefacts' / ami
    assert folder.exists()
    assert checkout.release('remove', ami, '--yes').code == 0
    assert not folder.exists()
    assert not account.leftovers()


def test_the_list_has_each_ami_with_its_origin_and_its_users(checkout: Checkout, account: Account) -> None:
    ami = checkout.report['amis']['app']
    group = account.run_in_a_group(ami)
    (entry, base) = json.loads(checkout.release('list', '--json').out)
    assert (entry['ami'], entry['version'], entry['released']) == (ami, '1.0.2+build.41', True)
    assert (entry['key'], entry['commit']) == (checkout.report['keys']['app'], commit_of(account, ami))
    assert 0 <= entry['age_seconds'] < 3600
    assert (len(entry['runs']), f'the Auto Scaling group {group}' in entry['starts']) == (1, True)
    assert (base['stage'], base['runs'], base['starts']) == ('base', [], [])
    lines = checkout.release('list').out.splitlines()
    assert lines[0].split()[:4] == ['AMI', 'STAGE', 'VERSION', 'COMMIT']
    assert lines[1].split()[:3] == [ami, 'app', '1.0.2+build.41']
    assert any(f'Auto Scaling group {group}' in line for line in lines)
    assert lines[-1].split()[1] == 'base' and lines[-1].endswith('  -')


def commit_of(account: Account, ami: str) -> str:
    """Return the commit in the tags of an AMI."""
    (app,) = account.images(Stage='app')
    return {tag['Key']: str(tag['Value']) for tag in app['Tags']}['Commit']


def test_a_region_without_amis_is_listed_as_such(account: Account, tmp_path: Path) -> None:
    result = Checkout(tmp_path, account).release('list')
    assert (result.code, result.out) == (0, 'no AMI of this project in the region'), result
