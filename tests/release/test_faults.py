"""What goes wrong in a bake: each with its exit code, a line that says what to do, and nothing left behind."""

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
from tests.support.checkout import ANSIBLE, Checkout, Ended, ended, processes_with, without

pytestmark = pytest.mark.packer
PHASES = ['read the inputs', 'app: take the lock', 'base: launch', 'base: provision', 'base: image', 'base: clean up',
          'base: finish', 'app: launch', 'app: provision', 'verify: start a copy', 'verify: self-test',
          'verify: terminate it']


@pytest.fixture
def checkout(account: Account, tmp_path: Path) -> Checkout:
    """Give a checkout that can be baked in seconds."""
    return Checkout(tmp_path, account)


def at(process: 'subprocess.Popen[str]', text: str, act: Callable[[], None], timeout: float = 120) -> Ended:
    """Do something when a process has written a text, and return what it has ended with."""
    assert process.stderr
    heard = ''
    for line in process.stderr:
        heard += line
        if text in line:
            act()
            break
    done = ended(process, timeout)
    return Ended(done.code, done.out, heard + done.err)


def test_without_credentials_nothing_begins(checkout: Checkout, account: Account) -> None:
    settings = {'AWS_ACCESS_KEY_ID': '', 'AWS_SECRET_ACCESS_KEY': '', 'AWS_CONFIG_FILE': 'none',
                'AWS_SHARED_CREDENTIALS_FILE': 'none'}
    done = checkout.bake(**settings)
    assert done.code == 3, done
    assert 'no AWS credentials' in done.err
    assert 'AWS_PROFILE' in done.err
    assert not account.instances()


def test_without_a_region_nothing_begins(checkout: Checkout) -> None:
    done = checkout.bake(AWS_REGION='', AWS_CONFIG_FILE='none')
    assert (done.code, 'no region: set AWS_REGION' in done.err) == (3, True), done


def test_a_region_in_which_debian_has_no_image_is_named(checkout: Checkout, account: Account) -> None:
    for image in account.sources('eu-central-1'):
        account.client('ec2', 'eu-central-1').deregister_image(ImageId=image)
    done = checkout.bake('--region', 'eu-central-1')
    assert done.code == 3, done
    assert 'the region eu-central-1 has no AMI debian-13-amd64-* of Debian (account 136693071363)' in done.err


def test_a_missing_packer_is_told_with_what_to_install(checkout: Checkout, tmp_path: Path, account: Account) -> None:
    done = checkout.bake(PATH=without('packer', checkout.environment(), tmp_path / 'programs'))
    assert done.code == 5, done
    assert "Packer is not installed; install Debian's package `packer`" in done.err
    assert not account.leftovers()


def test_a_failing_playbook_is_told_by_its_task_and_message(account: Account, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, account, ANSIBLE)
    checkout.add_task('engine', "\n- name: The package is there\n  ansible.builtin.shell: 'echo no such package >&2; "
                                "exit 3'\n")
    done = checkout.bake()
    assert done.code == 5, done
    assert 'the task "engine : The package is there" failed: non-zero return code: no such package' in done.err
    assert not account.leftovers()
    assert not account.images()
    log = done.err.rpartition('its whole output: ')[2].strip()
    assert 'PLAY RECAP' in Path(log).read_text(encoding='utf-8')


def test_a_packer_that_dies_half_way_leaves_nothing(checkout: Checkout, account: Account) -> None:
    process = checkout.start('bake', '--archive', str(checkout.archive))
    done = at(process, 'The machine is patient', lambda: kill_packer_of(process))
    assert (done.code, 'Packer ended with -9' in done.err) == (5, True), done
    assert not account.leftovers()
    assert not account.images()


def kill_packer_of(process: 'subprocess.Popen[str]') -> None:
    """Kill Packer with everything that it has started, so that it cannot clean up."""
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text(encoding='ascii').split()
    for child in children:
        os.killpg(int(child), signal.SIGKILL)


def test_a_template_that_packer_refuses_is_told(checkout: Checkout, account: Account) -> None:
    checkout.write('packer/wrong.pkr.hcl', 'variable "no" { default = ')
    done = checkout.bake()
    assert done.code == 5, done
    assert 'wrong.pkr.hcl' in done.err
    assert not account.leftovers()


def test_an_archive_that_is_not_what_its_name_says_begins_nothing(checkout: Checkout, account: Account,
                                                                  tmp_path: Path) -> None:
    wrong = tmp_path / ('0' * 64 + '.tar')
    make_archive(wrong)
    done = checkout.release('bake', '--archive', str(wrong))
    assert done.code == 3, done
    assert f'the image in it has the digest {checkout.image_id} instead of sha256:{"0" * 64}' in done.err
    assert not account.instances()


def test_an_image_that_never_becomes_available_is_given_up_and_removed(checkout: Checkout, account: Account) -> None:
    account.say('image-state', 'pending')
    done = checkout.bake(AWS_MAX_ATTEMPTS='3')
    assert done.code == 5, done
    assert 'exceeded wait attempts' in done.err
    assert not account.leftovers()
    assert not account.images()


