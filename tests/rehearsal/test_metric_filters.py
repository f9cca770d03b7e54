"""Metric filters: log events that become data points."""

from datetime import timedelta
import json
from typing import Any

from botocore.exceptions import ClientError
import pytest

from rehearsal.api.log_patterns import conditions_of, matches
from rehearsal.embedded import EmbeddedRehearsal

VIEW = '{ $.method = "GET" && $.path = "/" && $.status = 200 }'
EARLY = '{ $.in_advance IS TRUE }'


@pytest.mark.parametrize(('pattern', 'message', 'expected'), [
    (VIEW, {'method': 'GET', 'path': '/', 'status': 200}, True),
    (VIEW, {'method': 'GET', 'path': '/', 'status': 503}, False),
    (VIEW, {'method': 'GET', 'path': '/'}, False),
    (EARLY, {'in_advance': True}, True), (EARLY, {'in_advance': 'true'}, False), (EARLY, {'in_advance': 1}, False),
    (EARLY, {}, False), ('{ $.a.b >= 2 }', {'a': {'b': 2}}, True), ('{ $.a.b >= 2 }', {'a': 2}, False),
    ('{ $.path = "/static/*" }', {'path': '/static/a.css'}, True), ('{ $.path != "/" }', {'path': '/a'}, True),
    ('{ $.path != "/" }', {}, False)])
def test_a_pattern_matches_the_fields_of_a_message(pattern: str, message: dict[str, Any], expected: bool) -> None:
    assert matches(conditions_of(pattern), json.dumps(message)) == expected


def test_text_that_is_not_json_matches_nothing() -> None:
    assert not matches(conditions_of(EARLY), 'in_advance')


@pytest.mark.parametrize('pattern', ['ERROR', '[a, b]', '{ $.a = 1 || $.b = 2 }', '{ $.a NOT EXISTS }', '{ $.a > b }'])
def test_another_pattern_is_a_gap_at_once(aws: EmbeddedRehearsal, pattern: str) -> None:
    logs = aws.client('logs')
    logs.create_log_group(logGroupName='journal')
    with pytest.raises(ClientError, match='filter pattern'):
        logs.put_metric_filter(logGroupName='journal', filterName='f', filterPattern=pattern, metricTransformations=[
            {'metricName': 'M', 'metricNamespace': 'N', 'metricValue': '1'}])
    assert aws.gaps == ['logs:PutMetricFilter']


def test_each_event_is_a_data_point_of_its_own_time(aws: EmbeddedRehearsal) -> None:
    logs, before = aws.client('logs'), aws.now - timedelta(minutes=2)
    for group in ('journal', 'other'):
        logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName='i-1')
    for value in ('7', '1'):  # the second one replaces the first
        logs.put_metric_filter(logGroupName='journal', filterName='early', filterPattern=EARLY, metricTransformations=[
            {'metricName': 'Early', 'metricNamespace': 'visitors', 'metricValue': value, 'defaultValue': 0}])
    events = [{'timestamp': int(before.timestamp() * 1000), 'message': json.dumps({'in_advance': early})}
              for early in (True, False, True)]
    for group in ('journal', 'other'):
        logs.put_log_events(logGroupName=group, logStreamName='i-1', logEvents=events)
    (point,) = aws.client('cloudwatch').get_metric_statistics(
        Namespace='visitors', MetricName='Early', Period=60, Statistics=['Sum', 'SampleCount'],
        StartTime=before - timedelta(seconds=1), EndTime=before + timedelta(seconds=1))['Datapoints']
    assert (point['Sum'], point['SampleCount']) == (2, 3)
