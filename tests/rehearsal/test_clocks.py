"""The two clocks of a rehearsal."""

import uuid

import pytest

from rehearsal.client import Rehearsal
from rehearsal.clocks import Clocks
from rehearsal.errors import RehearsalError
from rehearsal.settings import Settings
from tests.support.waiting import eventually


def test_the_pace_quickens_one_clock_alone() -> None:
    seconds = 100.0
    clocks = Clocks(60, lambda: seconds)
    before = clocks.paced()
    seconds += 2
    assert clocks.real() == 102
    assert clocks.paced() - before == 120
    assert clocks.real_seconds(300) == 5


@pytest.mark.parametrize('pace', [0, 0.5, 61, float('nan')])
def test_a_pace_that_would_slow_or_blur_aws_is_refused(pace: float) -> None:
    with pytest.raises(RehearsalError, match='pace'):
        Settings(pace=pace)


def test_a_quickened_rehearsal_evaluates_a_minute_in_a_second() -> None:
    with Rehearsal(Settings(f'p-{uuid.uuid4().hex[:8]}', machines=False, pace=60)) as quick:
        cloudwatch = quick.client('cloudwatch')

        def state() -> str:
            return str(cloudwatch.describe_alarms()['MetricAlarms'][0]['StateValue'])

        cloudwatch.put_metric_alarm(
            AlarmName='errors', Namespace='Tests', MetricName='Errors', Statistic='Sum', Period=60, Threshold=0,
            EvaluationPeriods=1, ComparisonOperator='GreaterThanThreshold', TreatMissingData='notBreaching')
        cloudwatch.put_metric_data(Namespace='Tests', MetricData=[{'MetricName': 'Errors', 'Value': 1}])
        eventually(lambda: state() == 'ALARM', 'the alarm rings')
        # The data point leaves the evaluation range after three minutes of AWS's.
        eventually(lambda: state() == 'OK', 'the alarm recovers', seconds=120)
