"""The units of a machine: what systemd says of them, and what they must agree on with the code and the documents."""

import ast
from dataclasses import fields
import os
from pathlib import Path
import re
import shutil
import stat
import subprocess
from typing import Any

import pytest

from instance import application, boot_record, checks, container, failed, journal, migrate, purge, ready, urls
from instance.__main__ import STEPS
from instance.boot_record import PHASE_OF_STEP, PHASE_OF_UNIT, PHASES
from instance.machine import Machine
from instance.parameters import MACHINE_SETTINGS, PORT
from instance.user_data import NAMES, UserData
from tests.support.server import ROOT

FILES = ROOT / 'packer/ansible/roles/application/files'
FOLDER = FILES / 'etc/systemd/system'
UNITS = sorted(path.name for path in FOLDER.iterdir() if path.is_file())
SERVICES = [name for name in UNITS if name.endswith('.service')]
DOCUMENT = (ROOT / 'docs/instance.md').read_text(encoding='utf-8')
# Debian 13's; an older one here does not know everything that the machines' knows.
RESTART_MODE = 254
# Other packages' units, which are on every machine and need not be here.
FOREIGN = ('docker.service', 'multi-user.target', 'network-online.target', 'nftables.service')
SECONDS = {'': 1, 's': 1, 'min': 60}


class Unit:
    def __init__(self, name: str) -> None:
        """Read a unit; a key that is given several times has several values."""
        self.name = name
        self.text = (FOLDER / name).read_text(encoding='utf-8')
        self._values: dict[str, list[str]] = {}
        for line in self.text.splitlines():
            if '=' in line and not line.startswith('#'):
                key, _, value = line.partition('=')
                self._values.setdefault(key, []).append(value)

    def values(self, key: str) -> list[str]:
        """Return the values of a key, split at spaces."""
        return [word for value in self._values.get(key, []) for word in value.split()]

    def line(self, key: str) -> str:
        """Return the only value of a key, an empty one where it is missing."""
        return ' '.join(self._values.get(key, []))

    def seconds(self, key: str) -> float:
        """Return a value that is a time."""
        found = re.fullmatch(r'(\d+)(s|min)?', self.line(key))
        assert found, f'{self.name}: {key}={self.line(key)}'
        return int(found[1]) * SECONDS[found[2] or '']

    @property
    def steps(self) -> list[str]:
        """The steps that it runs."""
        lines = [line for key in ('ExecStart', 'ExecStop') for line in self._values.get(key, [])]
        return [line.removeprefix('/usr/bin/python3 -m instance ') for line in lines]


def unit(name: str) -> Unit:
    return Unit(name)


def test_systemd_finds_nothing_wrong_with_them(tmp_path: Path) -> None:
    program = shutil.which('systemd-analyze')
    if not program:
        pytest.skip('systemd-analyze is not here; it comes with systemd')
    shutil.copytree(FOLDER, tmp_path / 'units')
    for name in FOREIGN:
        kind = '[Service]\nExecStart=/bin/true\n' if name.endswith('.service') else ''
        (tmp_path / 'units' / name).write_text(f'[Unit]\nDescription=Not ours\n{kind}', encoding='utf-8')
    done = verify(program, tmp_path / 'units', 'visitors.target', *SERVICES)
    told = [line for line in done.stderr.splitlines() if 'visitors' in line]
    if systemd_version(program) < RESTART_MODE:
        told = [line for line in told if "'RestartMode'" not in line]
    assert told == []


def test_a_cycle_would_be_found(tmp_path: Path) -> None:
    program = shutil.which('systemd-analyze')
    if not program:
        pytest.skip('systemd-analyze is not here; it comes with systemd')
    shutil.copytree(FOLDER, tmp_path / 'units')
    config = tmp_path / 'units/visitors-config.service'
    config.write_text(config.read_text().replace('[Service]', 'After=visitors-ready.service\n\n[Service]'))
    assert 'ordering cycle' in verify(program, tmp_path / 'units', 'visitors.target').stderr


def verify(program: str, units: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, 'verify', '--man=no', *names], capture_output=True, text=True, check=False,
                          env={**os.environ, 'SYSTEMD_UNIT_PATH': f'{units}:'})


def systemd_version(program: str) -> int:
    first_line = subprocess.run([program, '--version'], capture_output=True, text=True, check=True).stdout
    return int(first_line.split()[1])


def test_only_the_target_can_be_enabled_and_nothing_is() -> None:
    installable = [name for name in UNITS if '[Install]' in unit(name).text]
    assert installable == ['visitors.target']
    assert not [path for path in FOLDER.rglob('*') if path.is_symlink()]
    preset = (FILES / 'etc/systemd/system-preset/10-visitors.preset').read_text(encoding='utf-8')
    assert 'disable visitors*' in preset.splitlines()


