"""Step failed: a machine that cannot serve reports why, abandons its hook and turns itself off, whatever fails."""

from collections.abc import Callable
import json
import socket
import subprocess
import time

import pytest

from instance import failed as step
from instance.aws import Patience
from instance.boot_record import Failure
from instance.failed import dimensions_of, failure_of, metric_of, UnitEnd
from instance.user_data import UserData
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.launched_group import COMPLETE, GROUP, HOOK, LaunchedGroup
from tests.support.local_aws import operations
from tests.support.machine_folder import DEPLOY, FolderMachine, last_line, PREFIX
from tests.support.parameters import KEY, put_secrets, put_settings

# systemd ends the step after this time: TimeoutStartSec of its unit.
SECONDS = 60


def fail(machine: FolderMachine, phase: str = 'config', code: int = 1, reason: str = 'a reason') -> None:
    machine.write('run/visitors/boot.json', json.dumps({'phases': [], 'failure': {
        'phase': phase, 'code': code, 'reason': reason}}))


def failed(machine: FolderMachine, **environment: str) -> subprocess.CompletedProcess[str]:
    begun = time.monotonic()
    result = machine.run('failed', **environment)
    assert time.monotonic() - begun < SECONDS, 'systemd would have killed it'
    assert machine.was_turned_off
    return result


