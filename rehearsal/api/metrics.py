"""Data points that the services of AWS send to CloudWatch by themselves.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/aws-services-cloudwatch-metrics.html
"""

from collections.abc import Mapping
from datetime import datetime, timezone

from moto.cloudwatch.models import cloudwatch_backends, MetricDatum


def record(account: str, region: str, namespace: str, name: str, dimensions: Mapping[str, str], value: float,
           unit: str = 'None', at: datetime | None = None) -> None:
    """Add a data point to a metric, at a calendar time (default: now)."""
    # moto compares the times of data points, and its own have no time zone.
    moment = at.astimezone(timezone.utc).replace(tzinfo=None) if at else None
    pairs = [{'Name': key, 'Value': each} for key, each in dimensions.items()]
    backend = cloudwatch_backends[account][region]
    backend.metric_data.append(MetricDatum(namespace, name, float(value), pairs, moment, unit))