def test_the_target_pulls_every_unit_in_but_the_one_for_failures() -> None:
    pulled = set(unit('visitors.target').values('Wants'))
    started = {f'{name.rpartition(".")[0]}.service' for name in pulled if name.endswith(('.timer', '.socket'))}
    assert pulled | started | {'visitors.target', 'visitors-failed.service'} == set(UNITS)


def test_every_step_has_a_unit_and_every_unit_a_step() -> None:
    steps = [step for name in SERVICES for step in unit(name).steps]
    assert sorted(steps) == sorted(set(STEPS) - {'selftest'}), 'ready runs the self-test where it is one'


@pytest.mark.parametrize(('name', 'before'), checks.ORDER)
def test_each_unit_waits_for_the_one_before(name: str, before: str) -> None:
    assert before in unit(name).values('After')


def test_a_step_does_not_start_without_the_one_before() -> None:
    assert 'nftables.service' in unit('visitors-config.service').values('Requires')
    assert 'visitors-config.service' in unit('visitors-migrate.service').values('Requires')
    assert 'visitors-migrate.service' in unit('visitors.service').values('Requires')
    assert 'visitors-migrate.service' in unit('visitors-ready.service').values('Requires')


def test_a_restart_of_the_application_or_the_engine_repeats_no_step() -> None:
    for name in SERVICES:
        required = {*unit(name).values('Requires'), *unit(name).values('BindsTo'), *unit(name).values('PartOf')}
        assert not required & {'visitors.service', 'docker.service', 'visitors-ready.service'}, name


@pytest.mark.parametrize('name', ['visitors-config.service', 'visitors-migrate.service', 'visitors.service',
                                  'visitors-ready.service', 'visitors.target'])
def test_whatever_fails_leads_to_the_failed_path(name: str) -> None:
    assert unit(name).values('OnFailure') == ['visitors-failed.service']


def test_the_failed_path_waits_for_nothing_and_ends_with_the_power_off() -> None:
    last = unit('visitors-failed.service')
    assert last.line('FailureAction') == 'poweroff'
    assert not [key for key in ('After', 'Requires', 'Wants', 'Requisite', 'BindsTo') if last.values(key)]
    assert not last.values('OnFailure')
    assert failed.SECONDS < last.seconds('TimeoutStartSec')


def test_what_asks_for_the_failed_path_is_named_in_it() -> None:
    final = (FOLDER / 'cloud-final.service.d/10-visitors.conf').read_text(encoding='utf-8')
    assert 'OnFailure=visitors-failed.service' in final.splitlines()
    asking = {name for name in SERVICES if unit(name).values('OnFailure')}
    assert set(PHASE_OF_UNIT) == {'cloud-final.service', *asking}
    assert set(PHASE_OF_UNIT.values()) <= {'user data', *PHASES}
    assert set(PHASE_OF_STEP.values()) == {'config', 'migrate', 'application', 'ready'}


def test_the_times_to_stop_the_application_lie_within_each_other() -> None:
    tree = ast.parse((ROOT / 'gunicorn.conf.py').read_text(encoding='utf-8'))
    given = {target.id: node.value.value for node in tree.body if isinstance(node, ast.Assign)
             for target in node.targets if isinstance(target, ast.Name) and isinstance(node.value, ast.Constant)}
    graceful = given['graceful_timeout']
    assert isinstance(graceful, int)
    stop = unit('visitors.service').seconds('TimeoutStopSec')
    # The step itself needs a moment, and waits five seconds longer for docker than docker for the application.
    assert graceful < container.STOP_SECONDS < container.STOP_SECONDS + 5 < stop
    assert container.STOP_SECONDS + 5 < unit('visitors-migrate.service').seconds('TimeoutStopSec')


def test_a_step_ends_by_itself_before_systemd_ends_it() -> None:
    limits = {
        'visitors-migrate.service': boot_record.BOOT_SECONDS,
        'visitors-ready.service': application.ANSWER_SECONDS + ready.READY_SECONDS,
        'visitors-purge.service': purge.SECONDS + container.STOP_SECONDS + 5,
    }
    for name, seconds in limits.items():
        assert seconds < unit(name).seconds('TimeoutStartSec'), name
    target = unit('visitors.target').seconds('JobTimeoutSec')
    assert boot_record.BOOT_SECONDS < unit('visitors-migrate.service').seconds('TimeoutStartSec') < target
    assert journal.LAST_SECONDS < unit('visitors-logs.service').seconds('TimeoutStopSec')
    assert migrate.REST_SECONDS < boot_record.BOOT_SECONDS


