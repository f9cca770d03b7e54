"""The status of a group through the command line, and the states of its instances."""

import json
from pathlib import Path
from typing import Any

import pytest

from release.group import phase_of, state_of
from tests.support.account import Account
from tests.support.checkout import Checkout

LAUNCHING = 'autoscaling:EC2_INSTANCE_LAUNCHING'


@pytest.fixture
def checkout(account: Account, tmp_path: Path) -> Checkout:
    """Give a checkout of the release tool."""
    return Checkout(tmp_path, account)


@pytest.fixture
def group(account: Account) -> str:
    """Give the name of a group that runs a release."""
    return account.run_in_a_group(account.add_ami('1', Version='1.0.2+build.41'))


def alarm(account: Account, name: str, state: str) -> None:
    """Make an alarm that stays in a state, because its metric has no data."""
    watch = account.client('cloudwatch')
    watch.put_metric_alarm(AlarmName=name, Namespace='visitors', MetricName='Errors', Statistic='Sum', Period=60,
                           EvaluationPeriods=1, Threshold=1, ComparisonOperator='GreaterThanThreshold',
                           TreatMissingData='breaching' if state == 'ALARM' else 'notBreaching')
    watch.set_alarm_state(AlarmName=name, StateValue=state, StateReason='3 errors', StateReasonData='{}')


def test_one_screen_has_the_group_its_instances_its_alarms_and_its_rolls(checkout: Checkout, account: Account,
                                                                         group: str) -> None:
    alarm(account, f'{group}-errors', 'ALARM')
    alarm(account, f'{group}-latency', 'OK')
    alarm(account, 'of-others', 'ALARM')
    for number in range(1, 6):
        record = {'run': f'2026112{number}T000000Z-aaaaaa', 'group': group, 'who': 'job 7', 'refresh': 'r',
                  'before': f'1.0.{number}', 'after': f'1.0.{number + 1}', 'started': f'2026-11-2{number}',
                  'seconds': 300.4, 'result': 'Successful', 'exit_code': 0}
        place = checkout.root / 'build' / 'artefacts' / 'rolls' / group / f'{record["run"]}.json'
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(record), encoding='utf-8')
    result = checkout.release('status', '--group', group)
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert lines[0] == f'{group}: 1 instances, desired 1 of 1 to 1; new ones start 1.0.2+build.41 (version 1)'
    assert lines[1] == 'no refresh yet'
    assert lines[3].split() == ['INSTANCE', 'RELEASE', 'VERSION', 'STATE']
    assert lines[4].split()[1:] == ['1.0.2+build.41', '1', 'in', 'service']
    assert lines[6:8] == [f'ALARM {group}-errors: 3 errors', '1 alarms are quiet']
    assert lines[9].split() == ['ROLL', 'FROM', 'TO', 'RESULT', 'SECONDS', 'BY']
    assert [line.split()[0] for line in lines[10:]] == ['2026-11-25', '2026-11-24', '2026-11-23']
    data: dict[str, Any] = json.loads(checkout.release('status', '--group', group, '--json').out)
    assert data['group']['instances'][0]['version']['release'] == '1.0.2+build.41'
    assert [roll['before'] for roll in data['rolls']] == ['1.0.5', '1.0.4', '1.0.3']


def test_a_refresh_is_shown_with_its_release_and_reason(checkout: Checkout, account: Account, group: str) -> None:
    template = account.add_template('next', account.add_ami('2', Version='1.0.3+build.45'))
    account.refresh(group, 'InProgress', {'LaunchTemplate': {'LaunchTemplateId': template, 'Version': '1'}})
    out = checkout.release('status', '--group', group).out
    assert 'refresh r: InProgress 0 % to 1.0.3+build.45 (version 1)' in out, out


def test_a_booting_instance_is_shown_with_the_last_phase_on_its_console(checkout: Checkout, account: Account,
                                                                        group: str) -> None:
    account.say('visitors config: 0.31 s: 9 settings\nvisitors migrate: 2.10 s: at head\n')
    groups = account.client('autoscaling')
    groups.put_lifecycle_hook(AutoScalingGroupName=group, LifecycleHookName='launch', LifecycleTransition=LAUNCHING)
    groups.update_auto_scaling_group(AutoScalingGroupName=group, MaxSize=2, DesiredCapacity=2)
    result = checkout.release('status', '--group', group, '--watch', '--timeout', '15')
    assert result.code == 0, result
    assert 'booting: migrate: 2.10 s: at head' in result.out, result
    assert result.out.count('desired 2 of 1 to 2') > 2, 'it is repeated'


def test_an_unknown_group_and_a_missing_name_are_refused(checkout: Checkout) -> None:
    result = checkout.release('status', '--group', 'nothing')
    assert (result.code, 'has no Auto Scaling group nothing' in result.err) == (3, True), result
    assert checkout.release('status').code == 2
    assert 'no Auto Scaling group other' in checkout.release('status', VISITORS_GROUP='other').err


@pytest.mark.parametrize(('lifecycle', 'targets', 'state'), [
    ('Pending:Wait', ['unused'], 'booting'), ('InService', [], 'in service'), ('InService', ['healthy'], 'in service'),
    ('InService', ['initial'], 'registering'), ('InService', ['healthy', 'unhealthy'], 'unhealthy'),
    ('Standby', ['unused'], 'standby'), ('Terminating:Wait', ['draining'], 'leaving'), ('Detached', [], 'leaving')])
def test_the_state_of_an_instance_follows_from_its_lifecycle_and_its_targets(lifecycle: str, targets: list[str],
                                                                             state: str) -> None:
    assert state_of(lifecycle, targets) == state


@pytest.mark.parametrize(('console', 'phase'), [
    ('', ''), ('[    1.2] Linux version 6.12', ''), ('visitors config: 0.31 s: set', 'config: 0.31 s: set'),
    ('[   12.1] cloud-init[1]: visitors migrate: 2.1 s: at head\nlogin:', 'migrate: 2.1 s: at head'),
    ('visitors config: 1 s: ok\nvisitors FAILED in migrate: 20: no table', 'FAILED in migrate: 20: no table')])
def test_the_phase_is_the_last_that_the_boot_printed(console: str, phase: str) -> None:
    assert phase_of(console) == phase
