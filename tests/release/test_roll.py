"""Rolls and rollbacks through the command line, on a group whose instances the rehearsal really replaces."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
from pathlib import Path
import signal
from threading import Thread
from typing import Any

from hypothesis import given, strategies as st
import pytest

from release.group import Group, Instance, SERVING, Version
from release.page import Answer, objection, SAMPLES
from release.preflight import before, choose, Pace, preferences
from tests.support.account import Account, REGION
from tests.support.checkout import Checkout, Ended, ended
from tests.support.waiting import eventually

OLD, NEW = '1.0.1+build.1', '1.0.2+build.2'
GROUP = 'visitors'
LAUNCHING = 'autoscaling:EC2_INSTANCE_LAUNCHING'
FAST = ('--canary', '0', '--bake', '0')


class Site:
    """The page behind a load balancer: each request goes to the next instance in service."""

    def __init__(self, account: Account) -> None:
        """Answer at a port of this machine."""
        self._account = account
        self._turn = 0
        self.broken: set[str] = set()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer as an instance in service."""
                site._turn += 1
                served = site.served
                version = served[site._turn % len(served)] if served else ''
                status = 503 if not version else 500 if version in site.broken and self.path == '/' else 200
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps({'version': version}).encode())

            def log_message(self, *_arguments: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f'http://127.0.0.1:{self._server.server_port}'

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def served(self) -> list[str]:
        """The release of each instance in service."""
        (group,) = self._account.client('autoscaling').describe_auto_scaling_groups()['AutoScalingGroups']
        return [{'1': OLD, '2': NEW}[each['LaunchTemplate']['Version']] for each in group['Instances']
                if each['LifecycleState'] == 'InService']


class Rolled:
    """A group of two that runs the old release, a template with both, and the release tool."""

    def __init__(self, account: Account, folder: Path, site: Site) -> None:
        """Make the group, and wait for its instances."""
        self.account, self.site = account, site
        self.checkout = Checkout(folder, account)
        self.checkout.patience = {**self.checkout.patience, 'release.roll.POLL_SECONDS': 0.5}
        self.amis = [account.add_ami('old', 2, Version=OLD), account.add_ami('new', 1, Version=NEW)]
        template = account.add_template(GROUP, *self.amis)
        self.groups = account.client('autoscaling')
        self.groups.create_auto_scaling_group(
            AutoScalingGroupName=GROUP, MinSize=2, MaxSize=4, DesiredCapacity=2, AvailabilityZones=[f'{REGION}a'],
            LaunchTemplate={'LaunchTemplateId': template, 'Version': '1'})
        eventually(lambda: self.site.served == [OLD, OLD], 'both instances serve')

    def start(self, verb: str, *arguments: str) -> Any:
        """Start the release tool."""
        return self.checkout.start(verb, '--group', GROUP, '--url', self.site.url, *FAST, *arguments)

    def run(self, verb: str, *arguments: str) -> Ended:
        """Return the result of the release tool."""
        return ended(self.start(verb, *arguments))

    @property
    def refreshes(self) -> list[str]:
        """The status of each refresh, the newest first."""
        described = self.groups.describe_instance_refreshes(AutoScalingGroupName=GROUP)
        return [str(each['Status']) for each in described['InstanceRefreshes']]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records of rolls, the oldest first."""
        folder = self.checkout.root / 'build' / 'artefacts' / 'rolls' / GROUP
        return [dict(json.loads(path.read_text(encoding='utf-8'))) for path in sorted(folder.glob('*.json'))]

    def asked(self) -> int:
        """Return how often the refreshes were described."""
        return sum(call.operation == 'DescribeInstanceRefreshes' for call in list(self.account.rehearsal.faults.calls))

    def hold(self) -> None:
        """Let each new instance wait for a launch hook."""
        self.groups.put_lifecycle_hook(AutoScalingGroupName=GROUP, LifecycleHookName='launch',
                                       LifecycleTransition=LAUNCHING)

    def waiting(self) -> list[str]:
        """Return the instances that wait for the hook."""
        (group,) = self.groups.describe_auto_scaling_groups()['AutoScalingGroups']
        return [str(each['InstanceId']) for each in group['Instances'] if each['LifecycleState'] == 'Pending:Wait']

    def release_hook(self, result: str) -> None:
        """End the wait of each instance that waits now."""
        for instance in eventually(self.waiting, 'an instance waits for the hook'):
            self.groups.complete_lifecycle_action(AutoScalingGroupName=GROUP, LifecycleHookName='launch',
                                                  InstanceId=instance, LifecycleActionResult=result)


@pytest.fixture
def rolled(account: Account, tmp_path: Path) -> Iterator[Rolled]:
    """Give a group of two that runs the old release."""
    site = Site(account)
    yield Rolled(account, tmp_path, site)
    site.close()


def test_a_roll_takes_the_release_to_every_instance_and_leaves_a_record(rolled: Rolled) -> None:
    result = rolled.run('roll', '--json')
    assert result.code == 0, result
    outcome = json.loads(result.out)
    assert (outcome['result'], outcome['after']) == ('Successful', f'{NEW} (version 2)')
    assert rolled.site.served == [NEW, NEW]
    (record,) = rolled.records
    assert (record['result'], record['before'], record['exit_code']) == ('Successful', f'{OLD} (version 1)', 0)
    for name in ('refresh', 'instances', 'alarms', 'release', 'template', 'way back', 'page'):
        assert f'ok     {name}' in result.err
    again = rolled.run('roll')
    assert (again.code, 'nothing to do' in again.out, len(rolled.refreshes)) == (0, True, 1), again


def test_a_release_whose_page_fails_is_rolled_back_by_the_check_of_the_canary(rolled: Rolled) -> None:
    rolled.site.broken = {NEW}
    result = rolled.run('roll', NEW, '--canary', '3600')
    assert result.code == 10, result
    assert 'requests failed, such as /: HTTP Error 500' in result.out
    assert (rolled.site.served, rolled.refreshes) == ([OLD, OLD], ['RollbackSuccessful'])
    assert rolled.records[0]['exit_code'] == 10


@pytest.mark.parametrize(('check', 'spoil'), [
    ('alarms (errors rings)', 'alarm'), ('alarms (there is no errors)', ''), ('release (', 'release'),
    ('page (/: HTTP Error 500', 'page')])
def test_a_failed_check_starts_nothing(rolled: Rolled, check: str, spoil: str) -> None:
    if spoil == 'alarm':
        watch = rolled.account.client('cloudwatch')
        watch.put_metric_alarm(AlarmName='visitors-errors', Namespace='n', MetricName='m', Statistic='Sum', Period=60,
                               EvaluationPeriods=1, Threshold=1, ComparisonOperator='GreaterThanThreshold',
                               TreatMissingData='breaching')
        watch.set_alarm_state(AlarmName='visitors-errors', StateValue='ALARM', StateReason='r')
    if spoil == 'release':
        rolled.account.client('ec2').create_tags(Resources=[rolled.amis[1]],
                                                 Tags=[{'Key': 'Released', 'Value': 'false'}])
    if spoil == 'page':
        rolled.site.broken = {OLD}
    result = rolled.run('roll', *(('--alarm', 'visitors-errors') if 'alarms' in check else ()))
    assert (result.code, check.replace('errors', 'visitors-errors') in result.err) == (9, True), result
    assert (rolled.refreshes, rolled.records) == ([], [])


def test_a_plan_starts_nothing(rolled: Rolled) -> None:
    result = rolled.run('roll', '--plan')
    assert (result.code, rolled.refreshes) == (0, []), result
    assert f'plan: from {OLD} (version 1) to {NEW} (version 2)' in result.err and "'AutoRollback': True" in result.err


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_roll_that_is_ended_goes_on_at_aws_and_the_next_one_adopts_it(rolled: Rolled, number: signal.Signals,
                                                                        code: int) -> None:
    rolled.hold()
    first = rolled.start('roll')
    eventually(rolled.waiting, 'the first new instance boots')
    first.send_signal(number)
    stopped = ended(first)
    assert stopped.code == code, stopped
    if number != signal.SIGKILL:
        assert f'adopt it: bin/release roll {rolled.amis[1]} --group visitors' in stopped.err
        assert rolled.records[0]['result'] == 'no longer followed'
    assert rolled.refreshes == ['InProgress']
    described = rolled.asked()
    second = rolled.start('roll', NEW)
    eventually(lambda: rolled.asked() > described + 1, 'the second call follows the refresh')
    while second.poll() is None and rolled.site.served != [NEW, NEW]:
        if rolled.waiting():
            rolled.release_hook('CONTINUE')
    result = ended(second)
    assert (result.code, 'adopting the refresh' in result.err) == (0, True), result
    assert (rolled.refreshes, rolled.site.served) == (['Successful'], [NEW, NEW])


def test_a_rollback_undoes_a_running_roll(rolled: Rolled) -> None:
    rolled.hold()
    first = rolled.start('roll')
    eventually(rolled.waiting, 'the first new instance boots')
    result = rolled.run('rollback')
    assert (result.code, rolled.site.served) == (0, [OLD, OLD]), result
    assert ended(first).code == 10, 'the roll sees that a person undid it'


def test_a_rollback_after_a_roll_returns_to_the_release_before(rolled: Rolled) -> None:
    assert rolled.run('roll').code == 0
    result = rolled.run('rollback')
    assert (result.code, rolled.site.served) == (0, [OLD, OLD]), result
    assert rolled.run('rollback').code == 9, 'there is no earlier release'


def test_the_cause_of_an_instance_that_failed_to_boot_is_on_the_screen(rolled: Rolled) -> None:
    rolled.hold()
    rolled.account.say('visitors config: 0.2 s: ok\nvisitors FAILED in migrate: 20: no table visits\n')
    roll = rolled.start('roll')
    rolled.release_hook('ABANDON')
    while roll.poll() is None:
        if rolled.waiting():
            rolled.release_hook('CONTINUE')
    result = ended(roll)
    assert (result.code, 'FAILED in migrate: 20: no table visits' in result.out) == (0, True), result


def made(number: int, release: str) -> Version:
    return Version('lt-1', str(number), f'ami-{release}', release)


def test_the_newest_version_of_a_release_is_chosen_and_an_earlier_release_is_the_way_back() -> None:
    versions = [made(5, 'c'), made(4, 'b'), made(3, 'b'), made(2, 'a'), made(1, 'a')]
    assert choose(versions, '') == versions[0] and choose(versions, 'b') == versions[1]
    assert choose(versions, 'ami-a') == versions[3] and choose(versions, 'd') is None
    running = Group('g', 1, 1, 2, versions[1], (Instance('i', versions[1], SERVING),), (), ())
    assert before(running, versions) == versions[3], 'version 3 has the same release'


@given(st.integers(0, 50), st.integers(101, 200))
def test_a_roll_never_asks_for_less_than_all_healthy_and_can_always_be_rolled_back(desired: int, surge: int) -> None:
    group = Group('g', 0, desired, 60, made(1, 'a'), (), (), ())
    asked = preferences(group, Pace(surge, 60, 300), ['errors'])
    assert asked['MinHealthyPercentage'] == 100 < asked['MaxHealthyPercentage'] <= 200 and asked['AutoRollback']
    assert asked.get('CheckpointPercentages', [100])[-1] == 100
    assert desired > 1 or asked['MaxHealthyPercentage'] == 200, 'one instance needs a second one first'


@given(st.lists(st.sampled_from([200, 404, 500, 503, 0]), max_size=SAMPLES))
def test_only_enough_failures_abort_a_roll_and_missing_answers_never_do(statuses: list[int]) -> None:
    answers = [Answer('/', status) for status in statuses]
    assert bool(objection(answers)) == (sum(status >= 500 for status in statuses) >= 3)
