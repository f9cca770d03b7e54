"""Step ready: a machine is checked before its group sends it visitors."""

from collections.abc import Iterator
import re
import threading
import time

from botocore.session import get_session
import pytest

from instance import boot_record, lifecycle, ready
from instance.aws import Patience
from instance.errors import StepFailed
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.launched_group import COMPLETE, GROUP, HEARTBEAT, HOOK, LaunchedGroup
from tests.support.local_aws import operations, texts_of
from tests.support.machine_folder import FolderMachine, last_line, STEP_SECONDS, version
from tests.support.made_up_application import Application
from tests.support.parameters import KEY, put_secrets, put_settings
from tests.support.waiting import eventually

URL = 'postgresql://visitors@database/visitors'


@pytest.fixture
def application() -> Iterator[Application]:
    """Give an application that is ready."""
    application = Application()
    yield application
    application.end()


@pytest.fixture
def configured(machine: FolderMachine, aws: EmbeddedRehearsal, application: Application) -> FolderMachine:
    """Give a machine that is configured up to this step, without a group."""
    return configure(machine, aws, application)


def configure(machine: FolderMachine, aws: EmbeddedRehearsal, application: Application) -> FolderMachine:
    put_settings(aws, DATABASE_URL=URL, PORT=str(application.port))
    put_secrets(aws, VISITOR_KEY=KEY)
    result = machine.run('config')
    assert result.returncode == 0, result.stdout
    return machine


def completed(aws: EmbeddedRehearsal) -> list[str]:
    return texts_of(aws, COMPLETE)


def test_without_a_hook_aws_is_not_called(configured: FolderMachine, aws: EmbeddedRehearsal) -> None:
    before = len(aws.faults.calls)
    result = configured.run('ready')
    assert result.returncode == 0, result.stdout
    assert last_line(result.stdout).endswith(f'{version()} serves; no lifecycle hook to complete')
    assert len(aws.faults.calls) == before
    assert (configured.root / 'run/visitors/ready').exists()
    assert [phase['phase'] for phase in configured.boot['phases']] == ['power-on', 'network', 'config', 'ready']


def test_the_hook_is_completed_and_the_target_group_reports_healthy(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                                    application: Application) -> None:
    launched = LaunchedGroup(aws, machine)
    result = configure(machine, aws, application).run('ready')
    assert result.returncode == 0, result.stdout
    assert last_line(result.stdout).endswith(f'{GROUP}: hook completed, healthy in 1 target group')
    (call,) = completed(aws)
    for part in (f'InstanceId={launched.instance}', f'LifecycleHookName={HOOK}', f'AutoScalingGroupName={GROUP}',
                 'LifecycleActionResult=CONTINUE'):
        assert part in call
    actions = operations(aws)
    through = actions.index(COMPLETE)
    assert 'DescribeTargetHealth' in actions[:through], 'it has to know before that it may ask afterwards'
    assert 'DescribeTargetHealth' in actions[through:], 'a group registers its machine only when the hook is through'
    assert application.agents == {'visitors-instance'}, 'its own questions are no visits'


def test_a_group_without_target_groups_asks_for_no_health(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                          application: Application) -> None:
    LaunchedGroup(aws, machine, balanced=False)
    result = configure(machine, aws, application).run('ready')
    assert result.returncode == 0, result.stdout
    assert last_line(result.stdout).endswith('hook completed, healthy in 0 target groups')


def test_it_waits_until_the_hook_waits(
        machine: FolderMachine, aws: EmbeddedRehearsal, application: Application) -> None:
    launched = LaunchedGroup(aws, machine)
    waits = threading.Event()
    launched.show('Pending', until=waits)
    configure(machine, aws, application)
    with machine.start('ready') as process:
        eventually(lambda: completed(aws), 'it has asked once')
        waits.set()
        stdout, _ = process.communicate(timeout=STEP_SECONDS)
    assert process.returncode == 0, stdout
    assert len(completed(aws)) >= 2


@pytest.mark.parametrize('state', ['InService', 'Pending:Proceed'])
def test_a_hook_that_was_completed_before_is_not_awaited(machine: FolderMachine, aws: EmbeddedRehearsal, state: str,
                                                         application: Application) -> None:
    launched = LaunchedGroup(aws, machine)
    launched.complete()
    launched.show(state)
    result = configure(machine, aws, application).run('ready')
    assert result.returncode == 0, result.stdout
    assert f'{GROUP}: hook was completed before' in last_line(result.stdout)


