"""Scaling of groups: target tracking with its alarms, scheduled actions, and the metrics of groups."""

from datetime import datetime, timedelta, timezone
from typing import Any

from botocore.exceptions import ClientError
from hypothesis import given, strategies
import pytest

from rehearsal.api.groups.schedule import Schedule
from rehearsal.api.groups.tracking import Capacity, capacity_for, Tracking
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.groups import Group
from tests.support.waiting import eventually

NOON = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
CUSTOM = {'CustomizedMetricSpecification': {'MetricName': 'Load', 'Namespace': 'Test', 'Statistic': 'Average'},
          'TargetValue': 50.0}


@pytest.mark.parametrize(('value', 'capacity', 'wanted'), [
    (75, Capacity(2, 0, 10, warm=2), 3), (76, Capacity(2, 0, 10, warm=2), 4), (50, Capacity(2, 0, 10, warm=2), 2),
    (500, Capacity(2, 0, 4, warm=2), 4), (100, Capacity(4, 0, 10, warm=2, grows=True), 4),
    (45, Capacity(4, 0, 10, warm=4), 4), (30, Capacity(4, 0, 10, warm=4), 3), (1, Capacity(4, 2, 10, warm=4), 2),
    (0, Capacity(4, 0, 10, warm=4), 0), (1, Capacity(4, 0, 10, warm=2, grows=True), 4),
    (50.00000000000001, Capacity(3, 0, 10, warm=3), 3)])
def test_the_capacity_follows_the_metric_in_proportion(value: float, capacity: Capacity, wanted: int) -> None:
    assert capacity_for(Tracking(50), value, capacity) == wanted


def test_a_policy_without_scale_in_keeps_the_capacity() -> None:
    assert capacity_for(Tracking(50, scales_in=False), 1, Capacity(4, 0, 10, warm=4)) == 4


@given(strategies.floats(0, 1000), strategies.integers(0, 20), strategies.integers(0, 5), strategies.integers(6, 20),
       strategies.integers(0, 20), strategies.booleans())
def test_a_capacity_stays_within_its_bounds_and_goes_the_way_of_the_metric(
        value: float, desired: int, least: int, most: int, warm: int, grows: bool) -> None:
    desired = max(least, min(most, desired))
    wanted = capacity_for(Tracking(50), value, Capacity(desired, least, most, warm, grows))
    assert least <= wanted <= most
    assert wanted >= desired or value < 50 and not grows
    assert wanted <= desired or value > 50


@pytest.mark.parametrize(('schedule', 'following'), [
    (Schedule(start=NOON), NOON), (Schedule(start=NOON - timedelta(hours=1)), None),
    (Schedule(recurrence='30 12 * * *'), NOON + timedelta(minutes=30)),
    (Schedule(recurrence='30 12 * * *', zone='Europe/Berlin'), NOON + timedelta(days=1, minutes=-30)),
    (Schedule(start=NOON + timedelta(days=1), recurrence='0 12 * * *'), NOON + timedelta(days=1)),
    (Schedule(recurrence='30 12 * * *', end=NOON), None)])
def test_a_schedule_has_its_next_run(schedule: Schedule, following: datetime | None) -> None:
    before = NOON - timedelta(seconds=1)
    assert schedule.next_after(before) == following
    assert not schedule.is_due(before, before)
    if following:
        assert schedule.is_due(before, following) and not schedule.is_due(following, following)


class Tracked:
    """A group with a policy that tracks a target, and the load that a test decides."""

    def __init__(self, aws: EmbeddedRehearsal, **options: Any) -> None:
        """Make the group, and wait for its instances."""
        self._aws, self.alarms = aws, aws.client('cloudwatch')
        self.group = Group(aws, [], **{'MaxSize': 8, 'DefaultInstanceWarmup': 0, **options})
        self.group.wait_for('InService', 'InService')

    def put(self, name: str = 'load', **configuration: Any) -> list[str]:
        """Put a policy, and return the names of its alarms."""
        answer = self.group.api.put_scaling_policy(
            AutoScalingGroupName=self.group.name, PolicyName=name, PolicyType='TargetTrackingScaling',
            TargetTrackingConfiguration={**CUSTOM, **configuration})
        return [each['AlarmName'] for each in answer['Alarms']]

    def load(self, value: float, minutes: int, *others: str) -> None:
        """Let the metric, and others, have a value for some minutes, after which the alarms are evaluated."""
        for _minute in range(minutes):
            self.alarms.put_metric_data(Namespace='Test', MetricData=[
                {'MetricName': metric, 'Value': value, 'Timestamp': self._aws.now} for metric in ('Load', *others)])
            self._aws.skip(60)
        self._aws.look()

    @property
    def desired(self) -> int:
        """The desired capacity of the group."""
        return int(self.group.described['DesiredCapacity'])


