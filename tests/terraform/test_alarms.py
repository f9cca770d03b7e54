"""The alarms of the stack: the data points that make each ring and recover, and the runbook that its mail names.

`alarms.json` has their definitions; test_stack.py compares it with those that Terraform creates.
"""

from dataclasses import dataclass
import json
from typing import Any

import pytest

from rehearsal.embedded import EmbeddedRehearsal
from tests.support.alarms import facts
from tests.support.server import ROOT

GIB = 1024 ** 3
RINGING_IN_SILENCE = {'page-unreachable', 'too-few-instances'}
# Each metric's values in a period, with the number of times that each occurs.
Values = dict[str, dict[float, int]]


@dataclass(frozen=True)
class Data:
    """The data of a period in which an alarm's threshold is just breached, and of one in which it is just kept."""

    bad: Values
    good: Values


def one(metric: str, bad: float, good: float) -> Data:
    return Data({metric: {bad: 1}}, {metric: {good: 1}})


DATA = {
    'slow-answers': Data({'TargetResponseTime': {0.1: 189, 1.01: 11}}, {'TargetResponseTime': {0.1: 190, 9: 10}}),
    'unhealthy-instances': one('UnHealthyHostCount', 1, 0),
    'too-few-instances': one('HealthyHostCount', 1, 2),
    'migration-failed': one('MigrationFailed', 1, 0),
    'boot-failed': Data({'BootFailed': {1: 2}}, {'BootFailed': {1: 1}}),
    'instance-memory': one('MemoryUsed', 90.1, 90),
    'instance-disk': one('DiskUsed', 80.1, 80),
    'database-storage': one('FreeStorageSpace', 2 * GIB - 1, 2 * GIB),
    'database-connections': one('DatabaseConnections', 65, 64),
    'database-cpu': Data({'CPUUtilization': {61: 1, 100: 1}}, {'CPUUtilization': {60: 1, 100: 1}}),
    'certificate-expiry': one('DaysToExpiry', 20, 21),
    'error-ratio': Data(
        {'RequestCount': {1: 100}, 'HTTPCode_Target_5XX_Count': {1: 2}, 'HTTPCode_ELB_5XX_Count': {1: 1}},
        {'RequestCount': {1: 100}, 'HTTPCode_Target_5XX_Count': {1: 3}, 'RequestsInAdvance': {1: 1}}),
    'page-unreachable': one('HealthCheckStatus', 0, 1),
}


class Installed:
    """An alarm of the stack in a rehearsal, and the person on call."""

    def __init__(self, aws: EmbeddedRehearsal, name: str) -> None:
        """Create the alarm as Terraform does."""
        self.aws, self.name, self.cloudwatch = aws, name, aws.client('cloudwatch')
        topic = aws.client('sns').create_topic(Name='on-call')['TopicArn']
        aws.client('sns').subscribe(TopicArn=topic, Protocol='email', Endpoint='on-call@example.com')
        self.definition = facts()[name]
        actions = {each: [topic for _ in self.definition[each]]
                   for each in ('AlarmActions', 'OKActions', 'InsufficientDataActions')}
        self.cloudwatch.put_metric_alarm(AlarmName=name, **{**self.definition, **actions})
        self.metrics = {each['MetricName']: each for each in self._metrics()}
        self._go_to(self._minute() + 60)

    def _metrics(self) -> list[dict[str, Any]]:
        stats = [each['MetricStat'] for each in self.definition.get('Metrics', []) if 'MetricStat' in each]
        self.period = stats[0]['Period'] if stats else self.definition['Period']
        return [each['Metric'] for each in stats] or [self.definition]

    def period_of(self, values: Values) -> str:
        """Return the state of the alarm after one more period, which has these values."""
        begin = self._minute()
        for metric, counts in values.items():
            where = self.metrics[metric]
            self.cloudwatch.put_metric_data(Namespace=where['Namespace'], MetricData=[{
                'MetricName': metric, 'Dimensions': where['Dimensions'], 'Timestamp': self.aws.now,
                'Values': list(counts), 'Counts': list(counts.values())}])
        self._go_to(begin + self.period)
        return self.state

    @property
    def state(self) -> str:
        """Its state."""
        return str(self.cloudwatch.describe_alarms(AlarmNames=[self.name])['MetricAlarms'][0]['StateValue'])

    def _minute(self) -> float:
        return self.aws.now.timestamp() // 60 * 60

    def _go_to(self, moment: float) -> None:
        """Go on to the first second of a minute, so that a slow machine does not spread data over two periods."""
        self.aws.skip(moment + 0.5 - self.aws.now.timestamp())
        self.aws.look()


def test_every_alarm_of_the_stack_has_its_data_here() -> None:
    assert facts().keys() == DATA.keys()


@pytest.mark.parametrize('name', DATA)
def test_an_alarm_rings_with_as_many_bad_periods_as_it_needs_and_recovers_with_good_ones(
        aws: EmbeddedRehearsal, name: str) -> None:
    alarm, data = Installed(aws, name), DATA[name]
    periods = alarm.definition['EvaluationPeriods']
    needed = alarm.definition.get('DatapointsToAlarm', periods)
    # Enough good ones for the whole evaluation range, so that no missing data point decides.
    before = [alarm.period_of(data.good) for _ in range(periods + 2)]
    ringing = [alarm.period_of(data.bad) for _ in range(needed)]
    recovering = [alarm.period_of(data.good) for _ in range(periods - needed + 1)]
    assert before[-1] == 'OK'
    assert ringing == ['OK'] * (needed - 1) + ['ALARM']
    assert recovering == ['ALARM'] * (periods - needed) + ['OK']
    rung, recovered = aws.mail[-2:]
    assert [rung['subject'], recovered['subject']] == [
        f'{state}: "{name}" in US East (N. Virginia)' for state in ('ALARM', 'OK')]
    for mail in (rung, recovered):
        runbook = json.loads(mail['message'])['AlarmDescription'].rpartition('Next: ')[2]
        assert runbook == f'docs/runbooks/{name}.md' and (ROOT / runbook).is_file()


@pytest.mark.parametrize('name', DATA)
def test_silence_rings_only_where_silence_is_the_fault(aws: EmbeddedRehearsal, name: str) -> None:
    alarm = Installed(aws, name)
    states = [alarm.period_of({}) for _ in range(alarm.definition['EvaluationPeriods'] + 3)]
    assert states[-1] == ('ALARM' if name in RINGING_IN_SILENCE else 'OK')


def test_a_failure_of_a_handful_of_requests_is_no_ratio(aws: EmbeddedRehearsal) -> None:
    alarm = Installed(aws, 'error-ratio')
    few: Values = {'RequestCount': {1: 20}, 'HTTPCode_Target_5XX_Count': {1: 20}}
    assert [alarm.period_of(few) for _ in range(5)][-1] == 'OK'
    one_more: Values = {'RequestCount': {1: 21}, 'HTTPCode_Target_5XX_Count': {1: 20}}
    assert [alarm.period_of(one_more) for _ in range(3)][-1] == 'ALARM'


def test_slow_answers_ring_only_with_200_requests_a_minute(aws: EmbeddedRehearsal) -> None:
    alarm = Installed(aws, 'slow-answers')
    assert [alarm.period_of({'TargetResponseTime': {9: 199}}) for _ in range(6)][-1] == 'OK'
    assert [alarm.period_of({'TargetResponseTime': {9: 200}}) for _ in range(4)][-1] == 'ALARM'
