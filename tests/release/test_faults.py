"""The failures of a bake: each has its exit code and a line with advice, and leaves nothing behind."""

from collections.abc import Callable
import os
from pathlib import Path
import signal
import stat
import subprocess
import sys
import time

import pytest

from release import packer
from release.errors import ToolFailed
from release.packer import Build, Packer
from release.progress import Progress, View
from release.waiting import Deadline
from tests.support.account import Account
from tests.support.archives import make_archive
from tests.support.checkout import ANSIBLE, Checkout, Ended, ended, PATIENCE, processes_with, without, WITHOUT_VERDICT

pytestmark = pytest.mark.packer
PHASES = ['read the inputs', 'app: take the lock', 'base: launch', 'base: provision', 'base: AMI', 'base: clean up',
          'base: finish', 'app: launch', 'app: provision', 'verify: start a copy', 'verify: self-test',
          'verify: terminate it']


@pytest.fixture
def checkout(account: Account, tmp_path: Path) -> Checkout:
    """Give a checkout that bakes in seconds."""
    return Checkout(tmp_path, account)


def at(process: 'subprocess.Popen[str]', text: str, act: Callable[[], None], timeout: float = 400) -> Ended:
    """Act as soon as a process prints a text, and return its end."""
    assert process.stderr
    output = ''
    for line in process.stderr:
        output += line
        if text in line:
            act()
            break
    result = ended(process, timeout)
    return Ended(result.code, result.out, output + result.err)


def test_without_credentials_nothing_starts(checkout: Checkout, account: Account) -> None:
    settings = {'AWS_ACCESS_KEY_ID': '', 'AWS_SECRET_ACCESS_KEY': '', 'AWS_CONFIG_FILE': 'none',
                'AWS_SHARED_CREDENTIALS_FILE': 'none'}
    result = checkout.bake(**settings)
    assert result.code == 3, result
    assert 'no AWS credentials' in result.err
    assert 'AWS_PROFILE' in result.err
    assert not account.instances()


def test_without_a_region_nothing_starts(checkout: Checkout) -> None:
    result = checkout.bake(AWS_REGION='', AWS_CONFIG_FILE='none')
    assert (result.code, 'no region: set AWS_REGION' in result.err) == (3, True), result


def test_a_region_without_an_ami_of_debian_is_named(checkout: Checkout, account: Account) -> None:
    result = checkout.bake('--region', 'eu-central-1')
    assert result.code == 3, result
    assert 'the region eu-central-1 has no AMI debian-13-amd64-* of Debian (account 136693071363)' in result.err


def test_a_missing_packer_is_reported_with_the_package_to_install(
        checkout: Checkout, tmp_path: Path, account: Account) -> None:
    result = checkout.bake(PATH=without('packer', checkout.environment(), tmp_path / 'programs'))
    assert result.code == 5, result
    assert "Packer is not installed; install Debian's package `packer`" in result.err
    assert not account.leftovers()


def test_a_failing_playbook_is_reported_with_its_task_and_message(account: Account, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, account, ANSIBLE)
    checkout.add_task('engine', "\n- name: The package is there\n  ansible.builtin.shell: 'echo no such package >&2; "
                                "exit 3'\n")
    result = checkout.bake()
    assert result.code == 5, result
    assert 'the task "engine : The package is there" failed: non-zero return code: no such package' in result.err
    assert not account.leftovers()
    assert not account.images()
    log = result.err.rpartition('its whole output: ')[2].strip()
    assert 'PLAY RECAP' in Path(log).read_text(encoding='utf-8')


def test_a_packer_that_is_killed_leaves_nothing(checkout: Checkout, account: Account) -> None:
    process = checkout.start('bake', '--archive', str(checkout.archive))
    result = at(process, 'The machine is patient', lambda: kill_packer_of(process))
    assert (result.code, 'Packer ended with -9' in result.err) == (5, True), result
    assert not account.leftovers()
    assert not account.images()


def kill_packer_of(process: 'subprocess.Popen[str]') -> None:
    """Kill Packer and its children, so that it cannot clean up."""
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text(encoding='ascii').split()
    for child in children:
        os.killpg(int(child), signal.SIGKILL)


def test_a_template_that_packer_refuses_is_reported(checkout: Checkout, account: Account) -> None:
    checkout.write('packer/wrong.pkr.hcl', 'variable "no" { default = ')
    result = checkout.bake()
    assert result.code == 5, result
    assert 'wrong.pkr.hcl' in result.err
    assert not account.leftovers()


def test_an_archive_with_the_name_of_another_image_starts_nothing(checkout: Checkout, account: Account,
                                                                  tmp_path: Path) -> None:
    wrong = tmp_path / ('0' * 64 + '.tar')
    make_archive(wrong)
    result = checkout.release('bake', '--archive', str(wrong))
    assert result.code == 3, result
    assert f'the image in it has the digest {checkout.image_id} instead of sha256:{"0" * 64}' in result.err
    assert not account.instances()


def test_an_ami_that_never_becomes_available_is_removed(checkout: Checkout, account: Account) -> None:
    account.keep_new_amis('pending')
    result = checkout.bake(AWS_MAX_ATTEMPTS='3')
    assert result.code == 5, result
    assert 'exceeded wait attempts' in result.err
    assert not account.leftovers()
    assert not account.images()


def test_a_bake_ends_at_its_time_limit_and_leaves_nothing(checkout: Checkout, account: Account) -> None:
    account.keep_new_amis('pending')
    result = checkout.bake('--timeout', '12')
    assert result.code == 7, result
    assert 'timed out after 12 s waiting for ' in result.err
    assert not account.leftovers()