@pytest.mark.parametrize('state', ['Terminating:Wait', 'Terminated'])
def test_a_machine_that_its_group_gives_up_fails(machine: FolderMachine, aws: EmbeddedRehearsal, state: str,
                                                 application: Application) -> None:
    launched = LaunchedGroup(aws, machine)
    launched.show(state)
    result = configure(machine, aws, application).run('ready')
    assert result.returncode == 1
    assert f'{GROUP} removes this instance (state {state})' in last_line(result.stdout)


@pytest.mark.parametrize('state', ['Standby', 'Warmed:Running'])
def test_a_machine_that_its_group_has_set_aside_goes_on(machine: FolderMachine, aws: EmbeddedRehearsal, state: str,
                                                        application: Application) -> None:
    launched = LaunchedGroup(aws, machine)
    launched.show(state)
    result = configure(machine, aws, application).run('ready')
    assert result.returncode == 0, result.stdout
    assert last_line(result.stdout).endswith(f'serves; {GROUP} has set this instance aside (state {state})')
    assert not completed(aws)


def test_a_machine_that_was_detached_goes_on_after_a_restart(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                             application: Application) -> None:
    launched = LaunchedGroup(aws, machine)
    assert configure(machine, aws, application).run('ready').returncode == 0
    launched.detach()
    assert machine.run('config').returncode == 0
    result = machine.run('ready')
    assert result.returncode == 0, result.stdout
    assert last_line(result.stdout).endswith('serves; this instance left its group')


def test_a_machine_that_is_set_aside_while_it_waits_for_its_balancer_goes_on(
        machine: FolderMachine, aws: EmbeddedRehearsal, application: Application) -> None:
    launched = LaunchedGroup(aws, machine)
    launched.show('Warmed:Pending:Proceed', after_complete=True)
    launched.show_health('unused', 'Target.NotRegistered', 'Target is not registered to the target group')
    result = configure(machine, aws, application).run('ready')
    assert result.returncode == 0, result.stdout
    assert 'hook completed, set aside meanwhile (state Warmed:Pending:Proceed)' in last_line(result.stdout)


def test_every_state_of_the_api_is_of_one_kind() -> None:
    states = get_session().get_service_model('autoscaling').shape_for('LifecycleState').enum
    aside = {state for state in states if lifecycle.is_aside(state)}
    leaving = {state for state in states if lifecycle.is_leaving(state)}
    assert {*lifecycle.WAITING, *lifecycle.SERVING} | aside | leaving == set(states)
    assert not {*lifecycle.WAITING, *lifecycle.SERVING} & (aside | leaving)
    assert {'Terminating:Wait', 'Terminated', 'Quarantined', 'Warmed:Terminating'} <= leaving
    assert {'Standby', 'Detached', 'Warmed:Hibernated'} <= aside


@pytest.mark.parametrize('action', ['DescribeTargetHealth', 'DescribeAutoScalingGroups'])
def test_a_missing_permission_fails_before_the_hook_is_completed(
        machine: FolderMachine, aws: EmbeddedRehearsal, action: str, application: Application) -> None:
    LaunchedGroup(aws, machine)
    configure(machine, aws, application)
    aws.faults.refuse(action, status=403, code='AccessDenied', message='not for this role')
    result = machine.run('ready')
    assert result.returncode == 1
    assert 'AccessDenied: not for this role' in last_line(result.stdout)
    assert not completed(aws), 'it would be in service, and turn itself off'