def test_a_policy_makes_two_alarms_and_takes_them_with_it(aws: EmbeddedRehearsal) -> None:
    tracked = Tracked(aws)
    high, low = tracked.put()
    assert high.startswith(f'TargetTracking-{tracked.group.name}-AlarmHigh-')
    assert low.startswith(f'TargetTracking-{tracked.group.name}-AlarmLow-')
    (policy,) = tracked.group.api.describe_policies(AutoScalingGroupName=tracked.group.name)['ScalingPolicies']
    assert [each['AlarmName'] for each in policy['Alarms']] == [high, low]
    alarms = tracked.alarms.describe_alarms(AlarmNames=[high, low])['MetricAlarms']
    assert sorted((each['EvaluationPeriods'], each['Threshold'], each['ComparisonOperator']) for each in alarms) == [
        (3, 50.0, 'GreaterThanThreshold'), (15, 45.0, 'LessThanThreshold')]
    assert {action for each in alarms for action in each['AlarmActions']} == {policy['PolicyARN']}
    assert tracked.put(TargetValue=40.0) == [high, low]
    assert tracked.put(DisableScaleIn=True) == [high]
    tracked.group.api.delete_policy(AutoScalingGroupName=tracked.group.name, PolicyName='load')
    assert tracked.alarms.describe_alarms()['MetricAlarms'] == []


def test_the_end_of_a_group_ends_its_policies_alarms_and_actions(aws: EmbeddedRehearsal) -> None:
    tracked = Tracked(aws)
    tracked.put()
    tracked.group.api.put_scheduled_update_group_action(AutoScalingGroupName=tracked.group.name, MinSize=1,
                                                        ScheduledActionName='day', Recurrence='0 8 * * *')
    tracked.group.api.delete_auto_scaling_group(AutoScalingGroupName=tracked.group.name, ForceDelete=True)
    assert tracked.alarms.describe_alarms()['MetricAlarms'] == []
    assert tracked.group.api.describe_policies()['ScalingPolicies'] == []
    assert tracked.group.api.describe_scheduled_actions()['ScheduledUpdateGroupActions'] == []


def test_requests_per_target_are_the_metric_of_the_balancer_and_the_target_group(aws: EmbeddedRehearsal) -> None:
    tracked = Tracked(aws)
    label = 'app/visitors/0123456789abcdef/targetgroup/visitors/fedcba9876543210'
    high, _low = tracked.put(CustomizedMetricSpecification={}, PredefinedMetricSpecification={
        'PredefinedMetricType': 'ALBRequestCountPerTarget', 'ResourceLabel': label})
    (alarm,) = tracked.alarms.describe_alarms(AlarmNames=[high])['MetricAlarms']
    assert (alarm['Namespace'], alarm['MetricName'], alarm['Statistic']) == (
        'AWS/ApplicationELB', 'RequestCountPerTarget', 'Sum')
    assert {each['Name']: each['Value'] for each in alarm['Dimensions']} == {
        'LoadBalancer': 'app/visitors/0123456789abcdef', 'TargetGroup': 'targetgroup/visitors/fedcba9876543210'}


@pytest.mark.parametrize('wrong', [
    {'CustomizedMetricSpecification': {}}, {'PredefinedMetricSpecification': {'PredefinedMetricType': 'Unknown'},
                                            'CustomizedMetricSpecification': {}},
    {'PredefinedMetricSpecification': {'PredefinedMetricType': 'ALBRequestCountPerTarget'},
     'CustomizedMetricSpecification': {}}])
def test_a_policy_without_a_known_metric_is_refused(aws: EmbeddedRehearsal, wrong: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match='ValidationError'):
        Tracked(aws).put(**wrong)


def test_a_group_grows_with_its_load_and_shrinks_when_it_is_gone(aws: EmbeddedRehearsal) -> None:
    tracked = Tracked(aws)
    tracked.put()
    tracked.load(90, minutes=3)
    assert tracked.desired == 4
    tracked.group.wait_for(*['InService'] * 4)
    tracked.load(20, minutes=15)
    assert tracked.desired == 2
    tracked.group.wait_for('InService', 'InService')


def test_a_group_does_not_grow_twice_for_instances_that_warm_up(aws: EmbeddedRehearsal) -> None:
    tracked = Tracked(aws, DefaultInstanceWarmup=600)
    aws.skip(601)
    tracked.put()
    tracked.load(90, minutes=3)
    tracked.group.wait_for(*['InService'] * 4)
    tracked.load(90, minutes=3)
    assert tracked.desired == 4
    tracked.load(90, minutes=8)
    assert tracked.desired == 8


