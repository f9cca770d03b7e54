"""The costs are those of the stack's own numbers, and their sums are right."""

import re
from typing import Any

import hcl2
import pytest

from tests.support.documents import rows, section
from tests.support.server import ROOT

COSTS = 'docs/costs.md'
HOURS = {'hour': 730, 'month': 1}
ENVIRONMENTS = ('staging', 'production')
STACK = ROOT / 'terraform'


def values_of(environment: str) -> dict[str, Any]:
    text = (STACK / 'environments' / f'{environment}.tfvars').read_text(encoding='utf-8')
    return {name: value.strip('"') if isinstance(value, str) else value for name, value in hcl2.loads(text).items()}


def number_of(item: str, environment: str) -> float:
    """Return the number of an item in the table."""
    table = {row[0]: row for row in rows(section(COSTS, 'Without the way out'))}
    (row,) = [row for name, row in table.items() if name.startswith(item)]
    return float(row[1 + ENVIRONMENTS.index(environment)])


def ways_out() -> dict[str, float]:
    """Return the monthly price of each way out."""
    prices: dict[str, float] = {}
    for nat, _item, number, price, per, _source in rows(section(COSTS, 'The way out')):
        prices[nat] = prices.get(nat, 0) + float(number) * float(price) * HOURS[per]
    return prices


@pytest.mark.parametrize('environment', ENVIRONMENTS)
def test_a_total_is_the_sum_of_its_items(environment: str) -> None:
    place = 1 + ENVIRONMENTS.index(environment)
    items = sum(float(row[place]) * float(row[3]) * HOURS[row[4]]
                for row in rows(section(COSTS, 'Without the way out')))
    totals = {row[0]: row[1:] for row in rows(section(COSTS, 'Totals'))}
    assert totals[environment] == [f'{items + ways_out()[nat]:.2f}' for nat in ('none', 'one', 'each')]


@pytest.mark.parametrize('environment', ENVIRONMENTS)
def test_the_numbers_are_those_of_the_environment(environment: str) -> None:
    values = values_of(environment)
    database = {name.strip('"'): value for name, value in values['database'].items()}
    instances = values['capacity']['min']
    assert number_of(f'instance `{values["instance_type"]}`', environment) == instances
    assert number_of("GiB of an instance's volume", environment) == instances * 8
    copies = 2 if database['multi_az'] else 1
    assert number_of(f'database `{database["instance_class"].strip(chr(34))}`', environment) == 1
    assert number_of('GiB of the database', environment) == copies * database['storage_gib']['initial']
    assert number_of('WAF', environment) == ('requests_per_client' in values)


def test_the_endpoints_and_the_alarms_are_those_of_the_stack() -> None:
    ways = (STACK / 'modules' / 'network' / 'ways-out.tf').read_text(encoding='utf-8')
    services = re.findall(r'^    "(\w+)",$', ways, re.MULTILINE)
    (number,) = [int(row[2]) for row in rows(section(COSTS, 'The way out')) if row[0] == 'none']
    assert number == len(services) * 3
    alarms = (STACK / 'modules' / 'monitoring' / 'alarms.tf').read_text(encoding='utf-8')
    named = re.findall(r'^    [a-z-]+ = \{$', alarms, re.MULTILINE)
    # The ratio of errors reads three metrics of the load balancer and one of the log; the page's alarm is the edge's.
    assert number_of('alarm metric', 'staging') == len(named) + 4 + 1
