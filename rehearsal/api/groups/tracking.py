"""Target tracking: the capacity that brings a metric to its target. Pure decisions.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from rehearsal.errors import NotModelled

# The alarm for scale-in rings below this share of the target.
LOW = 0.9
# Of one minute each.
PERIODS_HIGH, PERIODS_LOW = 3, 15
# https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PredefinedMetricSpecification.html
PREDEFINED = {'ASGAverageCPUUtilization': 'CPUUtilization', 'ASGAverageNetworkIn': 'NetworkIn',
              'ASGAverageNetworkOut': 'NetworkOut'}
REQUESTS = 'ALBRequestCountPerTarget'


@dataclass(frozen=True)
class Tracking:
    """A target of a metric."""

    target: float
    scales_in: bool = True


@dataclass(frozen=True)
class Capacity:
    """The capacity of a group: desired, its bounds, and the number of instances that are in service and warm."""

    desired: int
    least: int
    most: int
    warm: int
    # Whether an instance is on its way into service or warms up.
    grows: bool = False


@dataclass(frozen=True)
class Metric:
    """A metric that follows the load of each instance."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    statistic: str
    unit: str | None = None


def capacity_for(tracking: Tracking, value: float, capacity: Capacity) -> int:
    """Return the desired capacity for a value of the metric.

    A scale-out is in proportion to the instances that carry the load, so one that warms up does not count. A fraction
    of an instance is one more on the way out, and one less to remove on the way in. No scale-in begins while the
    group grows.
    """
    if value > tracking.target:
        wanted = max(capacity.desired, in_proportion(capacity.warm, value, tracking.target))
    elif value < LOW * tracking.target and tracking.scales_in and not capacity.grows:
        wanted = min(capacity.desired, in_proportion(capacity.desired, value, tracking.target))
    else:
        return capacity.desired
    return max(capacity.least, min(capacity.most, wanted))


def in_proportion(instances: int, value: float, target: float) -> int:
    """Return the number of instances that share the load at the target."""
    return ceil(round(instances * value / target, 9))


def metric_of(configuration: Mapping[str, Any], group: str) -> Metric:
    """Return the metric of a target tracking configuration."""
    custom = configuration.get('CustomizedMetricSpecification')
    if custom:
        if custom.get('Metrics'):
            raise NotModelled('target tracking of metric math')
        dimensions = {each['Name']: each['Value'] for each in custom.get('Dimensions') or []}
        return Metric(custom['Namespace'], custom['MetricName'], dimensions, custom['Statistic'], custom.get('Unit'))
    predefined = configuration['PredefinedMetricSpecification']
    kind = predefined['PredefinedMetricType']
    if kind == REQUESTS:
        balancer, _slash, target_group = predefined['ResourceLabel'].partition('/targetgroup/')
        return Metric('AWS/ApplicationELB', 'RequestCountPerTarget',
                      {'TargetGroup': f'targetgroup/{target_group}', 'LoadBalancer': balancer}, 'Sum')
    return Metric('AWS/EC2', PREDEFINED[kind], {'AutoScalingGroupName': group}, 'Average')