def test_what_takes_longer_than_allowed_ends_and_leaves_nothing(checkout: Checkout, account: Account) -> None:
    account.say('image-state', 'pending')
    done = checkout.bake('--timeout', '12')
    assert done.code == 7, done
    assert 'timed out after 12 s waiting for ' in done.err
    assert not account.leftovers()


def test_files_that_change_during_a_bake_spoil_it(checkout: Checkout, account: Account) -> None:
    process = checkout.start('bake', '--archive', str(checkout.archive))
    done = at(process, 'The machine is patient', lambda: checkout.write('packer/ansible/late.yml', '- hosts: all\n'))
    assert done.code == 3, done
    assert 'input files changed during the bake of ami-' in done.err
    assert not account.leftovers()
    assert not account.images()


def test_a_file_that_git_does_not_know_begins_nothing(checkout: Checkout, account: Account) -> None:
    (checkout.root / 'packer' / 'ansible' / 'roles' / 'engine' / 'forgotten.yml').touch()
    done = checkout.bake()
    assert done.code == 3, done
    assert 'untracked: packer/ansible/roles/engine/forgotten.yml;' in done.err
    assert not account.instances()


def test_a_self_test_that_never_answers_is_given_up(checkout: Checkout, account: Account) -> None:
    ami = checkout.bake().out
    account.say('console', 'booting\nstill booting\n')
    done = checkout.release('verify', ami, '--timeout', '2')
    assert done.code == 7, done
    assert 'timed out after 2 s waiting for the verdict of the self-test' in done.err
    assert '| still booting' in done.err
    assert not account.leftovers()
    assert {tag['Key']: tag['Value'] for tag in account.images(Stage='app')[0]['Tags']}['Released'] == 'true'


def test_an_aws_that_is_unavailable_during_the_self_test_does_not_throw_a_bake_away(checkout: Checkout,
                                                                                    account: Account) -> None:
    process = checkout.start('bake', '--archive', str(checkout.archive))
    done = at(process, ' s  verify: start a copy\n', lambda: account.refuse(8))
    account.refuse(0)
    assert (done.code, checkout.report['released']) == (0, True), done
    assert {'RunInstances', 'DescribeInstances', 'CreateTags', 'TerminateInstances', 'DeleteParameter'} <= set(
        account.refused)
    assert not account.leftovers()


def test_a_clean_up_that_failed_leaves_the_lock_so_that_the_next_bake_removes_the_rest(checkout: Checkout,
                                                                                       account: Account) -> None:
    process = checkout.start('bake', '--archive', str(checkout.archive))
    refused = at(process, ' s  verify: terminate it\n',
                 lambda: account.refuse(1, 'TerminateInstances', status=400, code='UnsupportedOperation'))
    assert refused.code == 0, refused
    assert 'left behind, and costing money: instance' in refused.err
    assert account.leftovers()['locks'], 'what is left would not be found'
    account.refuse(0)
    done = checkout.bake('--force')
    assert 'died while it baked the same inputs; removing its leftovers' in done.err, done
    assert not account.leftovers()


@pytest.fixture(scope='module')
def many_times(account_server: Account, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Give a checkout and an account that many tests share: what one leaves is nothing, or a whole image."""
    account_server.reset()
    return Checkout(tmp_path_factory.mktemp('many-times'), account_server)


@pytest.mark.parametrize(('phase', 'force', 'number', 'code'), [
    # A copy that has passed already may release the image before it is told, so who comes after asks for a new one.
    *((phase, ['--force'] if phase.startswith('verify') else [], signal.SIGINT, 130) for phase in PHASES),
    *((phase, ['--force'], signal.SIGTERM, 143) for phase in ('app: provision', 'verify: self-test')),
])
def test_a_signal_in_any_phase_ends_it_and_leaves_nothing(many_times: Checkout, phase: str, force: list[str],
                                                          number: signal.Signals, code: int) -> None:
    process = many_times.start('bake', '--archive', str(many_times.archive), *force)
    done = at(process, f' s  {phase}\n', lambda: process.send_signal(number))
    assert done.code == code, done
    assert not many_times.account.leftovers(), done
    assert f'ended by {number.name}' in done.err
    assert many_times.report['exit_code'] == code


def test_an_impatient_user_does_not_keep_it_from_cleaning_up(many_times: Checkout) -> None:
    process = many_times.start('bake', '--archive', str(many_times.archive), '--force')

    def insist() -> None:
        for _ in range(4):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)

    done = at(process, 'The machine is patient', insist)
    assert done.code == 130, done
    assert 'still cleaning up' in done.err
    assert not many_times.account.leftovers(), done


def test_ctrl_c_on_a_terminal_reaches_packer_once_only(many_times: Checkout) -> None:
    process = many_times.start('bake', '--archive', str(many_times.archive), '--force')
    done = at(process, 'The machine is patient', lambda: os.killpg(process.pid, signal.SIGINT))
    assert done.code == 130, done
    assert 'Deleting temporary keypair' in done.err, 'Packer was not left the time to clean up'
    assert not many_times.account.leftovers(), done


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
    """Return something that acts when it is called for the second time."""
    counted = iter(range(calls))
    return lambda: None if next(counted, None) is not None else act()
