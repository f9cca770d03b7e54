"""The verification of an AMI: the console of its copy decides, and the copy is terminated in any case."""

from pathlib import Path
import re
import subprocess
from typing import Any

from hypothesis import given, strategies as st
import pytest

from rehearsal.faults import Fault
from release.errors import NotReady
from release.selftest_output import end_of, Verdict, verdict_of
from release.userdata import render
from tests.support.account import Account, SOURCE_AMI
from tests.support.checkout import Checkout, Ended, ended
from tests.support.server import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.packer


@pytest.mark.parametrize(('console', 'verdict'), [
    ('boot\nSELFTEST PASSED 1.0.2+build.41\n', Verdict('1.0.2+build.41')),
    ('boot\r\n\x1b[32mSELFTEST PASSED 1.0.2\x1b[0m\r\n', Verdict('1.0.2')),
    ('[   12.345678] python3[611]: SELFTEST PASSED 1.0.2\n', Verdict('1.0.2')),
    ('SELFTEST FAILED docker: it is off\n', Verdict(failures=('docker: it is off',))),
    ('SELFTEST FAILED a: b\nSELFTEST FAILED c: d\nSELFTEST FAILED a: b\n', Verdict(failures=('a: b', 'c: d'))),
    ('SELFTEST PASSED 1.0.2\nSELFTEST FAILED a: b\n', Verdict(failures=('a: b',))),
    ('boot\nSELFTEST PASSED\n', None), ('SELFTEST RUNNING\n', None), ('the SELFTEST PASSED 1\n', None), ('', None),
])
def test_a_console_is_read_line_by_line(console: str, verdict: Verdict | None) -> None:
    assert verdict_of(console) == verdict


@given(st.text(max_size=300))
def test_no_console_is_too_strange(console: str) -> None:
    verdict_of(console)
    assert end_of(console)


def test_the_lines_of_a_boot_are_shown_however_much_the_system_prints_after_them() -> None:
    reason = '[    3.1] python3[7]: visitors FAILED in config: no instance.env; turning off'
    system = [f'unit {number}' for number in range(40)]
    console = '\n'.join(['first', 'visitors network: 1.00 s: online', reason, *system])
    shown = end_of(console).splitlines()
    assert shown[:3] == ['  | visitors network: 1.00 s: online', f'  | {reason}', '  | unit 25']
    assert shown[-1] == '  | unit 39'


def test_another_version_than_the_tag_of_the_ami_is_an_objection() -> None:
    assert Verdict('1.0.1').objections('1.0.2') == (
        'version: the instance runs 1.0.1, but the tag of the AMI says 1.0.2',)
    assert Verdict('1.0.2').objections('1.0.2') == ()


def test_the_user_data_are_the_template_with_the_settings() -> None:
    text = render(ROOT, {'SELFTEST': '1', 'AWS_REGION': 'eu-central-1'})
    assert '\nSELFTEST=1\nAWS_REGION=eu-central-1\n' in text
    assert '${' not in text


@pytest.mark.parametrize(('template', 'says'), [
    (None, 'No such file'), ('nothing', '0 times instead of once'), ('${environment}${environment}', '2 times'),
    ('${environment}' + 'x' * 16400, 'EC2 accepts 16384'),
])
def test_an_unusable_template_is_named(tmp_path: Path, template: str | None, says: str) -> None:
    if template is not None:
        (tmp_path / 'instance').mkdir()
        (tmp_path / 'instance' / 'user-data.tftpl').write_text(template, encoding='utf-8')
    with pytest.raises(NotReady, match=says):
        render(tmp_path, {'SELFTEST': '1'})


