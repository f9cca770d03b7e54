"""docs/instance.md names the steps, settings, files, checks, limits and permissions of the code."""

import re

import pytest

from instance import boot_record, checks, container, failed, migrate, ready
from instance.__main__ import STEPS
from instance.machine import Machine
from instance.user_data import NAMES
from tests.support.documents import rows, section, text_of
from tests.support.units import unit, UNITS

DOCUMENT = 'docs/instance.md'


def first_cells(title: str) -> list[str]:
    """Return the code in the first cells of a table."""
    return [name for row in rows(section(DOCUMENT, title)) for name in re.findall('`([^`]+)`', row[0])]


def test_it_lists_the_steps() -> None:
    assert set(first_cells('Steps')) == set(STEPS)


def test_each_step_stands_beside_its_unit() -> None:
    pairs = {(row[0].strip('`'), row[1].strip('`')) for row in rows(section(DOCUMENT, 'Steps'))}
    wrong = [(step, service) for step, service in pairs if step not in unit(service).steps]
    assert wrong == [('selftest', 'visitors-ready.service')], 'ready runs the self-test'


def test_it_lists_the_exit_codes_of_a_migration() -> None:
    codes = section(DOCUMENT, 'Steps').partition('`flask schema ready`:')[2]
    assert [int(code) for code in re.findall(r'\b\d+\b', codes)] == list(migrate.MEANINGS)


def test_it_lists_the_names_of_the_user_data() -> None:
    assert first_cells('User data') == [*NAMES, 'AWS_*']


def test_it_lists_the_files_of_an_instance() -> None:
    machine = Machine()
    paths = {machine.environment, machine.authorities, machine.image_file, machine.boot_record, machine.served,
             machine.password_source, machine.purge_settings, machine.data, machine.cursor, machine.answered,
             machine.requests, *(machine.variables(role) for role in ('application', 'migration')),
             *(machine.secrets(role) for role in ('application', 'migration'))}
    assert set(first_cells('Files')) == {str(path) for path in paths}


def test_it_lists_the_checks_of_the_self_test_in_their_order() -> None:
    assert first_cells('Self-test') == list(checks.CHECKS)


@pytest.mark.parametrize('seconds', [
    boot_record.BOOT_SECONDS, migrate.REST_SECONDS, ready.READY_SECONDS, failed.SECONDS, container.STOP_SECONDS,
    int(unit('visitors.target').seconds('JobTimeoutSec')), int(unit('visitors.service').seconds('TimeoutStopSec'))])
def test_it_names_the_time_limits_of_the_code(seconds: int) -> None:
    assert re.search(rf'\b{seconds}\b', section(DOCUMENT, 'Time limits'))


def test_every_unit_that_it_names_exists() -> None:
    names = set(re.findall(r'visitors(?:-[a-z]+)?\.(?:service|socket|timer|target)', text_of(DOCUMENT)))
    assert names and names <= set(UNITS)


def test_every_permission_that_it_lists_is_used() -> None:
    source = text_of('instance/aws.py')
    actions = re.findall(r'[a-z-]+:([A-Z][A-Za-z]+)', section(DOCUMENT, 'Permissions'))
    calls = {re.sub('(?<!^)(?=[A-Z])', '_', action).lower() for action in actions}
    used = {*re.findall(r'(?:\)|client)\.((?:get|describe|complete|record|put|create)_\w+)\(', source),
            *re.findall(r"paginator\('(\w+)'\)", source)} - {'get_paginator'}
    assert calls == used
