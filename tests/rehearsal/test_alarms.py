"""Alarms through the API: their creation, their states, and the acts that follow a change."""

from datetime import timedelta
import json
from typing import Any

from botocore.exceptions import ClientError
import pytest

from rehearsal.api.alarms.evaluator import Change
from rehearsal.embedded import EmbeddedRehearsal

ALARM: dict[str, Any] = {
    'AlarmName': 'errors', 'AlarmDescription': 'Too many. Next: docs/runbooks/errors.md', 'Namespace': 'Tests',
    'MetricName': 'Errors', 'Statistic': 'Sum', 'Period': 60, 'EvaluationPeriods': 1, 'Threshold': 2,
    'ComparisonOperator': 'GreaterThanThreshold', 'TreatMissingData': 'notBreaching'}


class Watched:
    """An alarm whose changes go to a person by e-mail."""

    def __init__(self, aws: EmbeddedRehearsal, **options: Any) -> None:
        """Make topic, subscription and alarm, and let the alarm be evaluated."""
        self.aws, self.cloudwatch = aws, aws.client('cloudwatch')
        self.topic = aws.client('sns').create_topic(Name='on-call')['TopicArn']
        aws.client('sns').subscribe(TopicArn=self.topic, Protocol='email', Endpoint='on-call@example.com')
        self.options = {**ALARM, 'AlarmActions': [self.topic], 'OKActions': [self.topic], **options}
        self.cloudwatch.put_metric_alarm(**self.options)
        self.end_minute()

    def put(self, *values: float, **dimensions: str) -> None:
        """Put values into this minute, and let it end."""
        pairs = [{'Name': name, 'Value': value} for name, value in dimensions.items()]
        for value in values:
            self.cloudwatch.put_metric_data(Namespace='Tests', MetricData=[
                {'MetricName': 'Errors', 'Value': value, 'Timestamp': self.aws.now, 'Dimensions': pairs}])
        self.end_minute()

    def end_minute(self) -> None:
        """Go on to the next minute's first second, so that a slow machine does not spread its data over two."""
        self.aws.skip(60.5 - self.aws.now.timestamp() % 60)
        self.aws.look()

    @property
    def described(self) -> dict[str, Any]:
        """Its description by the API."""
        return dict(self.cloudwatch.describe_alarms(AlarmNames=['errors'])['MetricAlarms'][0])

    @property
    def state(self) -> str:
        """Its state."""
        return str(self.described['StateValue'])

    @property
    def subjects(self) -> list[str]:
        """The subjects of the e-mails so far."""
        return [message['subject'] for message in self.aws.mail]


def test_an_alarm_rings_recovers_and_sends_a_mail_for_each_change_only(aws: EmbeddedRehearsal) -> None:
    watched = Watched(aws)
    assert watched.state == 'OK'
    for values, state in (([3], 'ALARM'), ([2, 2], 'ALARM'), ([1], 'OK'), ([0], 'OK')):
        watched.put(*values)
        assert watched.state == state
    place = 'in US East (N. Virginia)'
    assert watched.subjects == [f'OK: "errors" {place}', f'ALARM: "errors" {place}', f'OK: "errors" {place}']


def test_the_mail_names_the_states_the_reason_and_the_runbook(aws: EmbeddedRehearsal) -> None:
    watched = Watched(aws)
    watched.put(3)
    mail = aws.mail[-1]
    message = json.loads(mail['message'])
    assert (mail['endpoint'], mail['topic']) == ('on-call@example.com', watched.topic)
    assert (message['OldStateValue'], message['NewStateValue']) == ('OK', 'ALARM')
    assert message['AlarmDescription'].endswith('docs/runbooks/errors.md')
    assert message['NewStateReason'].startswith('Threshold Crossed: 1 out of the last 1 datapoints [3] were greater')