@pytest.mark.parametrize(('status', 'code'), [(403, 'AccessDenied'), (503, 'ServiceUnavailable')])
def test_a_failed_call_after_the_hook_is_retried(
        machine: FolderMachine, aws: EmbeddedRehearsal, application: Application, status: int, code: str,
        monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    LaunchedGroup(aws, machine)
    configure(machine, aws, application)
    monkeypatch.setattr('instance.aws.PATIENCE', Patience(seconds=0))
    monkeypatch.setattr('instance.ready.HEALTH_POLL', 0.01)
    aws.faults.refuse('DescribeTargetHealth', status=status, code=code, message='not now', times=3,
                      when=lambda _call: bool(completed(aws)))
    assert ready.run(machine.enter(monkeypatch)).endswith('hook completed, healthy in 1 target group')
    assert len(aws.faults.refused) == 3
    retries = [line for line in capfd.readouterr().err.splitlines() if line.startswith('ready: retrying: ')]
    assert len(retries) == 1 and retries[0].endswith(f'{code}: not now'), 'one line for three equal failures'


def test_an_answer_that_is_lost_ends_no_machine_in_service(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                           application: Application,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    LaunchedGroup(aws, machine)
    configure(machine, aws, application)
    monkeypatch.setattr('instance.aws.PATIENCE', Patience(seconds=0))
    monkeypatch.setattr('instance.ready.HOOK_POLL', 0.01)
    aws.faults.lose(COMPLETE, times=1)
    assert ready.run(machine.enter(monkeypatch)).endswith('hook was completed before, healthy in 1 target group')


def test_a_hook_for_a_machine_in_no_group_is_a_mistake(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                       application: Application) -> None:
    machine.write_user_data(PARAMETER_PREFIX='/visitors/test', AWS_REGION=aws.region, DEPLOY_ID='7',
                            LIFECYCLE_HOOK=HOOK)
    result = configure(machine, aws, application).run('ready')
    assert result.returncode == 1
    assert re.search('LIFECYCLE_HOOK=launch, but i-[0-9a-f]+ is in no Auto Scaling group; leave LIFECYCLE_HOOK empty',
                     last_line(result.stdout))


def test_the_wrong_version_is_never_put_into_service(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                     application: Application) -> None:
    LaunchedGroup(aws, machine)
    application.answers['/version'] = (200, {'version': '9.9.9'})
    result = configure(machine, aws, application).run('ready')
    assert result.returncode == 1
    assert f'/version answers 9.9.9, image.json has {version()}' in last_line(result.stdout)
    assert not completed(aws)
    assert not (machine.root / 'run/visitors/ready').exists()


def test_a_database_that_comes_late_is_waited_for(configured: FolderMachine, application: Application) -> None:
    application.answers['/readyz'] = (503, {'ready': False, 'reason': 'the database is unavailable'})
    with configured.start('ready') as process:
        time.sleep(2)
        assert process.poll() is None
        application.answers['/readyz'] = (200, {'ready': True})
        stdout, _ = process.communicate(timeout=STEP_SECONDS)
    assert process.returncode == 0, stdout


def test_an_application_that_is_never_ready_fails_with_its_answer(configured: FolderMachine, application: Application,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    application.answers['/readyz'] = (503, {'ready': False, 'reason': 'the database is unavailable'})
    assert re.search('^not within [01] s: /readyz answers 503: .*the database is unavailable',
                     reason_of_a_late_boot(configured, monkeypatch))


def reason_of_a_late_boot(machine: FolderMachine, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the failure of the step when one second of the boot is left at its start."""
    entered = machine.enter(monkeypatch)
    machine.age_boot(boot_record.BOOT_SECONDS - 1)
    with pytest.raises(StepFailed) as failed:
        ready.run(entered)
    return failed.value.message


def test_an_application_that_is_not_there_fails(configured: FolderMachine, application: Application,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    application.end()
    reason = reason_of_a_late_boot(configured, monkeypatch)
    assert '/readyz does not answer: ConnectionRefusedError' in reason


def test_a_machine_that_the_balancer_finds_ill_fails_with_its_reason(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                                     application: Application,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    launched = LaunchedGroup(aws, machine)
    launched.show_health('unhealthy', 'Target.ResponseCodeMismatch', 'Health checks failed with these codes: [503]')
    configure(machine, aws, application)
    reason = reason_of_a_late_boot(machine, monkeypatch)
    assert re.search('^not within [01] s: targetgroup/visitors/[0-9a-f]+ reports unhealthy: Health checks', reason)
    assert len(completed(aws)) == 1, 'the hook was completed once'


def test_a_refusal_of_the_hook_is_printed(
        machine: FolderMachine, aws: EmbeddedRehearsal, application: Application) -> None:
    LaunchedGroup(aws, machine)
    configure(machine, aws, application)
    aws.faults.refuse(COMPLETE, status=403, code='AccessDenied', message='not for this role')
    result = machine.run('ready')
    assert result.returncode == 1
    assert f'lifecycle hook {HOOK} of {GROUP}: AccessDenied: not for this role' in last_line(result.stdout)


def test_the_hook_is_kept_waiting_while_the_application_gets_ready(
        machine: FolderMachine, aws: EmbeddedRehearsal, application: Application,
        monkeypatch: pytest.MonkeyPatch) -> None:
    LaunchedGroup(aws, machine)
    configure(machine, aws, application)
    application.answers['/readyz'] = (503, {})
    monkeypatch.setattr('instance.lifecycle.HEARTBEAT_SECONDS', 0.3)
    aws.faults.watch(HEARTBEAT, act=lambda _call: application.answers.update({'/readyz': (200, {})}))
    ready.run(machine.enter(monkeypatch))
    actions = operations(aws)
    assert actions.index(HEARTBEAT) < actions.index(COMPLETE)