@pytest.fixture
def hurried(machine: FolderMachine, monkeypatch: pytest.MonkeyPatch,
            capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Give the same step in this process with a patience of a moment, and its output."""
    def run(**environment: str) -> tuple[str, str]:
        monkeypatch.setattr('instance.failed.IMPATIENT', Patience(connect=0.3, answer=0.3, seconds=0.3))
        entered = machine.enter(monkeypatch)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert step.run(entered) == 'turning off'
        assert machine.was_turned_off
        return capfd.readouterr()

    return run


def counted(aws: EmbeddedRehearsal) -> list[tuple[str, dict[str, str]]]:
    """Return the metrics as CloudWatch reports them."""
    metrics = aws.client('cloudwatch').list_metrics(Namespace='Visitors')['Metrics']
    pairs = [(metric['MetricName'], {each['Name']: each['Value'] for each in metric['Dimensions']})
             for metric in metrics]
    return sorted(pairs, key=str, reverse=True)


def abandoned(aws: EmbeddedRehearsal) -> list[dict[str, str]]:
    return [call.parameters for call in list(aws.faults.calls) if call.operation == COMPLETE]


def test_a_failed_migration_is_printed_counted_and_abandoned(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    launched = LaunchedGroup(aws, machine)
    put_settings(aws, DATABASE_URL='postgresql://visitors@database/visitors')
    put_secrets(aws, VISITOR_KEY=KEY)
    assert machine.run('config').returncode == 0
    machine.answer_migration(20, 'x y ERROR schema: deploy 7 failed: DataError\n')
    assert machine.run('migrate').returncode == 20
    result = failed(machine)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == ('visitors FAILED in migrate: the migration of this deploy has failed: '
                                             'deploy 7 failed: DataError; turning off')
    assert counted(aws) == [('MigrationFailed', {}), ('MigrationFailed', {'DeployId': DEPLOY})]
    (call,) = abandoned(aws)
    assert {name: call[name] for name in ('LifecycleActionResult', 'InstanceId', 'AutoScalingGroupName',
                                          'LifecycleHookName')} == {
        'LifecycleActionResult': 'ABANDON', 'InstanceId': launched.instance, 'AutoScalingGroupName': GROUP,
        'LifecycleHookName': HOOK}


def test_a_failure_of_the_first_step_is_reported_too(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    launched = LaunchedGroup(aws, machine)
    assert machine.run('config').returncode == 1, 'nothing is in the Parameter Store'
    result = failed(machine)
    assert 'visitors FAILED in config: missing in the Parameter Store' in result.stdout
    assert counted(aws) == [('BootFailed', {}), ('BootFailed', {'DeployId': DEPLOY})]
    assert abandoned(aws)[0]['InstanceId'] == launched.instance


def test_without_a_hook_no_abandon_is_sent(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    fail(machine)
    assert failed(machine).returncode == 0
    assert not abandoned(aws)
    assert counted(aws)


@pytest.mark.parametrize(('phase', 'code', 'metric'), [
    ('migrate', 20, 'MigrationFailed'), ('migrate', 22, 'MigrationFailed'), ('migrate', 24, 'MigrationFailed'),
    ('migrate', 23, 'MigrationFailed'),
    ('migrate', 21, 'BootFailed'), ('migrate', 1, 'BootFailed'), ('config', 1, 'BootFailed'),
    ('application', 20, 'BootFailed'),
])
def test_only_a_verdict_about_the_migration_counts_as_one(phase: str, code: int, metric: str) -> None:
    assert metric_of(Failure(phase, code, '')) == metric


def test_each_alarm_gets_the_failure_under_its_own_dimensions() -> None:
    assert dimensions_of(UserData(deploy_id='7')) == [{'DeployId': '7'}, {}]
    assert dimensions_of(UserData()) == [{}]
    assert dimensions_of(UserData(deploy_id='7', auto_scaling_group='visitors-staging')) == [
        {'DeployId': '7'}, {'AutoScalingGroupName': 'visitors-staging'}, {}]


def test_a_hook_that_waits_no_more_is_no_reason_to_stay_on(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    launched = LaunchedGroup(aws, machine)
    launched.complete()
    fail(machine)
    result = failed(machine)
    assert result.returncode == 0
    assert 'lifecycle hook: done' in result.stderr


def test_an_unavailable_api_keeps_no_machine_on(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                hurried: Callable[..., tuple[str, str]]) -> None:
    LaunchedGroup(aws, machine)
    fail(machine)
    aws.stop()
    stdout, stderr = hurried()
    assert 'visitors FAILED in config: a reason; turning off' in stdout
    assert 'metric: metric BootFailed: Could not connect' in stderr
    assert 'lifecycle hook: ' in stderr


def test_an_api_that_is_silent_keeps_no_machine_on(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                   hurried: Callable[..., tuple[str, str]]) -> None:
    LaunchedGroup(aws, machine)
    fail(machine)
    with socket.create_server(('127.0.0.1', 0)) as silent:
        machine.write('etc/visitors/instance.env', (machine.root / 'etc/visitors/instance.env').read_text().replace(
            aws.endpoint, f'http://127.0.0.1:{silent.getsockname()[1]}'))
        assert 'timeout' in hurried()[1].lower()


def test_one_act_that_fails_does_not_keep_the_other(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    LaunchedGroup(aws, machine)
    fail(machine)
    for refused in (COMPLETE, 'PutMetricData'):
        aws.faults.clear()
        aws.faults.refuse(refused, status=403, code='AccessDenied')
        result = failed(machine)
        assert 'AccessDenied' in result.stderr
        assert {'PutMetricData', COMPLETE} <= set(operations(aws))


def test_a_wrong_clock_is_named_and_keeps_no_machine_on(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    LaunchedGroup(aws, machine)
    fail(machine)
    aws.faults.refuse('PutMetricData', COMPLETE, status=403, code='SignatureDoesNotMatch')
    result = failed(machine)
    assert 'the clock of this instance shows 20' in result.stderr


def test_an_unavailable_metadata_service_keeps_no_machine_on(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                             hurried: Callable[..., tuple[str, str]]) -> None:
    LaunchedGroup(aws, machine)
    fail(machine)
    _, stderr = hurried(AWS_EC2_METADATA_SERVICE_ENDPOINT='http://127.0.0.1:9')
    assert 'lifecycle hook: the metadata service' in stderr
    assert counted(aws), 'that needs no metadata'


def test_without_credentials_it_turns_off_as_well(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                  hurried: Callable[..., tuple[str, str]]) -> None:
    fail(machine)
    assert 'no credentials' in hurried(AWS_ACCESS_KEY_ID='', AWS_SECRET_ACCESS_KEY='')[1]


def test_without_user_data_it_prints_the_reason_and_turns_off(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                              hurried: Callable[..., tuple[str, str]]) -> None:
    machine.environment_file.unlink()
    stdout, _ = hurried(AWS_ENDPOINT_URL=aws.endpoint)
    assert 'No such file or directory; the user data writes it' in stdout


def test_bad_user_data_is_used_as_far_as_it_can_be_read(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    launched = LaunchedGroup(aws, machine)
    machine.write_user_data(**{**launched.user_data, 'PARAMETER_PREFX': PREFIX})
    assert machine.run('config').returncode == 1
    result = failed(machine)
    assert 'unknown name PARAMETER_PREFX' in result.stdout
    assert abandoned(aws), 'the group would wait for five minutes'
    assert counted(aws)


def test_a_broken_record_and_a_broken_systemd_hide_nothing_but_the_reason(machine: FolderMachine,
                                                                          aws: EmbeddedRehearsal) -> None:
    machine.write('run/visitors/boot.json', '{"phases": ')
    machine.answer_systemctl({'broken': True})
    result = machine.run('failed')
    assert machine.was_turned_off
    assert result.returncode == 1, 'systemd then turns the machine off: FailureAction of the unit'
    assert 'not ready within 1200 s' in result.stdout
    assert counted(aws)


def test_systemd_names_a_failure_that_no_step_recorded(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    machine.answer_systemctl({'visitors-config.service': {'Result': 'success', 'ExecMainStatus': '0'},
                              'visitors-migrate.service': {'Result': 'success', 'ExecMainStatus': '0'},
                              'visitors.service': {'Result': 'exit-code', 'ExecMainStatus': '137'}})
    machine.install('journalctl', 'echo "MemoryError"')
    result = failed(machine)
    assert result.stdout.splitlines()[0] == ('visitors FAILED in application: visitors.service ended with exit-code, '
                                             'exit code 137: MemoryError; turning off')


def test_user_data_that_fail_are_named(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    machine.answer_systemctl({'cloud-final.service': {'Result': 'exit-code', 'ExecMainStatus': '1'}})
    machine.install('journalctl', 'echo "Failed to run module scripts_user"')
    result = failed(machine)
    assert result.stdout.splitlines()[0] == ('visitors FAILED in user data: cloud-final.service ended with exit-code, '
                                             'exit code 1: Failed to run module scripts_user; turning off')


def test_the_first_unit_that_has_failed_is_the_one() -> None:
    ends = [UnitEnd('visitors-config.service', 'success', '0', ''),
            UnitEnd('visitors-migrate.service', 'timeout', '15', 'waiting'), UnitEnd('visitors.service', 'x', '1', '')]
    assert failure_of(ends) == Failure('migrate', 15, 'visitors-migrate.service ended with timeout, exit code 15: '
                                                      'waiting')
    assert failure_of([]).reason == 'not ready within 1200 s'


def test_in_a_self_test_the_console_names_the_failed_step(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    machine.write('etc/visitors/instance.env', 'SELFTEST=1\n')
    fail(machine, 'migrate', 22, 'UNVERSIONED')
    result = failed(machine)
    assert 'SELFTEST FAILED migrate: UNVERSIONED' in result.stdout.splitlines()
    assert not aws.faults.calls


def test_the_line_that_ends_it_is_the_last(machine: FolderMachine, aws: EmbeddedRehearsal) -> None:
    fail(machine)
    assert last_line(failed(machine).stdout).endswith(' s: turning off')