def test_an_ami_whose_files_changed_during_its_bake_is_removed(checkout: Checkout, account: Account) -> None:
    process = checkout.start('bake', '--archive', str(checkout.archive))
    result = at(process, 'The machine is patient', lambda: checkout.write('packer/ansible/late.yml', '- hosts: all\n'))
    assert result.code == 3, result
    assert 'input files changed during the bake of ami-' in result.err
    assert not account.leftovers()
    assert not account.images()


def test_an_untracked_file_starts_nothing(checkout: Checkout, account: Account) -> None:
    (checkout.root / 'packer' / 'ansible' / 'roles' / 'engine' / 'forgotten.yml').touch()
    result = checkout.bake()
    assert result.code == 3, result
    assert 'untracked: packer/ansible/roles/engine/forgotten.yml;' in result.err
    assert not account.instances()


def test_a_self_test_without_a_verdict_times_out(checkout: Checkout, account: Account) -> None:
    ami = checkout.bake().out
    account.say('booting\nstill booting\n')
    result = checkout.verify_in_vain(ami)
    assert result.code == 7, result
    assert WITHOUT_VERDICT in result.err
    assert '| still booting' in result.err
    assert not account.leftovers()
    assert {tag['Key']: tag['Value'] for tag in account.images(Stage='app')[0]['Tags']}['Released'] == 'true'


def test_an_outage_of_aws_during_the_self_test_does_not_cost_the_bake(checkout: Checkout,
                                                                      account: Account) -> None:
    process = checkout.start('bake', '--archive', str(checkout.archive))
    result = at(process, ' s  verify: start a copy\n', lambda: account.refuse(times=8))
    account.recover()
    assert (result.code, checkout.report['released']) == (0, True), result
    assert {'RunInstances', 'DescribeInstances', 'CreateTags', 'TerminateInstances', 'DeleteParameter'} <= set(
        account.refused)
    assert not account.leftovers()


def test_a_failed_clean_up_keeps_the_lock_so_that_the_next_bake_removes_the_rest(checkout: Checkout,
                                                                                 account: Account) -> None:
    checkout.patience = {**PATIENCE, 'release.lock.LEASE_SECONDS': 10.0}
    process = checkout.start('bake', '--archive', str(checkout.archive))
    refused = at(process, ' s  verify: terminate it\n',
                 lambda: account.refuse('TerminateInstances', times=1, status=400, code='UnsupportedOperation'))
    assert refused.code == 0, refused
    assert 'left behind, and costing money: instance' in refused.err
    assert account.leftovers()['locks'], 'the leftovers would not be found'
    account.recover()
    result = checkout.bake('--force')
    assert 'died while it baked the same inputs; removing its leftovers' in result.err, result
    assert not account.leftovers()


@pytest.fixture(scope='module')
def many_times(shared_account: Account, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Give a checkout and an account that many tests share: each leaves nothing, or a committed AMI."""
    shared_account.reset()
    return Checkout(tmp_path_factory.mktemp('many-times'), shared_account)


@pytest.mark.parametrize(('phase', 'number', 'code'), [
    *((phase, signal.SIGINT, 130) for phase in PHASES),
    *((phase, signal.SIGTERM, 143) for phase in ('app: provision', 'verify: self-test')),
])
def test_a_signal_in_any_phase_ends_it_and_leaves_nothing(many_times: Checkout, phase: str, number: signal.Signals,
                                                          code: int) -> None:
    # A copy that passed may release the AMI before the signal counts, and tests come in any order.
    process = many_times.start('bake', '--archive', str(many_times.archive), '--force')
    result = at(process, f' s  {phase}\n', lambda: process.send_signal(number))
    assert result.code == code, result
    assert not many_times.account.leftovers(), result
    assert f'ended by {number.name}' in result.err
    assert many_times.report['exit_code'] == code


def test_repeated_interrupts_do_not_stop_the_clean_up(many_times: Checkout) -> None:
    process = many_times.start('bake', '--archive', str(many_times.archive), '--force')

    def insist() -> None:
        for _ in range(4):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)

    result = at(process, 'The machine is patient', insist)
    assert result.code == 130, result
    assert 'still cleaning up' in result.err
    assert not many_times.account.leftovers(), result


def test_ctrl_c_on_a_terminal_reaches_packer_once_only(many_times: Checkout) -> None:
    process = many_times.start('bake', '--archive', str(many_times.archive), '--force')
    result = at(process, 'The machine is patient', lambda: os.killpg(process.pid, signal.SIGINT))
    assert result.code == 130, result
    assert 'Deleting temporary keypair' in result.err, 'Packer had no time to clean up'
    assert not many_times.account.leftovers(), result


def test_a_packer_that_ignores_the_interrupt_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / 'packer'
    program.write_text('#!/bin/sh\ntrap "" INT\necho "==> base: Creating temporary keypair: packer-1"\n'
                       'sleep 60 & wait\n', encoding='utf-8')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(packer, 'CANCEL_SECONDS', 1.0)
    monkeypatch.setattr(sys, 'executable', str(tmp_path / 'python'))
    runner = Packer(tmp_path, {'PATH': os.environ['PATH']}, Progress(View()))

    def give_up() -> None:
        raise ToolFailed('enough')

    with pytest.raises(ToolFailed, match='enough'):
        runner.build(Build('base', {}, tmp_path / 'work'), Deadline(60, later(give_up)))
    assert not processes_with(str(program))
    assert runner.untagged == ['packer-1']


def later(act: Callable[[], None], calls: int = 2) -> Callable[[], None]:
    """Return a function that acts at its call number `calls` + 1."""
    counted = iter(range(calls))
    return lambda: None if next(counted, None) is not None else act()
