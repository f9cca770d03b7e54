"""The self-test: a correct machine passes, and each problem is found by the check of its name."""

from collections.abc import Iterator
import json
import os
from pathlib import Path
import stat

import pytest

from instance.checks import CHECKS, ENABLED_BY_USER_DATA, find_problems, ORDER, Subject
from instance.machine import Machine
from tests.support.machine_folder import FolderMachine, IMAGE, IMAGE_ID, last_line, version
from tests.support.made_up_application import Application
from tests.support.made_up_authority import Authority
from tests.support.server import bring_up, Server

LONG_AGO = 1_000_000_000
UNITS = {unit: {'After': ' '.join(['basic.target', *(before for other, before in ORDER if other == unit)])}
         for unit, _ in ORDER}
RIGHT_UNITS = {'': {'UserspaceTimestampMonotonic': '1000'}, 'docker.service': {'ActiveState': 'active'}, **UNITS}
RIGHT_ENGINE: dict[str, dict[str, object]] = {
    'image inspect': {'stdout': f'{IMAGE_ID}\n'}, 'version': {'stdout': '26.1.5\n'}, 'exec': {'stdout': ''}}
USERS = 'root:x:0:0:root:/root:/bin/bash\nadmin:x:1000:1000:Debian:/home/admin:/bin/bash\n'
KEY_TEXT = '-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n'  # pragma: allowlist secret


