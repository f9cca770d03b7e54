"""Scaling policies of groups, and the alarms of those that track a target.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html
"""

from typing import Any
from uuid import uuid4

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import AutoScalingBackend, FakeScalingPolicy
from moto.autoscaling.responses import AutoScalingResponse
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.responses import ActionResult

from rehearsal.api.group_members import named
from rehearsal.api.groups.scaling import tracking_of, TRACKS
from rehearsal.api.groups.tracking import LOW, Metric, metric_of, PERIODS_HIGH, PERIODS_LOW, PREDEFINED, REQUESTS
from rehearsal.api.patching import Extension

MINUTE = 60


class ScalingPolicies(Extension, extends=FakeScalingPolicy):
    """A scaling policy."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Enable the policy, as AWS does by default.

        https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_ScalingPolicy.html
        """
        self.moto___init__(*arguments, **options)
        policy: Any = self
        policy.enabled = True
        policy.alarms = []
        policy.predictive_scaling_configuration = policy.predictive_scaling_configuration or None


class PolicyActions(Extension, extends=AutoScalingResponse):
    """Actions on scaling policies."""

    def put_scaling_policy(self) -> ActionResult:
        """Create a policy or change one; one that tracks a target gets its alarms.

        https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutScalingPolicy.html
        """
        group = named(self.autoscaling_backend, self._get_param('AutoScalingGroupName'))
        name, former = self._get_param('PolicyName'), None
        if self._get_param('PolicyType') == TRACKS:
            check_metric(self._get_param('TargetTrackingConfiguration', {}))
            former = self.autoscaling_backend.policies.get(name)
        answer = self.moto_put_scaling_policy()
        policy = self.autoscaling_backend.policies[name]
        policy.enabled = self._get_bool_param('Enabled', True)
        if policy.policy_type == TRACKS:
            put_alarms(policy, group, former)
        answer.result['Alarms'] = policy.alarms
        return answer


class PolicyEnds(Extension, extends=AutoScalingBackend):
    """The ends of scaling policies."""

    def delete_policy(self, name: str) -> None:
        """Delete a policy, named or by its ARN, with its alarms.

        https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DeletePolicy.html
        """
        for policy in [each for each in self.policies.values() if name in (each.name, each.arn)]:
            delete_alarms(policy)
            self.moto_delete_policy(policy.name)

    def delete_auto_scaling_group(self, name: str) -> None:
        """Delete a group with its policies and scheduled actions.

        https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DeleteAutoScalingGroup.html
        """
        for policy in [each for each in self.policies.values() if each.auto_scaling_group_name == name]:
            self.delete_policy(policy.arn)
        for key in [key for key, each in self.scheduled_actions.items() if each.auto_scaling_group_name == name]:
            del self.scheduled_actions[key]
        self.moto_delete_auto_scaling_group(name)


def check_metric(configuration: dict[str, Any]) -> None:
    """Refuse a target tracking configuration without a known metric."""
    custom, predefined = (configuration.get(f'{kind}MetricSpecification') for kind in ('Customized', 'Predefined'))
    if bool(custom) == bool(predefined):
        raise ValidationError('Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification must be '
                              'specified.')
    if not predefined:
        return
    kind = predefined.get('PredefinedMetricType')
    if kind not in (*PREDEFINED, REQUESTS):
        raise ValidationError(f'PredefinedMetricType {kind} is not valid.')
    if kind == REQUESTS and '/targetgroup/' not in predefined.get('ResourceLabel', ''):
        raise ValidationError('A ResourceLabel in the form app/NAME/ID/targetgroup/NAME/ID is required for '
                              f'{REQUESTS}.')


def put_alarms(policy: Any, group: Any, former: Any) -> None:
    """Create the alarms of a policy, or change those that it has."""
    tracking = tracking_of(policy)
    metric = metric_of(policy.target_tracking_configuration.__dict__, group.name)
    names = [each['AlarmName'] for each in former.alarms] if former else []
    if former:
        delete_alarms(former)
    kinds = [('High', 'GreaterThanThreshold', PERIODS_HIGH, tracking.target)]
    if tracking.scales_in:
        kinds.append(('Low', 'LessThanThreshold', PERIODS_LOW, LOW * tracking.target))
    for kind, comparison, periods, threshold in kinds:
        prefix = f'TargetTracking-{group.name}-Alarm{kind}-'
        name = next((name for name in names if name.startswith(prefix)), f'{prefix}{uuid4()}')
        policy.alarms.append(put_alarm(policy, metric, name, comparison, periods, threshold))


def put_alarm(policy: Any, metric: Metric, name: str, comparison: str, periods: int,
              threshold: float) -> dict[str, str]:
    """Create an alarm of a policy, and return its name and ARN."""
    backend = policy.autoscaling_backend
    alarm = cloudwatch_backends[backend.account_id][backend.region_name].put_metric_alarm(
        name=name, namespace=metric.namespace, metric_name=metric.name, comparison_operator=comparison,
        evaluation_periods=periods, period=MINUTE, threshold=threshold, statistic=metric.statistic, unit=metric.unit,
        description=f'DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy.arn}.',
        dimensions=[{'Name': key, 'Value': value} for key, value in metric.dimensions.items()],
        alarm_actions=[policy.arn], ok_actions=[], insufficient_data_actions=[])
    return {'AlarmName': name, 'AlarmARN': alarm.alarm_arn}


def delete_alarms(policy: Any) -> None:
    """Delete the alarms of a policy."""
    backend = policy.autoscaling_backend
    cloudwatch_backends[backend.account_id][backend.region_name].delete_alarms(
        [each['AlarmName'] for each in policy.alarms])
