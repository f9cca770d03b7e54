"""Metric filters of CloudWatch Logs: moto keeps them without applying them.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/MonitoringLogData.html
"""

from datetime import datetime, timezone
from typing import Any

from moto.logs.models import LogGroup, logs_backends, LogsBackend

from rehearsal.api.log_patterns import conditions_of, matches
from rehearsal.api.metrics import record
from rehearsal.api.patching import Extension
from rehearsal.errors import NotModelled


class MetricFilterActions(Extension, extends=LogsBackend):
    """The actions that create metric filters and send log events through them."""

    def put_metric_filter(self, filter_name: str, filter_pattern: str, log_group_name: str,
                          metric_transformations: Any) -> None:
        """Create a filter, or replace the one of the same name; one that could not be applied is a gap."""
        conditions_of(filter_pattern)
        for each in metric_transformations:
            float(each['metricValue'])
            if each.get('dimensions'):
                raise NotModelled('dimensions of a metric filter')
        self.filters.metric_filters[:] = [
            each for each in self.filters.metric_filters
            if (each['filterName'], each['logGroupName']) != (filter_name, log_group_name)]
        self.moto_put_metric_filter(filter_name, filter_pattern, log_group_name, metric_transformations)


class FilteredLogs(Extension, extends=LogGroup):
    """The log events of a group, which its filters count."""

    def put_log_events(self, log_stream_name: str, log_events: list[dict[str, Any]]) -> Any:
        """Keep events, and make a data point of each that matches, or the default value of each that does not."""
        answer = self.moto_put_log_events(log_stream_name, log_events)
        for each in filters_of(self):
            conditions = conditions_of(each['filterPattern'])
            for event in log_events:
                at = datetime.fromtimestamp(event['timestamp'] / 1000, timezone.utc)
                for transformation in each['metricTransformations']:
                    is_match = matches(conditions, event['message'])
                    value = transformation['metricValue'] if is_match else transformation.get('defaultValue')
                    if value is not None:
                        record(self.account_id, self.region, transformation['metricNamespace'],
                               transformation['metricName'], {}, float(value), at=at)
        return answer


def filters_of(group: Any) -> list[dict[str, Any]]:
    """Return the metric filters of a log group."""
    backend = logs_backends[group.account_id][group.region]
    return list(backend.filters.get_matching_filters(log_group_name=group.name))