def test_the_application_is_restarted_but_not_for_ever() -> None:
    service = unit('visitors.service')
    assert service.line('Restart') == 'always'
    assert service.line('RestartMode') == 'direct'
    burst, interval = int(service.line('StartLimitBurst')), service.seconds('StartLimitIntervalSec')
    assert burst * service.seconds('RestartSec') < interval, 'the limit would never be reached'
    assert service.line('RestartPreventExitStatus') == '1'


def test_the_password_is_asked_for_where_the_container_asks() -> None:
    socket = unit('visitors-token.socket')
    assert socket.line('ListenDatagram') == f'{Machine().requests}/password'
    assert not socket.values('SocketUser'), 'systemd knows no user whose number alone is given'
    assert unit('visitors-token.service').line('StartLimitIntervalSec') == '0', 'the socket would fail with it'


def test_a_token_is_renewed_while_the_one_before_is_good() -> None:
    service, timer = unit('visitors-token.service'), unit('visitors-token.timer')
    again = timer.seconds('OnUnitActiveSec') + service.seconds('TimeoutStartSec') + service.seconds('RestartSec')
    assert again < 15 * 60


@pytest.mark.parametrize('name', SERVICES)
def test_every_service_runs_the_package_in_the_image(name: str) -> None:
    assert re.findall(r'^Exec\w+=(\S+) -m instance ', unit(name).text, re.MULTILINE) == (
        ['/usr/bin/python3'] * len(unit(name).steps))
    dropin = FOLDER / ('visitors.service.d' if name == 'visitors.service' else 'visitors-.service.d') / 'step.conf'
    assert 'Environment=PYTHONPATH=/usr/lib/visitors' in dropin.read_text(encoding='utf-8')


def test_the_application_is_held_as_tightly_as_the_steps_but_keeps_off_the_console() -> None:
    def settings(folder: str) -> set[str]:
        lines = (FOLDER / folder / 'step.conf').read_text(encoding='utf-8').splitlines()
        return {line for line in lines if not line.startswith('#')}

    assert settings('visitors-.service.d') - settings('visitors.service.d') == {
        'StandardOutput=journal+console', 'StandardError=journal'}
    assert settings('visitors.service.d') <= settings('visitors-.service.d')


@pytest.mark.parametrize('name', UNITS)
def test_every_unit_is_short_and_says_why_it_is_so(name: str) -> None:
    lines = [line for line in unit(name).text.splitlines() if line and not line.startswith('#')]
    assert len(lines) <= 20
    assert unit(name).line('Description')
    assert '\n# ' in unit(name).text, 'no word on why it is ordered so'


def test_conditions_are_about_files_that_the_code_writes() -> None:
    machine = Machine()
    written = {str(path) for path in (machine.password_source, machine.purge_settings, machine.served)}
    conditions = {value for name in UNITS for value in unit(name).values('ConditionPathExists')}
    assert conditions == written


def test_user_data_is_a_few_lines_with_one_placeholder(tmp_path: Path) -> None:
    template = (ROOT / 'instance/user-data.tftpl').read_text(encoding='utf-8')
    assert re.findall(r'[$%]\{([^}]*)\}', template) == ['environment'], 'Terraform would take more for placeholders'
    assert len(template.splitlines()) < 10
    assert template.count('visitors.target') == 1
    # Run for real, with a systemctl that only writes down what it is told.
    (tmp_path / 'etc').mkdir()
    text = template.replace('${environment}', 'PARAMETER_PREFIX=/visitors/test\nAWS_REGION=a b\n# $HOME "quoted"')
    text = text.replace('/etc/visitors', str(tmp_path / 'etc'))
    script = tmp_path / 'user-data'
    script.write_text(text, encoding='utf-8')
    script.chmod(0o755)
    systemctl = tmp_path / 'systemctl'
    systemctl.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n', encoding='utf-8')
    systemctl.chmod(0o755)
    subprocess.run([script], env={'PATH': f'{tmp_path}:/usr/bin:/bin'}, check=True, umask=0o077)
    written = tmp_path / 'etc/instance.env'
    assert written.read_text() == 'PARAMETER_PREFIX=/visitors/test\nAWS_REGION=a b\n# $HOME "quoted"\n'
    assert stat.S_IMODE(written.stat().st_mode) == 0o644
    assert (tmp_path / 'asked').read_text() == 'enable --now --no-block visitors.target\n'


def test_the_target_that_the_user_data_enables_is_the_one_that_the_self_test_expects() -> None:
    template = (ROOT / 'instance/user-data.tftpl').read_text(encoding='utf-8')
    wanted_by = unit('visitors.target').line('WantedBy')
    assert f'enable --now --no-block {checks.TARGET}' in template
    assert checks.ENABLED_BY_USER_DATA.parts[-2:] == (f'{wanted_by}.wants', 'visitors.target')