@pytest.fixture(scope='module')
def checkout(shared_account: Account, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Give a checkout, and an account with an AMI of it, which the tests share."""
    shared_account.reset()
    made = Checkout(tmp_path_factory.mktemp('verify'), shared_account)
    baked = made.bake()
    assert baked.code == 0, baked
    return made


@pytest.fixture
def ami(checkout: Checkout) -> str:
    """Give the id of the AMI."""
    checkout.account.say('SELFTEST PASSED {Version}\n')
    checkout.account.recover()
    (app,) = checkout.account.images(Stage='app')
    return str(app['ImageId'])


def tags(checkout: Checkout) -> dict[str, str]:
    """Return the tags of the AMI."""
    (app,) = checkout.account.images(Stage='app')
    return {tag['Key']: tag['Value'] for tag in app['Tags']}


def copies(checkout: Checkout) -> list[dict[str, Any]]:
    """Return all copies, also terminated ones, the newest last."""
    running = [each for each in checkout.account.instances()
               if {'Key': 'Purpose', 'Value': 'verify'} in each.get('Tags', [])]
    return sorted(running, key=lambda each: str(each['LaunchTime']))


def test_an_ami_that_passes_is_released_with_the_time_and_the_version(checkout: Checkout, ami: str) -> None:
    result = checkout.release('verify', ami)
    assert result.code == 0, result
    assert result.out == f'{ami} is released: it passed its self-test as version 1.0.2+build.41'
    assert (tags(checkout)['Released'], tags(checkout)['Verified']) == ('true', 'passed 1.0.2+build.41')
    assert tags(checkout)['VerifiedAt'].endswith('Z')
    assert not checkout.account.leftovers()


def test_the_user_data_of_the_copy_ask_for_a_self_test_and_its_tags_name_the_run(checkout: Checkout, ami: str) -> None:
    checkout.release('verify', ami)
    copy = copies(checkout)[-1]
    shown = {tag['Key']: tag['Value'] for tag in copy['Tags']}
    assert (shown['Project'], shown['Image']) == ('visitors', ami)
    assert shown['Run']
    ec2 = checkout.account.client('ec2')
    data = ec2.describe_instance_attribute(InstanceId=copy['InstanceId'], Attribute='userData')['UserData']['Value']
    text = subprocess.run(['base64', '--decode'], input=data, capture_output=True, text=True, check=True).stdout
    assert '\nSELFTEST=1\n' in text
    assert copy['MetadataOptions']['HttpTokens'] == 'required'
    shutdown = ec2.describe_instance_attribute(InstanceId=copy['InstanceId'],
                                               Attribute='instanceInitiatedShutdownBehavior')
    assert shutdown['InstanceInitiatedShutdownBehavior']['Value'] == 'terminate'


def test_an_ami_that_fails_is_not_released_and_every_failed_check_is_named(checkout: Checkout, ami: str) -> None:
    checkout.account.say('SELFTEST FAILED host keys: one is left\nSELFTEST FAILED docker: it is off\n')
    result = checkout.release('verify', ami)
    assert result.code == 6, result
    assert 'host keys: one is left\n  docker: it is off' in result.err
    assert tags(checkout)['Released'] == 'false'
    assert tags(checkout)['Verified'] == 'failed host keys: one is left; docker: it is off'
    assert not checkout.account.leftovers()


def test_a_copy_of_another_version_does_not_pass(checkout: Checkout, ami: str) -> None:
    checkout.account.say('SELFTEST PASSED 0.9.0\n')
    result = checkout.release('verify', ami)
    assert (result.code, 'the instance runs 0.9.0' in result.err) == (6, True), result
    assert tags(checkout)['Released'] == 'false'


@pytest.mark.parametrize(('console', 'says'), [
    ('kernel panic\n', 'the copy ended without a verdict'),
    ('[   20.1] python3[7]: visitors FAILED in user data: cloud-final.service ended with exit-code; turning off\n'
     'Reached target poweroff\n', 'the copy FAILED in user data: cloud-final.service ended with exit-code'),
])
def test_a_copy_that_ends_without_a_verdict_fails_with_its_own_reason(checkout: Checkout, ami: str,
                                                                      console: str, says: str) -> None:
    checkout.account.say(console)
    before = len(copies(checkout))
    process = checkout.start('verify', ami)
    copy = new_copy(checkout, before)
    checkout.account.client('ec2').terminate_instances(InstanceIds=[copy])
    result = ended(process)
    assert result.code == 6, result
    assert says in result.err
    assert f'| {console.splitlines()[-1]}' in result.err
    assert tags(checkout)['Verified'].startswith(f'no verdict: {says}')


def new_copy(checkout: Checkout, before: int) -> str:
    """Return the id of the next copy."""
    eventually(lambda: len(copies(checkout)) > before, 'a copy is started')
    return str(copies(checkout)[-1]['InstanceId'])


def test_without_a_verdict_in_time_a_released_ami_stays_released(checkout: Checkout, ami: str) -> None:
    assert checkout.release('verify', ami).code == 0
    checkout.account.say('booting\n')
    result = checkout.verify_in_vain(ami)
    assert result.code == 7, result
    assert tags(checkout)['Released'] == 'true'
    assert re.match('no verdict: timed out after [0-9]+ s waiting for the verdict', tags(checkout)['Verified'])
    assert not checkout.account.leftovers()


def test_an_outage_of_aws_costs_no_call_of_a_verification(checkout: Checkout, ami: str) -> None:
    checkout.account.refuse(times=8)
    result = checkout.release('verify', ami)
    checkout.account.recover()
    assert (result.code, tags(checkout)['Released']) == (0, 'true'), result
    assert f'{Fault.message}; retrying for ' in result.err
    assert {'DescribeImages', 'RunInstances', 'GetConsoleOutput', 'DescribeInstances', 'CreateTags',
            'TerminateInstances', 'DescribeVolumes'} <= set(checkout.account.refused)
    assert not checkout.account.leftovers()


@pytest.mark.parametrize(('which', 'says'), [
    ('ami-00000000000000000', 'the region us-east-1 has no such AMI'),
    (SOURCE_AMI, 'is no AMI of this project: it has no tag Project=visitors'),
])
def test_an_ami_of_another_project_is_refused(checkout: Checkout, which: str, says: str) -> None:
    result: Ended = checkout.release('verify', which)
    assert (result.code, says in result.err) == (3, True), result