def test_a_group_shrinks_only_if_all_of_its_policies_agree(aws: EmbeddedRehearsal) -> None:
    tracked = Tracked(aws, DesiredCapacity=2)
    tracked.put()
    other = {'MetricName': 'Other', 'Namespace': 'Test', 'Statistic': 'Average'}
    tracked.put('other', CustomizedMetricSpecification=other)
    tracked.load(20, minutes=15)
    assert tracked.desired == 2
    tracked.load(20, 17, 'Other')
    assert tracked.desired == 1


def test_a_group_whose_alarms_are_suspended_keeps_its_capacity(aws: EmbeddedRehearsal) -> None:
    tracked = Tracked(aws)
    tracked.put()
    name = tracked.group.name
    tracked.group.api.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=['AlarmNotification'])
    tracked.load(90, minutes=5)
    assert tracked.desired == 2


def test_a_scheduled_action_changes_the_sizes_at_its_time_and_ends_if_it_is_the_last(aws: EmbeddedRehearsal) -> None:
    group = Group(aws, [])
    group.wait_for('InService', 'InService')
    aws.look()
    named: Any = {'AutoScalingGroupName': group.name}
    group.api.put_scheduled_update_group_action(ScheduledActionName='once', MinSize=3, MaxSize=6,
                                                StartTime=aws.now + timedelta(minutes=10), **named)
    group.api.put_scheduled_update_group_action(ScheduledActionName='daily', DesiredCapacity=1, MinSize=1, MaxSize=2,
                                                Recurrence=f'{aws.now:%M} {aws.now:%H} * * *', **named)
    aws.skip(590)
    aws.look()
    assert group.described['DesiredCapacity'] == 2
    aws.skip(20)
    aws.look()
    assert [group.described[name] for name in ('MinSize', 'MaxSize', 'DesiredCapacity')] == [3, 6, 3]
    left = group.api.describe_scheduled_actions(**named)['ScheduledUpdateGroupActions']
    assert [each['ScheduledActionName'] for each in left] == ['daily']
    aws.skip(24 * 3600)
    aws.look()
    assert [group.described[name] for name in ('MinSize', 'MaxSize', 'DesiredCapacity')] == [1, 2, 1]
    group.wait_for('InService')


@pytest.mark.parametrize('wrong', [
    {}, {'MinSize': 1}, {'MinSize': 1, 'Recurrence': '0 25 * * *'}, {'MinSize': 1, 'StartTime': NOON},
    {'MinSize': 1, 'Recurrence': '0 8 * * *', 'TimeZone': 'Europe/Atlantis'}, {'Recurrence': '0 8 * * *'}])
def test_a_scheduled_action_that_changes_nothing_or_never_runs_is_refused(
        aws: EmbeddedRehearsal, wrong: dict[str, Any]) -> None:
    group = Group(aws, [], DesiredCapacity=0)
    with pytest.raises(ClientError, match='ValidationError'):
        group.api.put_scheduled_update_group_action(AutoScalingGroupName=group.name, ScheduledActionName='wrong',
                                                    **wrong)
    assert group.api.describe_scheduled_actions()['ScheduledUpdateGroupActions'] == []


def test_enabled_metrics_are_recorded_once_a_minute(aws: EmbeddedRehearsal) -> None:
    group = Group(aws, [])
    instance, _other = group.wait_for('InService', 'InService')
    group.api.enter_standby(AutoScalingGroupName=group.name, InstanceIds=[instance],
                            ShouldDecrementDesiredCapacity=True)
    group.api.enable_metrics_collection(AutoScalingGroupName=group.name, Granularity='1Minute')
    group.api.disable_metrics_collection(AutoScalingGroupName=group.name, Metrics=['GroupMaxSize'])
    assert len(group.described['EnabledMetrics']) == 7
    start = aws.now - timedelta(minutes=1)
    for _minute in range(2):
        aws.skip(60)
        aws.look()
        aws.look()

    def statistics(name: str) -> list[tuple[float, float]]:
        answer = aws.client('cloudwatch').get_metric_statistics(
            Namespace='AWS/AutoScaling', MetricName=name, StartTime=start, EndTime=aws.now + timedelta(minutes=1),
            Period=3600, Statistics=['SampleCount', 'Average'],
            Dimensions=[{'Name': 'AutoScalingGroupName', 'Value': group.name}])
        return [(each['SampleCount'], each['Average']) for each in answer['Datapoints']]

    for name, value in (('GroupInServiceInstances', 1), ('GroupStandbyInstances', 1), ('GroupPendingInstances', 0),
                        ('GroupTotalInstances', 2), ('GroupDesiredCapacity', 1)):
        (statistic,) = statistics(name)
        assert statistic[0] in (2, 3) and statistic[1] == value
    assert all(count == 1 for count, _average in statistics('GroupMaxSize'))  # from before its end, if at all
    eventually(lambda: group.states[instance] == 'Standby', 'it stays in standby')