def test_the_port_is_the_same_everywhere() -> None:
    dockerfile = (ROOT / 'Dockerfile').read_text(encoding='utf-8')
    assert f'EXPOSE {PORT}' in dockerfile
    assert re.search(rf'\bPORT={PORT}\b', dockerfile)
    assert f'USER {container.USER}:{container.USER}' in dockerfile


def test_the_exit_codes_of_the_migration_are_those_of_the_application() -> None:
    from visitors.schema.errors import Exit
    assert set(migrate.MEANINGS) == {int(code) for code in Exit if code}
    assert set(failed.MIGRATION_CODES) <= set(migrate.MEANINGS)


def test_the_bake_puts_the_authorities_where_containers_look_for_them() -> None:
    tasks = (ROOT / 'packer/ansible/roles/application/tasks/identity.yml').read_text(encoding='utf-8')
    assert f'dest: {urls.AUTHORITIES}\n' in tasks
    assert str(Machine().authorities) == urls.AUTHORITIES


def test_what_the_machine_sets_is_a_setting_of_the_application() -> None:
    source = (ROOT / 'visitors/settings.py').read_text(encoding='utf-8')
    for name in (*MACHINE_SETTINGS, 'PORT', 'WORKERS', 'DATABASE_URL'):
        assert f"'{name}'" in source, name


def table(title: str) -> list[list[str]]:
    """Return the rows of the table under a title of the document."""
    section = DOCUMENT.split(f'\n## {title}\n', 1)[1].split('\n## ', 1)[0]
    rows = [line.strip('| ').split(' | ') for line in section.splitlines() if line.startswith('| ')]
    return rows[1:]


def names(cells: list[str]) -> list[str]:
    return [name for cell in cells for name in re.findall('`([^`]+)`', cell)]


def test_the_document_lists_the_steps_with_their_units() -> None:
    rows = table('Steps')
    assert {names([row[0]])[0] for row in rows} == set(STEPS)
    for step, service, _ in rows:
        if step.strip('`') != 'selftest':
            assert step.strip('`') in unit(service.strip('` ')).steps


def test_the_document_lists_what_the_user_data_can_say() -> None:
    assert names([row[0] for row in table('What the user data says')]) == [*NAMES, 'AWS_*']
    assert {field.name for field in fields(UserData)} >= {'parameter_prefix', 'lifecycle_hook', 'log_group'}


def test_the_document_lists_the_files_of_a_machine() -> None:
    machine = Machine()
    paths: set[Any] = {machine.environment, machine.authorities, machine.root / 'etc/visitors/image.json',
                       machine.boot_record, machine.served, machine.password_source, machine.purge_settings,
                       machine.data, machine.cursor, machine.answered, machine.requests,
                       *(machine.variables(role) for role in ('application', 'migration')),
                       *(machine.secrets(role) for role in ('application', 'migration'))}
    assert set(names([row[0] for row in table('Files')])) == {str(path) for path in paths}


def test_the_document_lists_the_checks_of_the_self_test() -> None:
    assert names([row[0] for row in table('The self-test')]) == list(checks.CHECKS)


def test_the_document_names_the_times_that_the_code_has() -> None:
    section = DOCUMENT.split('\n## Time\n', 1)[1].split('\n## ', 1)[0]
    for number in (boot_record.BOOT_SECONDS, migrate.REST_SECONDS, ready.READY_SECONDS, failed.SECONDS,
                   int(unit('visitors.target').seconds('JobTimeoutSec')), container.STOP_SECONDS,
                   int(unit('visitors.service').seconds('TimeoutStopSec'))):
        assert re.search(rf'\b{number}\b', section), number


def test_every_unit_that_the_document_names_exists() -> None:
    named = set(re.findall(r'visitors(?:-[a-z]+)?\.(?:service|socket|timer|target)', DOCUMENT))
    assert named <= set(UNITS)


def test_every_permission_that_the_document_lists_is_used() -> None:
    source = (ROOT / 'instance/aws.py').read_text(encoding='utf-8')
    listed = re.findall(r'[a-z-]+:([A-Z][A-Za-z]+)', ' '.join(row[0] for row in table('What its role may do')))
    calls = {re.sub('(?<!^)(?=[A-Z])', '_', name).lower() for name in listed if name != 'connect'}
    used = {*re.findall(r'(?:\)|client)\.((?:get|describe|complete|record|put|create)_\w+)\(', source),
            *re.findall(r"paginator\('(\w+)'\)", source)} - {'get_paginator'}
    assert calls == used