@pytest.fixture(scope='module')
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give the application of the self-test, on an embedded database."""
    url = bring_up(f'sqlite:///{tmp_path_factory.mktemp("selftest")}/visitors.sqlite3')
    with Server(url) as server:
        yield server


@pytest.fixture
def booted(machine: FolderMachine, server: Server, monkeypatch: pytest.MonkeyPatch) -> FolderMachine:
    """Give a machine that has booted in self-test mode without a problem."""
    machine.write('etc/visitors/instance.env', 'SELFTEST=1\n')
    machine.answer_systemctl(RIGHT_UNITS)
    machine.answer_docker(RIGHT_ENGINE)
    machine.write('etc/passwd', USERS)
    machine.write('etc/shadow', 'root:*:19000:0:99999:7:::\nadmin:!:19000:0:99999:7:::\n')
    machine.write('etc/machine-id', 'ab' * 16 + '\n')
    machine.write('etc/visitors/database-ca.pem', Authority('a database').certificate)
    machine.write('etc/ssh/ssh_host_ed25519_key', KEY_TEXT).chmod(0o600)
    link = machine.root / ENABLED_BY_USER_DATA
    link.parent.mkdir(parents=True)
    link.symlink_to('/etc/systemd/system/visitors.target')
    machine.install('systemd-analyze', 'exit 0')
    assert machine.run('config').returncode == 0
    listen_at(machine, int(server.address.rpartition(':')[2]))
    boot = machine.boot
    boot['phases'] += [{'phase': phase, 'seconds': 1, 'outcome': ''} for phase in ('migrate', 'application')]
    machine.write('run/visitors/boot.json', json.dumps(boot))
    machine.enter(monkeypatch)  # most checks run in this process, and call the machine's programs all the same
    return machine


def listen_at(machine: FolderMachine, port: int) -> None:
    machine.write('run/visitors/application.env', f'PORT={port}\n')


def verdicts(machine: FolderMachine) -> list[str]:
    """Return the lines of the self-test on the console."""
    result = machine.run('ready')
    assert result.returncode == 0, result.stdout + result.stderr
    assert machine.was_turned_off, 'a copy that stays on costs money'
    assert 'Traceback' not in result.stderr
    return [line for line in result.stdout.splitlines() if line.startswith('SELFTEST ')]


def age(path: Path) -> None:
    os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def test_a_machine_that_is_right_passes_with_its_version(booted: FolderMachine) -> None:
    assert verdicts(booted) == [f'SELFTEST PASSED {version()}']


def test_the_step_alone_prints_the_same_verdict(booted: FolderMachine) -> None:
    result = booted.run('selftest')
    assert f'SELFTEST PASSED {version()}' in result.stdout.splitlines()
    assert last_line(result.stdout).endswith(f'self-test passed, {len(CHECKS)} checks')
    assert booted.was_turned_off


def wrong_of(machine: FolderMachine) -> list[tuple[str, str]]:
    return find_problems(Subject.of(Machine(machine.root)))


def only(machine: FolderMachine, check: str, says: str) -> None:
    """Check that exactly one problem is found, by this check and with this message."""
    ((name, why),) = wrong_of(machine)
    assert name == check
    assert says in why


def test_each_problem_is_printed_and_the_copy_is_turned_off(booted: FolderMachine) -> None:
    booted.write('etc/machine-id', '')
    booted.answer_systemctl({**RIGHT_UNITS, 'failed': ['x.mount']})
    assert verdicts(booted) == ["SELFTEST FAILED machine-id: /etc/machine-id holds ''",
                                'SELFTEST FAILED failed-units: x.mount failed']


def test_a_host_key_of_the_image_is_found(booted: FolderMachine) -> None:
    age(booted.root / 'etc/ssh/ssh_host_ed25519_key')
    only(booted, 'host-keys', 'ssh_host_ed25519_key came with the AMI')


@pytest.mark.parametrize('path', ['root/.ssh/authorized_keys', 'home/admin/.ssh/authorized_keys2'])
def test_a_stray_authorized_key_is_found(booted: FolderMachine, path: str) -> None:
    booted.write(path, 'ssh-ed25519 AAAA packer\n')
    only(booted, 'authorized-keys', f'has keys in /{path}')


def test_an_empty_file_of_authorized_keys_is_no_problem(booted: FolderMachine) -> None:
    booted.write('root/.ssh/authorized_keys', '\n')
    assert wrong_of(booted) == []


@pytest.mark.parametrize('link', ['multi-user.target.wants/visitors.service', 'visitors.target.requires/visitors-x',
                                  'timers.target.wants/visitors-purge.timer'])
def test_an_enabled_unit_is_found(booted: FolderMachine, link: str) -> None:
    path = booted.root / 'etc/systemd/system' / link
    path.parent.mkdir(exist_ok=True)
    path.symlink_to('/etc/systemd/system/visitors.service')
    only(booted, 'enabled-units', f'is enabled by /etc/systemd/system/{link}')


def test_a_target_that_was_enabled_before_the_user_data_is_found(booted: FolderMachine) -> None:
    age(booted.root / ENABLED_BY_USER_DATA)
    only(booted, 'enabled-units', 'visitors.target was enabled in the AMI')


@pytest.mark.parametrize(('content', 'says'), [
    (None, 'No such file'), ('', 'NO_CERTIFICATE'), ('nonsense', 'NO_CERTIFICATE')])
def test_a_machine_without_authorities_of_the_database_is_found(
        booted: FolderMachine, content: str | None, says: str) -> None:
    path = booted.write('etc/visitors/database-ca.pem', content or '')
    if content is None:
        path.unlink()
    only(booted, 'authorities', says)


@pytest.mark.parametrize(('secret', 'able'), [('', True), ('$y$j9T$abc$def', True), ('!', False), ('*', False),
                                              ('!$y$j9T$abc$def', False)])
def test_a_user_with_a_password_is_found(booted: FolderMachine, secret: str, able: bool) -> None:
    booted.write('etc/shadow', f'root:*:1::::::\nadmin:{secret}:19000:0:99999:7:::\n')
    if able:
        only(booted, 'passwords', 'admin can sign in with a password')
    else:
        assert wrong_of(booted) == []


@pytest.mark.parametrize(('path', 'text'), [
    ('etc/visitors/database.env', 'DATABASE_PASSWORD=abc\n'),
    ('root/.aws/credentials', '[default]\naws_secret_access_key = abc\n'),  # pragma: allowlist secret
    ('home/admin/.ssh/id_ed25519', KEY_TEXT),
    ('opt/tls/server.key', 'abc\n'),
    ('usr/local/etc/settings.sh', 'export AWS_SECRET_ACCESS_KEY=abc\n'),  # pragma: allowlist secret
    ('run/visitors/secrets/application/VISITOR_KEY', 'abc'),
    ('etc/ssl/private/server.pem', KEY_TEXT),
])
def test_a_world_readable_secret_is_found(booted: FolderMachine, path: str, text: str) -> None:
    file = booted.write(path, text)
    file.chmod(0o644)
    only(booted, 'readable-secrets', f'/{path} is world-readable (mode 0644)')
    file.chmod(0o600)
    assert wrong_of(booted) == []


@pytest.mark.parametrize(('path', 'text'), [
    ('etc/apt/trusted.gpg.d/debian.key', 'a public one'),
    ('etc/ssl/certs/ca.key', 'a public one'),
    ('etc/pam.d/common-password', 'password [success=1 default=ignore] pam_unix.so'),
    ('etc/empty.key', ''),
])
def test_a_file_without_a_secret_is_no_problem(booted: FolderMachine, path: str, text: str) -> None:
    booted.write(path, text).chmod(0o644)
    assert wrong_of(booted) == []


def test_a_missing_image_is_found(booted: FolderMachine) -> None:
    booted.answer_docker({**RIGHT_ENGINE, 'image inspect': {'code': 1, 'stderr': 'Error: No such image\n'}})
    only(booted, 'image', f'image {IMAGE["image"]}: Error: No such image')


def test_another_image_is_found(booted: FolderMachine) -> None:
    booted.answer_docker({**RIGHT_ENGINE, 'image inspect': {'stdout': 'sha256:0\n'}})
    only(booted, 'image', f'has the id sha256:0, and not {IMAGE_ID}')


def test_an_engine_that_is_off_is_found(booted: FolderMachine) -> None:
    booted.answer_systemctl({**RIGHT_UNITS, 'docker.service': {'ActiveState': 'inactive'}})
    only(booted, 'docker', 'docker.service is not active')


def test_an_engine_that_does_not_answer_is_found(booted: FolderMachine) -> None:
    booted.answer_docker({**RIGHT_ENGINE, 'version': {'code': 1, 'stderr': 'Cannot connect to the Docker daemon\n'}})
    only(booted, 'docker', 'Cannot connect to the Docker daemon')


def test_an_application_that_reaches_the_metadata_service_is_found(booted: FolderMachine) -> None:
    booted.answer_docker({**RIGHT_ENGINE, 'exec': {'stdout': '169.254.169.254\n'}})
    only(booted, 'metadata', 'the application reaches 169.254.169.254')


def test_a_check_of_the_metadata_service_that_cannot_run_is_a_problem(booted: FolderMachine) -> None:
    booted.answer_docker({**RIGHT_ENGINE, 'exec': {'code': 126, 'stderr': 'OCI runtime exec failed\n'}})
    only(booted, 'metadata', 'OCI runtime exec failed')


def test_a_failed_unit_is_found(booted: FolderMachine) -> None:
    booted.answer_systemctl({**RIGHT_UNITS, 'failed': ['systemd-sysctl.service', 'x.mount']})
    only(booted, 'failed-units', 'systemd-sysctl.service, x.mount failed')


@pytest.mark.parametrize(('unit', 'before'), ORDER)
def test_a_unit_that_does_not_wait_is_found(booted: FolderMachine, unit: str, before: str) -> None:
    after = [other for other in UNITS[unit]['After'].split() if other != before]
    booted.answer_systemctl({**RIGHT_UNITS, unit: {'After': ' '.join(after)}})
    only(booted, 'unit-order', f'{unit} is not ordered after {before}')


def test_a_problem_that_systemd_reports_in_our_units_is_found(booted: FolderMachine) -> None:
    booted.install('systemd-analyze', 'echo "other.service: whatever" >&2; echo "visitors.service: Found ordering '
                                      'cycle on visitors-ready.service/start" >&2; exit 1')
    only(booted, 'unit-order', 'visitors.service: Found ordering cycle on visitors-ready.service/start')


@pytest.mark.parametrize('text', ['', 'uninitialized\n'])
def test_a_machine_without_an_id_is_found(booted: FolderMachine, text: str) -> None:
    booted.write('etc/machine-id', text)
    only(booted, 'machine-id', f'/etc/machine-id holds {text.strip()!r}')


def test_an_id_of_the_image_is_found(booted: FolderMachine) -> None:
    age(booted.root / 'etc/machine-id')
    only(booted, 'machine-id', '/etc/machine-id came with the AMI')


@pytest.mark.parametrize(('unit', 'state'), [('ssh.service', {'ActiveState': 'active'}),
                                             ('ssh.socket', {'UnitFileState': 'enabled'})])
@pytest.mark.parametrize(('setting', 'open_to'), [('passwordauthentication yes', 'passwordauthentication'),
                                                  ('kbdinteractiveauthentication yes', 'kbdinteractive'),
                                                  ('passwordauthentication no', '')])
def test_ssh_with_passwords_is_found(booted: FolderMachine, unit: str, state: dict[str, str], setting: str,
                                     open_to: str) -> None:
    booted.answer_systemctl({**RIGHT_UNITS, unit: state})
    booted.install('sshd', f'printf "port 22\\n{setting}\\n"')
    if open_to:
        only(booted, 'ssh', f'SSH is on with {open_to}')
    else:
        assert wrong_of(booted) == []


def test_ssh_that_is_off_is_not_asked(booted: FolderMachine) -> None:
    booted.install('sshd', 'echo "sshd: no hostkeys available -- exiting." >&2; exit 1')
    assert wrong_of(booted) == []


def test_a_phase_that_is_missing_is_found(booted: FolderMachine) -> None:
    boot = booted.boot
    boot['phases'] = [phase for phase in boot['phases'] if phase['phase'] != 'migrate']
    booted.write('run/visitors/boot.json', json.dumps(boot))
    only(booted, 'phases', 'boot.json has power-on, network, config, application instead of')


def test_an_application_that_is_not_there_is_found_by_each_question(booted: FolderMachine) -> None:
    listen_at(booted, 9)
    assert [name for name, _ in wrong_of(booted)] == ['livez', 'readyz', 'version', 'page']


@pytest.mark.parametrize(('path', 'status', 'answer', 'check', 'says'), [
    ('/livez', 500, {}, 'livez', '/livez answers 500'),
    ('/readyz', 503, {'ready': False, 'reason': 'no schema'}, 'readyz', 'no schema'),
    ('/version', 200, {'version': '9.9.9'}, 'version', '/version answers 9.9.9, image.json has'),
    ('/', 503, {}, 'page', 'the page answers 503'),
])
def test_an_application_that_is_wrong_is_found(booted: FolderMachine, path: str, status: int,
                                               answer: dict[str, object], check: str, says: str) -> None:
    wrong = Application()
    wrong.answers.update({'/': (200, {}), '/stats.json': (200, {'total': 1}), path: (status, answer)})
    listen_at(booted, wrong.port)
    only(booted, check, says)
    wrong.end()


def test_a_visit_that_is_not_counted_is_found(booted: FolderMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('instance.checks.COUNT_SECONDS', 2)
    wrong = Application()
    wrong.answers.update({'/': (200, {}), '/stats.json': (200, {'total': 0})})
    listen_at(booted, wrong.port)
    only(booted, 'page', 'the visit is not counted')
    wrong.end()


def test_a_check_that_fails_is_a_problem(booted: FolderMachine) -> None:
    (booted.root / 'etc/shadow').unlink()
    only(booted, 'passwords', 'the check failed: ')


def test_a_self_test_that_cannot_turn_off_fails_so_that_systemd_does(booted: FolderMachine) -> None:
    booted.answer_systemctl({'broken': True})
    result = booted.run('ready')
    assert result.returncode == 1
    assert booted.was_turned_off, 'it was tried'


def test_its_own_files_are_not_world_writable_and_no_problem(booted: FolderMachine) -> None:
    for path in (booted.root / 'run/visitors').rglob('*'):
        assert path.is_dir() or not path.stat().st_mode & stat.S_IWOTH
    assert wrong_of(booted) == []
