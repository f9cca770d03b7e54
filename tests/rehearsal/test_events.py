"""EventBridge and metrics: the events and data points of AWS's own services."""

from datetime import datetime, timedelta, timezone
import json
from typing import Any

from botocore.exceptions import ClientError
import pytest

from rehearsal.api.events import publish
from rehearsal.api.metrics import record
from rehearsal.embedded import EmbeddedRehearsal

FAILED = 'EC2 Auto Scaling Instance Refresh Failed'
DETAIL = {'AutoScalingGroupName': 'visitors', 'InstanceRefreshId': 'r-1'}
PATTERN = {'source': ['aws.autoscaling'], 'detail-type': [FAILED], 'detail': {'AutoScalingGroupName': ['visitors']}}


class Route:
    """A rule with a target: a topic whose messages a queue gets."""

    def __init__(self, aws: EmbeddedRehearsal, **target: Any) -> None:
        """Make rule, topic and queue."""
        self.aws, self._sqs = aws, aws.client('sqs')
        self._queue = self._sqs.create_queue(QueueName='inbox')['QueueUrl']
        topic = aws.client('sns').create_topic(Name='on-call')['TopicArn']
        aws.client('sns').subscribe(TopicArn=topic, Protocol='sqs', Attributes={'RawMessageDelivery': 'true'},
                                    Endpoint=f'arn:aws:sqs:{aws.region}:{aws.account}:inbox')
        self.events = aws.client('events')
        self.events.put_rule(Name='failed', EventPattern=json.dumps(PATTERN))
        self.events.put_targets(Rule='failed', Targets=[{'Id': 'on-call', 'Arn': topic, **target}])

    def send(self, detail_type: str = FAILED, **detail: str) -> list[str]:
        """Return the messages that follow from an event of a service of AWS."""
        publish(self.aws.account, self.aws.region, 'aws.autoscaling', detail_type, {**DETAIL, **detail}, ['arn:group'])
        messages = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get('Messages', [])
        return [message['Body'] for message in messages]


def test_a_topic_gets_the_whole_event_of_a_rule_that_matches(aws: EmbeddedRehearsal) -> None:
    (message,) = Route(aws).send()
    event = json.loads(message)
    assert {**event, 'id': '', 'time': ''} == {
        'version': '0', 'id': '', 'time': '', 'detail-type': FAILED, 'source': 'aws.autoscaling',
        'account': aws.account, 'region': aws.region, 'resources': ['arn:group'], 'detail': DETAIL}
    assert datetime.strptime(event['time'], '%Y-%m-%dT%H:%M:%SZ')


@pytest.mark.parametrize(('detail_type', 'detail'), [
    ('EC2 Auto Scaling Instance Refresh Succeeded', {}), (FAILED, {'AutoScalingGroupName': 'other'})])
def test_an_event_that_does_not_match_reaches_no_topic(aws: EmbeddedRehearsal, detail_type: str,
                                                       detail: dict[str, str]) -> None:
    assert Route(aws).send(detail_type, **detail) == []


def test_a_disabled_rule_sends_nothing(aws: EmbeddedRehearsal) -> None:
    route = Route(aws)
    route.events.disable_rule(Name='failed')
    assert route.send() == []


def test_an_input_transformer_fills_the_fields_of_the_event_into_its_template(aws: EmbeddedRehearsal) -> None:
    paths = {'event': '$.detail-type', 'group': '$.detail.AutoScalingGroupName', 'absent': '$.detail.Absent'}
    route = Route(aws, InputTransformer={'InputPathsMap': paths, 'InputTemplate': '"<event>: <group><absent>."'})
    assert route.send() == [f'"{FAILED}: visitors."']


@pytest.mark.parametrize(('target', 'message'), [
    ({'Input': '{"a": 1}'}, '{"a": 1}'), ({'InputPath': '$.detail.InstanceRefreshId'}, '"r-1"')])
def test_a_target_gets_a_constant_or_a_part_if_it_says_so(aws: EmbeddedRehearsal, target: dict[str, str],
                                                          message: str) -> None:
    assert Route(aws, **target).send() == [message]


def test_a_deleted_topic_disturbs_no_service(aws: EmbeddedRehearsal) -> None:
    route = Route(aws)
    (topic,) = aws.client('sns').list_topics()['Topics']
    aws.client('sns').delete_topic(TopicArn=topic['TopicArn'])
    assert route.send() == []


def test_a_target_that_no_event_can_reach_here_is_a_gap_at_once(aws: EmbeddedRehearsal) -> None:
    route = Route(aws)
    with pytest.raises(ClientError, match='a target of the service lambda'):
        route.events.put_targets(Rule='failed', Targets=[{'Id': '2', 'Arn': 'arn:aws:lambda:us-east-1:1:function:f'}])
    assert aws.gaps == ['events:PutTargets']


def test_a_metric_of_a_service_is_read_like_any_other(aws: EmbeddedRehearsal) -> None:
    now = datetime.now(timezone.utc)
    for value in (1, 3):
        record(aws.account, aws.region, 'AWS/RDS', 'DatabaseConnections', {'DBInstanceIdentifier': 'visitors'}, value,
               'Count', now - timedelta(minutes=1))
    record(aws.account, aws.region, 'AWS/RDS', 'DatabaseConnections', {'DBInstanceIdentifier': 'other'}, 9)
    answer = aws.client('cloudwatch').get_metric_statistics(
        Namespace='AWS/RDS', MetricName='DatabaseConnections', Statistics=['Average', 'Maximum'], Period=60,
        Dimensions=[{'Name': 'DBInstanceIdentifier', 'Value': 'visitors'}],
        StartTime=now - timedelta(minutes=5), EndTime=now)
    (point,) = answer['Datapoints']
    assert (point['Average'], point['Maximum']) == (2, 3)
