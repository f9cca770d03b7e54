"""A broken image goes with all that belongs to it, unless something runs it or would start it."""

import json
import os
from pathlib import Path
import pty
import subprocess
import sys

import pytest

from tests.support.account import Account
from tests.support.checkout import Checkout, PATIENCE, START

pytestmark = pytest.mark.packer


@pytest.fixture
def checkout(account: Account, tmp_path: Path) -> Checkout:
    """Give a checkout, and an account that has images of both its stages."""
    made = Checkout(tmp_path, account)
    baked = made.bake()
    assert baked.code == 0, baked
    return made


def test_an_image_goes_by_its_id_and_is_baked_anew(checkout: Checkout, account: Account) -> None:
    ami = checkout.report['amis']['app']
    done = checkout.release('remove', ami, '--yes')
    assert (done.code, f'removed {ami}, app 1.0.2+build.41' in done.out) == (0, True), done
    assert not account.images(Stage='app')
    assert not account.leftovers()
    assert not (checkout.root / 'build' / 'artefacts' / ami).exists()
    again = checkout.bake()
    assert (again.code, checkout.report['baked']) == (0, ['app']), again


def test_images_go_by_their_key(checkout: Checkout, account: Account) -> None:
    keys = checkout.report['keys']
    assert checkout.release('remove', keys['base'], '--yes').code == 0
    assert not account.images(Stage='base')
    assert account.images(Stage='app')


def test_an_image_that_runs_stays(checkout: Checkout, account: Account) -> None:
    ami = checkout.report['amis']['app']
    group = account.run_in_a_group(ami)
    done = checkout.release('remove', ami, '--yes')
    assert done.code == 3, done
    assert f'runs {ami}' in done.err
    assert f'the Auto Scaling group {group} starts {ami}' in done.err
    assert account.images(Stage='app')


def test_what_is_not_there_or_not_ours_is_refused(checkout: Checkout, account: Account) -> None:
    for which, says in (('0000000000000000', 'the region us-east-1 has no AMI with the input hash 0000000000000000'),
                        ('ami-0123456789abcdef0', 'the region us-east-1 has no AMI ami-0123456789abcdef0'),
                        ('ami-0debian13newest', 'is no AMI of this project')):
        done = checkout.release('remove', which, '--yes')
        assert (done.code, says in done.err) == (3, True), done
    assert len(account.images()) == 2


def test_a_group_at_capacity_0_that_takes_it_from_a_parameter_keeps_an_image(checkout: Checkout,
                                                                             account: Account) -> None:
    ami = checkout.report['amis']['app']
    account.client('ssm').put_parameter(Name='/visitors/ami', Value=ami, Type='String')
    account.client('ec2').create_launch_template(LaunchTemplateName='idle', LaunchTemplateData={
        'ImageId': 'resolve:ssm:/visitors/ami', 'InstanceType': 't3.small'})
    account.client('autoscaling').create_auto_scaling_group(
        AutoScalingGroupName='idle', MinSize=0, MaxSize=0, AvailabilityZones=['us-east-1a'],
        LaunchTemplate={'LaunchTemplateName': 'idle', 'Version': '$Latest'})
    done = checkout.release('remove', ami, '--yes')
    assert (done.code, f'the Auto Scaling group idle starts {ami}' in done.err) == (3, True), done
    assert account.images(Stage='app')


def test_without_a_word_nothing_is_removed_and_what_would_be_is_shown(checkout: Checkout, account: Account) -> None:
    (image,) = account.images(Stage='app')
    snapshot = image['BlockDeviceMappings'][0]['Ebs']['SnapshotId']
    done = checkout.release('remove', image['ImageId'])
    assert (done.code, done.out) == (2, ''), done
    assert f'to be removed:\n  {image["ImageId"]}, app 1.0.2+build.41, input hash ' in done.err
    assert snapshot in done.err and 'sbom.spdx.json' in done.err
    assert 'nothing was removed; in a CI and without a terminal use --yes' in done.err
    assert account.images(Stage='app')


@pytest.mark.parametrize(('answer', 'settings', 'code', 'left'), [
    ('no', {}, 2, 1), ('', {}, 2, 1), ('y', {'CI': 'true'}, 2, 1), ('y', {}, 0, 0)])
def test_a_terminal_may_answer_but_not_in_a_ci(checkout: Checkout, account: Account, answer: str,
                                               settings: dict[str, str], code: int, left: int) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, '-c', START, json.dumps(PATIENCE), 'remove', checkout.report['amis']['app']]
    os.write(ours, f'{answer}\n'.encode())
    done = subprocess.run(command, cwd=checkout.root, env=checkout.environment(**settings), stdin=theirs, text=True,
                          capture_output=True, check=False)
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, len(account.images(Stage='app'))) == (code, left), done


@pytest.mark.parametrize('which', ['ami', 'key'])
def test_a_removal_that_failed_half_way_goes_on_when_it_is_called_again(checkout: Checkout, account: Account,
                                                                        which: str) -> None:
    ami, key = checkout.report['amis']['app'], checkout.report['keys']['app']
    named = {'ami': ami, 'key': key}[which]
    account.refuse(1, 'DeleteSnapshot', status=400, code='InvalidSnapshot.InUse')
    done = checkout.release('remove', named, '--yes')
    assert (done.code, 'InvalidSnapshot.InUse' in done.err, 'Repeat the call' in done.err) == (3, True, True), done
    assert not account.images(Stage='app')
    assert account.leftovers()['snapshots']
    again = checkout.release('remove', named, '--yes')
    assert again.code == 0, again
    assert 'deregistered already' in again.err
    assert not account.leftovers()
    assert checkout.release('remove', named, '--yes').code == 3, 'now there is nothing of it'


def test_files_without_an_image_are_removed_as_well(checkout: Checkout, account: Account) -> None:
    ami = checkout.report['amis']['app']
    account.client('ec2').deregister_image(ImageId=ami)
    folder = checkout.root / 'build' / 'artefacts' / ami
    assert folder.exists()
    assert checkout.release('remove', ami, '--yes').code == 0
    assert not folder.exists()
    assert not account.leftovers()


def test_the_list_has_each_image_with_what_it_is_and_what_uses_it(checkout: Checkout, account: Account) -> None:
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
    """Return what the tags of an image say."""
    (image,) = account.images(Stage='app')
    return {tag['Key']: str(tag['Value']) for tag in image['Tags']}['Commit']


def test_an_empty_region_is_said_to_be_empty(account: Account, tmp_path: Path) -> None:
    done = Checkout(tmp_path, account).release('list')
    assert (done.code, done.out) == (0, 'no AMI of this project in the region'), done
