"""The metrics of groups in CloudWatch, once a minute by AWS's pace.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-metrics.html
"""

from collections.abc import Callable, Sequence
from typing import Any

from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import EmptyResult

from rehearsal.api.group_members import named
from rehearsal.api.groups.acts import COUNTED, IN_SERVICE, LEAVING, STANDBY
from rehearsal.api.metrics import record
from rehearsal.api.patching import Extension
from rehearsal.clocks import Clocks

NAMESPACE, MINUTE = 'AWS/AutoScaling', 60
PENDING = tuple(state for state in COUNTED if state != IN_SERVICE)
STATES: dict[str, Sequence[str]] = {
    'GroupInServiceInstances': (IN_SERVICE,), 'GroupPendingInstances': PENDING, 'GroupStandbyInstances': (STANDBY,),
    'GroupTerminatingInstances': LEAVING, 'GroupTotalInstances': (*COUNTED, STANDBY, *LEAVING)}
SIZES: dict[str, Callable[[Any], int]] = {
    'GroupMinSize': lambda group: group.min_size, 'GroupMaxSize': lambda group: group.max_size,
    'GroupDesiredCapacity': lambda group: group.desired_capacity}


class MetricActions(Extension, extends=AutoScalingResponse):
    """Actions on the metrics of groups."""

    def enable_metrics_collection(self) -> EmptyResult:
        """Record metrics from now on, by default all.

        https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_EnableMetricsCollection.html
        """
        group = named(self.autoscaling_backend, self._get_param('AutoScalingGroupName'))
        group.metrics = sorted({*group.metrics, *(self._get_param('Metrics', []) or [*SIZES, *STATES])})
        return EmptyResult()

    def disable_metrics_collection(self) -> EmptyResult:
        """End the recording of metrics, by default of all.

        https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DisableMetricsCollection.html
        """
        group = named(self.autoscaling_backend, self._get_param('AutoScalingGroupName'))
        ended = self._get_param('Metrics', []) or group.metrics
        group.metrics = [metric for metric in group.metrics if metric not in ended]
        return EmptyResult()


class GroupMetrics:
    """The metrics of all groups."""

    def __init__(self, clocks: Clocks) -> None:
        """Record by these clocks."""
        self._clocks = clocks

    def record(self, group: Any) -> None:
        """Record the enabled metrics of a group, if it is another minute than at the last time."""
        minute = self._clocks.paced() // MINUTE
        if group.metrics and minute != group.__dict__.get('rehearsal_metrics_at'):
            group.rehearsal_metrics_at = minute
            for name in group.metrics:
                if name in STATES or name in SIZES:
                    record(group.account_id, group.region, NAMESPACE, name, {'AutoScalingGroupName': group.name},
                           value_of(group, name), at=self._clocks.calendar())


def value_of(group: Any, name: str) -> int:
    """Return the present value of a metric."""
    if name in SIZES:
        return SIZES[name](group)
    return sum(member.lifecycle_state in STATES[name] for member in group.instance_states)
