"""The units of an instance: their order, their failures, their time limits and their restarts."""

import os
from pathlib import Path
import shutil
import subprocess

import pytest

from instance import application, boot_record, checks, container, failed, journal, migrate, purge, ready
from instance.__main__ import STEPS
from instance.boot_record import PHASE_OF_STEP, PHASE_OF_UNIT, PHASES
from instance.machine import Machine
from tests.support.units import drop_in, FILES, FOLDER, SERVICES, STEP, unit, UNITS

# systemd's first version with RestartMode=; Debian 13's is newer, the one here may be older.
RESTART_MODE = 254
# Units of other packages, which every instance has and this machine may lack.
FOREIGN = ('docker.service', 'multi-user.target', 'network-online.target', 'nftables.service')
BOOT_UNITS = ['visitors-config.service', 'visitors-migrate.service', 'visitors.service', 'visitors-ready.service',
              'visitors.target']


def analyze(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(['systemd-analyze', *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ, **environment})


def verify(units: Path, *names: str) -> list[str]:
    """Return the lines in which systemd-analyze reports a problem of our units."""
    lines = analyze('verify', '--man=no', *names, SYSTEMD_UNIT_PATH=f'{units}:').stderr.splitlines()
    return [line for line in lines if 'visitors' in line]


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Return a folder with our units and stand-ins for those of other packages."""
    shutil.copytree(FOLDER, tmp_path / 'units')
    for name in FOREIGN:
        service = '[Service]\nExecStart=/bin/true\n' if name.endswith('.service') else ''
        (tmp_path / 'units' / name).write_text(f'[Unit]\nDescription=Not ours\n{service}', encoding='utf-8')
    return tmp_path / 'units'


def test_systemd_reports_no_problem_in_the_units(units: Path) -> None:
    problems = verify(units, 'visitors.target', *SERVICES)
    if int(analyze('--version').stdout.split()[1]) < RESTART_MODE:
        problems = [line for line in problems if "'RestartMode'" not in line]
    assert problems == []


def test_systemd_would_report_a_cycle(units: Path) -> None:
    config = units / 'visitors-config.service'
    config.write_text(config.read_text().replace('[Service]', 'After=visitors-ready.service\n\n[Service]'))
    assert 'ordering cycle' in ' '.join(verify(units, 'visitors.target'))


def test_only_the_target_can_be_enabled_and_no_unit_is() -> None:
    assert [name for name in UNITS if '[Install]' in unit(name).text] == ['visitors.target']
    assert not [path for path in FOLDER.rglob('*') if path.is_symlink()]
    preset = (FILES / 'etc/systemd/system-preset/10-visitors.preset').read_text(encoding='utf-8')
    assert 'disable visitors*' in preset.splitlines()


def test_the_target_wants_every_unit_except_the_one_for_failures() -> None:
    wanted = set(unit('visitors.target').words('Wants'))
    started = {f'{name.rpartition(".")[0]}.service' for name in wanted if name.endswith(('.timer', '.socket'))}
    assert wanted | started | {'visitors.target', 'visitors-failed.service'} == set(UNITS)


def test_each_step_has_one_unit() -> None:
    steps = [step for name in SERVICES for step in unit(name).steps]
    assert sorted(steps) == sorted(set(STEPS) - {'selftest'}), 'ready runs the self-test'


@pytest.mark.parametrize('name', SERVICES)
def test_every_service_runs_the_package_of_the_ami(name: str) -> None:
    assert unit(name).commands
    assert all(command.startswith(STEP) for command in unit(name).commands)
    folder = 'visitors.service.d' if name == 'visitors.service' else 'visitors-.service.d'
    assert 'PYTHONPATH=/usr/lib/visitors' in drop_in(f'{folder}/step.conf').words('Environment')


@pytest.mark.parametrize(('name', 'before'), checks.ORDER)
def test_each_unit_is_ordered_after_the_one_before(name: str, before: str) -> None:
    assert before in unit(name).words('After')


@pytest.mark.parametrize(('name', 'required'), [
    ('visitors-config.service', 'nftables.service'), ('visitors-migrate.service', 'visitors-config.service'),
    ('visitors.service', 'visitors-migrate.service'), ('visitors-ready.service', 'visitors-migrate.service')])
def test_a_step_does_not_start_without_the_one_before(name: str, required: str) -> None:
    assert required in unit(name).words('Requires')


@pytest.mark.parametrize('name', SERVICES)
def test_a_restart_of_the_application_or_the_engine_repeats_no_step(name: str) -> None:
    bound = {word for key in ('Requires', 'BindsTo', 'PartOf') for word in unit(name).words(key)}
    assert not bound & {'visitors.service', 'docker.service', 'visitors-ready.service'}


@pytest.mark.parametrize('name', BOOT_UNITS)
def test_each_failure_of_the_boot_leads_to_the_failed_step(name: str) -> None:
    assert unit(name).words('OnFailure') == ['visitors-failed.service']


def test_user_data_that_fails_leads_to_the_failed_step() -> None:
    assert drop_in('cloud-final.service.d/10-visitors.conf').words('OnFailure') == ['visitors-failed.service']


def test_the_failed_step_waits_for_no_unit_and_ends_in_a_power_off() -> None:
    service = unit('visitors-failed.service')
    assert service.line('FailureAction') == 'poweroff'
    assert not [key for key in ('After', 'Requires', 'Wants', 'Requisite', 'BindsTo') if service.words(key)]
    assert not service.words('OnFailure')
    assert failed.SECONDS < service.seconds('TimeoutStartSec')


def test_the_failed_step_knows_the_phase_of_each_unit_that_starts_it() -> None:
    starting = {name for name in SERVICES if unit(name).words('OnFailure')}
    assert set(PHASE_OF_UNIT) == {'cloud-final.service', *starting}
    assert set(PHASE_OF_UNIT.values()) <= {'user data', *PHASES}


def test_the_phase_of_a_step_is_the_phase_of_its_unit() -> None:
    for name in PHASE_OF_UNIT.keys() - {'cloud-final.service'}:
        phases = {PHASE_OF_STEP[step] for step in unit(name).steps if step in PHASE_OF_STEP}
        assert PHASE_OF_UNIT[name] in phases, name
    assert set(PHASE_OF_STEP.values()) == set(PHASES) - {'power-on', 'network'}


@pytest.mark.parametrize(('name', 'limit'), [
    ('visitors-migrate.service', boot_record.BOOT_SECONDS),
    ('visitors-ready.service', application.ANSWER_SECONDS + ready.READY_SECONDS),
    ('visitors-purge.service', purge.SECONDS + container.STOP_SECONDS + 5)])
def test_a_step_reaches_its_own_limit_before_that_of_systemd(name: str, limit: float) -> None:
    assert limit < unit(name).seconds('TimeoutStartSec')


def test_the_target_outlives_the_longest_migration_and_leaves_time_for_the_rest() -> None:
    migration = unit('visitors-migrate.service').seconds('TimeoutStartSec')
    assert migration < unit('visitors.target').seconds('JobTimeoutSec')
    assert migrate.REST_SECONDS < boot_record.BOOT_SECONDS


def test_the_last_entries_of_the_journal_are_sent_before_systemd_ends_the_step() -> None:
    assert journal.LAST_SECONDS < unit('visitors-logs.service').seconds('TimeoutStopSec')


def test_the_application_is_restarted_but_not_for_ever() -> None:
    service = unit('visitors.service')
    assert (service.line('Restart'), service.line('RestartMode')) == ('always', 'direct')
    deaths = int(service.line('StartLimitBurst')) * service.seconds('RestartSec')
    assert deaths < service.seconds('StartLimitIntervalSec'), 'the limit would never be reached'
    assert service.line('RestartPreventExitStatus') == '1'


def test_the_socket_is_where_the_container_requests_a_password() -> None:
    socket = unit('visitors-token.socket')
    assert socket.line('ListenDatagram') == f'{Machine().requests}/password'
    assert not socket.words('SocketUser'), 'systemd accepts no user that has only a number'
    assert unit('visitors-token.service').line('StartLimitIntervalSec') == '0', 'the socket would fail with it'


def test_a_token_is_renewed_while_the_one_before_is_valid() -> None:
    service, timer = unit('visitors-token.service'), unit('visitors-token.timer')
    retried = timer.seconds('OnUnitActiveSec') + service.seconds('TimeoutStartSec') + service.seconds('RestartSec')
    assert retried < 15 * 60


def test_the_application_is_confined_like_the_steps_but_keeps_off_the_console() -> None:
    def settings(folder: str) -> set[str]:
        return {line for line in drop_in(f'{folder}/step.conf').text.splitlines() if not line.startswith('#')}

    assert settings('visitors-.service.d') - settings('visitors.service.d') == {
        'StandardOutput=journal+console', 'StandardError=journal'}
    assert settings('visitors.service.d') <= settings('visitors-.service.d')


@pytest.mark.parametrize('name', UNITS)
def test_every_unit_is_short_and_explains_its_order(name: str) -> None:
    lines = [line for line in unit(name).text.splitlines() if line and not line.startswith('#')]
    assert len(lines) <= 20
    assert unit(name).line('Description')
    assert '\n# ' in unit(name).text


def test_conditions_are_about_files_that_a_step_writes() -> None:
    machine = Machine()
    files = {str(path) for path in (machine.password_source, machine.purge_settings, machine.served)}
    assert {path for name in UNITS for path in unit(name).words('ConditionPathExists')} == files