def test_a_new_alarm_has_insufficient_data_until_it_is_evaluated(aws: EmbeddedRehearsal) -> None:
    watched = Watched(aws, TreatMissingData='missing', InsufficientDataActions=[])
    assert watched.state == 'INSUFFICIENT_DATA'
    assert watched.subjects == []
    watched.put(1)
    assert watched.state == 'OK'


def test_a_metric_of_other_dimensions_is_another_metric(aws: EmbeddedRehearsal) -> None:
    watched = Watched(aws, Dimensions=[{'Name': 'Group', 'Value': 'a'}])
    watched.put(9)
    watched.put(9, Group='b')
    watched.put(9, Group='a', Zone='1')
    assert watched.state == 'OK'
    watched.put(9, Group='a')
    assert watched.state == 'ALARM'


def test_a_set_state_acts_and_the_next_evaluation_corrects_it(aws: EmbeddedRehearsal) -> None:
    watched = Watched(aws)
    watched.cloudwatch.set_alarm_state(AlarmName='errors', StateValue='ALARM', StateReason='a drill')
    assert watched.described['StateReason'] == 'a drill'
    assert watched.subjects[1:] == ['ALARM: "errors" in US East (N. Virginia)']
    watched.end_minute()
    assert watched.state == 'OK'
    assert len(watched.subjects) == 3


def test_disabled_actions_are_not_executed_but_the_state_changes(aws: EmbeddedRehearsal) -> None:
    watched = Watched(aws, ActionsEnabled=False)
    watched.put(3)
    assert (watched.state, watched.subjects) == ('ALARM', [])
    watched.cloudwatch.enable_alarm_actions(AlarmNames=['errors'])
    watched.put(0)
    assert watched.subjects == ['OK: "errors" in US East (N. Virginia)']


def test_another_definition_keeps_the_state(aws: EmbeddedRehearsal) -> None:
    watched = Watched(aws)
    watched.put(3)
    watched.cloudwatch.put_metric_alarm(**{**watched.options, 'Threshold': 1.5})
    assert (watched.state, watched.described['Threshold']) == ('ALARM', 1.5)
    assert len(watched.subjects) == 2


def test_data_points_of_the_past_count_where_they_belong(aws: EmbeddedRehearsal) -> None:
    watched = Watched(aws, EvaluationPeriods=3, DatapointsToAlarm=3)
    data = [{'MetricName': 'Errors', 'Timestamp': aws.now - timedelta(minutes=age),
             'StatisticValues': {'Sum': 8, 'SampleCount': 4, 'Minimum': 1, 'Maximum': 4}} for age in (2, 1, 0)]
    watched.cloudwatch.put_metric_data(Namespace='Tests', MetricData=data)
    watched.end_minute()
    assert watched.state == 'ALARM'


def test_a_change_is_an_event_and_listeners_hear_of_it(aws: EmbeddedRehearsal) -> None:
    changes: list[Change] = []
    watched = Watched(aws)
    events = aws.client('events')
    pattern = {'source': ['aws.cloudwatch'], 'detail-type': ['CloudWatch Alarm State Change'],
               'detail': {'state': {'value': ['ALARM']}, 'alarmName': ['errors']}}
    events.put_rule(Name='ringing', EventPattern=json.dumps(pattern))
    events.put_targets(Rule='ringing', Targets=[{'Id': '1', 'Arn': watched.topic, 'InputPath': '$.detail.alarmName'}])
    aws.alarms.listeners.append(changes.append)
    try:
        watched.put(3)
    finally:
        aws.alarms.listeners.remove(changes.append)
    assert [(change.name, change.old, change.new) for change in changes] == [('errors', 'OK', 'ALARM')]
    assert aws.mail[-1]['message'] == '"errors"'


def test_a_scaling_policy_is_executed_each_minute_while_the_alarm_rings(aws: EmbeddedRehearsal) -> None:
    policy = f'arn:aws:autoscaling:{aws.region}:{aws.account}:scalingPolicy:1:autoScalingGroupName/g:policyName/p'
    executed: list[tuple[str, str]] = []
    aws.alarms.performers['autoscaling'] = lambda arn, alarm: executed.append((arn, alarm.name))
    try:
        watched = Watched(aws, AlarmActions=[policy], OKActions=[])
        for _ in range(3):
            watched.put(3)
        watched.put(0)
        watched.put(0)
    finally:
        del aws.alarms.performers['autoscaling']
    assert executed == [(policy, 'errors')] * 3


@pytest.mark.parametrize(('options', 'message'), [
    ({'OKActions': ['arn:aws:sns:eu-west-1:123456789012:on-call']},
     'Invalid region eu-west-1 specified. Only us-east-1 is supported.'),
    ({'EvaluationPeriods': 2, 'DatapointsToAlarm': 3}, 'DatapointsToAlarm must be from 1 to EvaluationPeriods'),
    ({'Period': 70}, 'Period must be 10, 20, 30 or a multiple of 60'),
    ({'Period': 300, 'EvaluationPeriods': 289}, 'Metrics cannot be checked across more than a day'),
    ({'TreatMissingData': 'guess'}, 'Option guess is not supported')])
def test_an_alarm_that_aws_refuses_is_refused(aws: EmbeddedRehearsal, options: dict[str, Any], message: str) -> None:
    watched = Watched(aws)
    with pytest.raises(ClientError, match=message) as refused:
        watched.cloudwatch.put_metric_alarm(**{**watched.options, **options})
    assert refused.value.response['Error']['Code'] == 'ValidationError'
    assert watched.described['EvaluationPeriods'] == 1
    assert aws.gaps == []


def expression(text: str, **second: Any) -> dict[str, Any]:
    """Return an alarm of metric math over the metric `errors`."""
    stat = {'Metric': {'Namespace': 'Tests', 'MetricName': 'Errors'}, 'Period': 60, 'Stat': 'Sum', **second}
    return {'AlarmName': 'math', 'EvaluationPeriods': 1, 'Threshold': 5, 'ComparisonOperator': 'GreaterThanThreshold',
            'TreatMissingData': 'notBreaching', 'Metrics': [
                {'Id': 'result', 'Expression': text, 'ReturnData': True},
                {'Id': 'errors', 'MetricStat': stat, 'ReturnData': False}]}


def test_an_alarm_of_metric_math_rings_and_recovers(aws: EmbeddedRehearsal) -> None:
    watched = Watched(aws)
    watched.cloudwatch.put_metric_alarm(**expression('IF(FILL(errors, 0) > 2, 2 * errors, 0)'))
    found = []
    for values in ((1,), (2, 1), ()):
        watched.put(*values)
        found.append(watched.cloudwatch.describe_alarms(AlarmNames=['math'])['MetricAlarms'][0]['StateValue'])
    assert found == ['OK', 'ALARM', 'OK']


@pytest.mark.parametrize(('options', 'reason'), [
    (expression('RATE(errors)'), 'RATE'), (expression('errors', Stat='tm90'), 'the statistic tm90'),
    ({**ALARM, 'AlarmActions': ['arn:aws:lambda:us-east-1:1:function:f']}, 'an alarm action of the service lambda')])
def test_an_alarm_that_would_never_be_evaluated_is_a_gap_at_once(aws: EmbeddedRehearsal, options: dict[str, Any],
                                                                 reason: str) -> None:
    with pytest.raises(ClientError, match=reason):
        aws.client('cloudwatch').put_metric_alarm(**options)
    assert aws.gaps == ['monitoring:PutMetricAlarm']
    assert aws.client('cloudwatch').describe_alarms()['MetricAlarms'] == []


def test_an_expression_over_an_unknown_metric_is_refused(aws: EmbeddedRehearsal) -> None:
    with pytest.raises(ClientError, match='unknown ids other'):
        aws.client('cloudwatch').put_metric_alarm(**expression('errors + other'))
