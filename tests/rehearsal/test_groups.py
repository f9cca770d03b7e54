"""Groups: the instances that they launch and terminate, and the waits of lifecycle hooks."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
import uuid

from botocore.exceptions import ClientError
from hypothesis import given, strategies
import pytest

from rehearsal.api.groups.acts import Act, COUNTED, Launch, Leave, Member, Replacements, Rules, Version
from rehearsal.api.groups.capacity import emptiest, GROWS, plan, superfluous
from rehearsal.api.groups.hooks import ABANDON, CONTINUE, longest_wait, outcome_of_all, Wait
from rehearsal.client import Rehearsal
from tests.support.groups import Group, hook
from tests.support.waiting import eventually

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
NOW = 1000.0
STATES = ('Pending', 'Pending:Wait', 'InService', 'Terminating', 'Terminating:Wait', 'Standby')
OLD, NEW = Version('lt-1', '9'), Version('lt-1', '10')
members = strategies.lists(
    strategies.builds(Member, strategies.uuids().map(str), strategies.sampled_from(STATES),
                      strategies.sampled_from(['a', 'b', 'c']), strategies.sampled_from([OLD, NEW]),
                      strategies.integers(0, 9).map(lambda minutes: NOON + timedelta(minutes=minutes)),
                      strategies.booleans(), failure=strategies.sampled_from(['', '', 'it is ill'])), max_size=12)
rules = strategies.builds(Rules, strategies.integers(0, 12), strategies.just(NEW))


def member(name: str, state: str = 'InService', zone: str = 'a', version: Version = OLD, minutes: int = 0,
           is_protected: bool = False, **options: Any) -> Member:
    return Member(name, state, zone, version, NOON + timedelta(minutes=minutes), is_protected, **options)


def after(given_members: list[Member], acts: list[Act]) -> tuple[list[Member], int]:
    """Return the instances that stay, and the number of launches."""
    leaving = {act.instance for act in acts if isinstance(act, Leave)}
    return ([each for each in given_members if each.counts and each.instance not in leaving],
            sum(isinstance(act, Launch) for act in acts))


@given(members, rules)
def test_a_plan_reaches_the_desired_capacity_as_far_as_protection_allows(given_members: list[Member],
                                                                         group: Rules) -> None:
    acts = plan(group, given_members, None, NOW)
    staying, launches = after(given_members, acts)
    assert len(staying) + launches >= group.desired
    assert not launches or len(staying) + launches == group.desired
    assert len(staying) <= group.desired or all(each.is_protected for each in staying)
    assert all(act.version == NEW for act in acts if isinstance(act, Launch))


@given(members, rules)
def test_only_a_counted_instance_leaves_and_a_protected_one_only_if_it_is_unhealthy(given_members: list[Member],
                                                                                    group: Rules) -> None:
    by_name = {each.instance: each for each in given_members}
    leaving = [by_name[act.instance] for act in plan(group, given_members, None, NOW) if isinstance(act, Leave)]
    assert all(each.state in COUNTED and (each.failure or not each.is_protected) for each in leaving)
    assert len(leaving) == len(set(leaving))


@given(members, strategies.integers(0, 12))
def test_suspended_processes_leave_a_group_as_it_is(given_members: list[Member], desired: int) -> None:
    assert not plan(Rules(desired, launches=False, terminates=False), given_members, None, NOW)


@given(members, rules, strategies.integers(0, 4))
def test_a_refresh_decides_the_launched_version_and_the_surplus(given_members: list[Member], group: Rules,
                                                                surge: int) -> None:
    refresh = Replacements(OLD, group.desired + surge, (Launch(OLD, 'refresh'),) * surge)
    acts = plan(group, given_members, refresh, NOW)
    staying, launches = after(given_members, acts)
    assert all(act.version == OLD for act in acts if isinstance(act, Launch))
    assert launches >= surge
    assert len(staying) + launches <= group.desired + surge or all(each.is_protected for each in staying)


def test_an_instance_that_fails_a_health_check_is_replaced() -> None:
    ill = member('1', failure='it is ill')
    assert plan(Rules(1, NEW), [ill], None, NOW) == [Leave('1', 'it is ill'), Launch(NEW, GROWS)]
    assert plan(Rules(1, NEW, replaces=False), [ill], None, NOW) == []


def test_an_instance_is_healthy_when_it_is_in_service_and_warm() -> None:
    assert member('1', healthy_since=NOW).is_healthy(NOW + 30, warmup=30)
    assert not member('1', healthy_since=NOW).is_healthy(NOW + 29, warmup=30)
    assert not member('1').is_healthy(NOW)
    assert not member('1', 'Pending:Wait', healthy_since=NOW).is_healthy(NOW)
    assert not member('1', healthy_since=NOW, failure='it is ill').is_healthy(NOW)


@pytest.mark.parametrize(('policies', 'others', 'goes'), [
    (['Default'], [member('1', zone='b'), member('2'), member('3', minutes=-1)], '3'),
    (['Default'], [member('1', version=NEW, minutes=-1), member('2')], '2'),
    (['Default'], [member('1', minutes=-1), member('2', version=Version('lt-2', '11'))], '2'),
    (['Default'], [member('1', minutes=-1), member('2', 'Pending:Wait')], '2'),
    (['Default'], [member('1', minutes=-1, is_protected=True), member('2')], '2'),
    (['OldestInstance'], [member('1', version=NEW, minutes=-1), member('2')], '1'),
    (['NewestInstance'], [member('1'), member('2', version=NEW, minutes=1)], '2'),
    (['OldestLaunchTemplate', 'NewestInstance'],
     [member('1', minutes=-1), member('2'), member('3', version=NEW, minutes=1)], '2'),
    (['OldestInstance'], [member('1', minutes=-1), member('2', zone='b'), member('3', zone='b')], '2')])
def test_fullest_zone_newcomer_and_then_the_policies_decide_who_leaves(policies: list[str], others: list[Member],
                                                                       goes: str) -> None:
    assert superfluous(others, len(others) - 1, NEW, policies) == [goes]


def test_an_instance_is_launched_in_the_emptiest_zone() -> None:
    assert emptiest(['a', 'b'], [member('1')]) == 1
    assert emptiest(['a', 'b'], [member('1'), member('2', zone='b')]) == 0
    assert emptiest(['a', 'b'], [member('1', 'Terminating'), member('2', zone='b')]) == 0


def test_a_wait_ends_by_default_when_no_heartbeat_comes() -> None:
    wait = Wait('h', ABANDON, heartbeat=60, began=0)
    assert wait.outcome(59.9) is None
    wait.beat(50)
    assert wait.outcome(60) is None
    assert wait.outcome(110) == ABANDON
    assert 'Heartbeat Timeout' in wait.reason()


def test_heartbeats_do_not_prolong_a_wait_for_ever() -> None:
    wait = Wait('h', CONTINUE, heartbeat=60, began=0)
    wait.beat(5990)
    assert wait.outcome(6000) == CONTINUE
    assert longest_wait(7200) == 172800


def test_all_waits_have_to_be_completed_but_one_that_is_abandoned_ends_them() -> None:
    one, two = (Wait(name, ABANDON, heartbeat=60, began=0) for name in 'ab')
    one.result = CONTINUE
    assert outcome_of_all([one, two], 1) is None
    two.result = CONTINUE
    assert outcome_of_all([one, two], 1) == CONTINUE
    one.result = ABANDON
    assert outcome_of_all([one, two], 1) == ABANDON


@pytest.fixture
def group(api: Rehearsal) -> Iterator[Group]:
    """Give a group of two."""
    new = Group(api, [])
    yield new
    new.api.delete_auto_scaling_group(AutoScalingGroupName=new.name, ForceDelete=True)


@pytest.fixture
def waiting_group(api: Rehearsal) -> Iterator[Group]:
    """Give a group of two that wait for a hook."""
    new = Group(api, [hook('launch')])
    yield new
    new.api.delete_auto_scaling_group(AutoScalingGroupName=new.name, ForceDelete=True)


def test_a_group_with_subnets_launches_in_the_zones_of_all_of_them(api: Rehearsal) -> None:
    subnets = {each['AvailabilityZone']: each['SubnetId'] for each in api.client('ec2').describe_subnets()['Subnets']}
    named = [subnets[zone] for zone in ('us-east-1c', 'us-east-1a', 'us-east-1b')]
    group = Group(api, [], AvailabilityZones=[], DesiredCapacity=3, VPCZoneIdentifier=','.join(named))
    instances = group.wait_for('InService', 'InService', 'InService')
    described = group.ec2.describe_instances(InstanceIds=instances)['Reservations']
    places = {each['Instances'][0]['SubnetId']: each['Instances'][0]['Placement']['AvailabilityZone']
              for each in described}
    assert places == {subnets[zone]: zone for zone in ('us-east-1a', 'us-east-1b', 'us-east-1c')}
    group.api.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=2)
    eventually(lambda: len(group.states) == 2, 'one has left')
    (left,) = {each['AvailabilityZone'] for each in group.described['Instances']} ^ set(
        ('us-east-1a', 'us-east-1b', 'us-east-1c'))
    group.api.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=3)
    group.wait_for('InService', 'InService', 'InService')
    assert left in {each['AvailabilityZone'] for each in group.described['Instances']}
    group.api.delete_auto_scaling_group(AutoScalingGroupName=group.name, ForceDelete=True)


def test_a_group_launches_missing_instances_in_all_of_its_zones(group: Group) -> None:
    group.wait_for('InService', 'InService')
    assert {each['AvailabilityZone'] for each in group.described['Instances']} == {'us-east-1a', 'us-east-1b'}
    assert [each['StatusCode'] for each in group.activities] == ['Successful'] * 2


def test_an_instance_shows_the_version_that_it_was_launched_from(group: Group) -> None:
    group.wait_for('InService', 'InService')
    group.ec2.create_launch_template_version(LaunchTemplateName=group.name, SourceVersion='1',
                                             LaunchTemplateData={'InstanceType': 't3.micro'})
    group.api.update_auto_scaling_group(AutoScalingGroupName=group.name, DesiredCapacity=3,
                                        LaunchTemplate={'LaunchTemplateName': group.name, 'Version': '2'})
    group.wait_for('InService', 'InService', 'InService')
    versions = sorted((each['LaunchTemplate']['Version'], each['InstanceType'])
                      for each in group.described['Instances'])
    assert versions == [('1', 't3.small'), ('1', 't3.small'), ('2', 't3.micro')]


def test_an_instance_carries_the_tags_of_group_and_template(api: Rehearsal) -> None:
    group = Group(api, [], DesiredCapacity=1, Tags=[{'Key': 'Of', 'Value': 'group', 'PropagateAtLaunch': True}])
    (instance,) = group.wait_for('InService')
    described = group.ec2.describe_instances(InstanceIds=[instance])['Reservations'][0]['Instances'][0]
    tags = {tag['Key']: tag['Value'] for tag in described['Tags']}
    assert (tags['Of'], tags['From'], tags['aws:autoscaling:groupName']) == ('group', 'template', group.name)


def test_a_group_shrinks_and_grows_to_its_desired_capacity(group: Group) -> None:
    group.wait_for('InService', 'InService')
    group.api.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=0)
    group.wait_for()
    group.api.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=3)
    group.wait_for('InService', 'InService', 'InService')


@pytest.mark.parametrize('capacity', [-1, 5])
def test_a_capacity_beyond_the_bounds_is_refused(group: Group, capacity: int) -> None:
    with pytest.raises(ClientError, match='New SetDesiredCapacity value'):
        group.api.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=capacity)


@pytest.mark.parametrize('act', ['terminate_instances', 'stop_instances'])
def test_an_instance_that_no_longer_runs_is_replaced(group: Group, act: str) -> None:
    gone, stays = group.wait_for('InService', 'InService')
    getattr(group.ec2, act)(InstanceIds=[gone])
    eventually(lambda: gone not in group.states, 'it has left')
    assert stays in group.wait_for('InService', 'InService')
    assert group.power(gone) == 'terminated'
    assert any('EC2 health check' in each['Cause'] for each in group.activities)


def test_an_instance_whose_health_is_set_to_unhealthy_is_replaced(group: Group) -> None:
    gone, stays = group.wait_for('InService', 'InService')
    group.api.set_instance_health(InstanceId=gone, HealthStatus='Unhealthy')
    eventually(lambda: gone not in group.states, 'it has left')
    assert stays in group.wait_for('InService', 'InService')


@pytest.mark.parametrize('decrement', [True, False])
def test_an_instance_is_terminated_in_its_group(group: Group, decrement: bool) -> None:
    gone, stays = group.wait_for('InService', 'InService')
    answer = group.api.terminate_instance_in_auto_scaling_group(InstanceId=gone,
                                                                ShouldDecrementDesiredCapacity=decrement)
    assert gone in answer['Activity']['Description']
    eventually(lambda: gone not in group.states, 'it has left')
    assert stays in group.wait_for(*['InService'] * (1 if decrement else 2))
    assert group.described['DesiredCapacity'] == (1 if decrement else 2)


def test_no_instance_is_launched_while_launching_is_suspended(group: Group) -> None:
    group.wait_for('InService', 'InService')
    group.api.suspend_processes(AutoScalingGroupName=group.name, ScalingProcesses=['Launch'])
    group.api.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=3)
    with pytest.raises(AssertionError):
        eventually(lambda: len(group.states) == 3, 'a third one', 1.5)
    group.api.resume_processes(AutoScalingGroupName=group.name, ScalingProcesses=['Launch'])
    group.wait_for('InService', 'InService', 'InService')


def test_a_group_with_instances_is_deleted_only_by_force(group: Group) -> None:
    instances = group.wait_for('InService', 'InService')
    with pytest.raises(ClientError, match='ResourceInUse'):
        group.api.delete_auto_scaling_group(AutoScalingGroupName=group.name)
    other = group.name
    group.api.delete_auto_scaling_group(AutoScalingGroupName=other, ForceDelete=True)
    assert [group.power(instance) for instance in instances] == ['terminated'] * 2
    group.api.create_auto_scaling_group(AutoScalingGroupName=other, MinSize=0, MaxSize=0,
                                        LaunchTemplate={'LaunchTemplateName': other}, AvailabilityZones=['us-east-1a'])


def test_an_unknown_ami_fails_the_launch_with_its_reason(api: Rehearsal) -> None:
    group = Group(api, [], DesiredCapacity=0)
    group.ec2.create_launch_template_version(LaunchTemplateName=group.name, SourceVersion='1',
                                             LaunchTemplateData={'ImageId': 'ami-0000000000000dead'})
    group.api.update_auto_scaling_group(AutoScalingGroupName=group.name, DesiredCapacity=1,
                                        LaunchTemplate={'LaunchTemplateName': group.name, 'Version': '2'})
    eventually(lambda: bool(group.activities), 'it has tried')
    assert group.activities[0]['StatusCode'] == 'Failed'
    assert 'ami-0000000000000dead' in group.activities[0]['StatusMessage']
    group.api.delete_auto_scaling_group(AutoScalingGroupName=group.name, ForceDelete=True)


def test_a_hook_keeps_an_instance_out_of_service_until_it_continues(waiting_group: Group) -> None:
    first, second = waiting_group.wait_for('Pending:Wait', 'Pending:Wait')
    waiting_group.complete(first, 'CONTINUE')
    waiting_group.wait_for('InService', 'Pending:Wait')
    assert waiting_group.states == {first: 'InService', second: 'Pending:Wait'}


def test_an_abandoned_instance_is_terminated_and_another_launched(waiting_group: Group) -> None:
    first, second = waiting_group.wait_for('Pending:Wait', 'Pending:Wait')
    waiting_group.complete(first, 'ABANDON')
    eventually(lambda: first not in waiting_group.states, 'it has left')
    assert second in waiting_group.wait_for('Pending:Wait', 'Pending:Wait')
    assert waiting_group.power(first) == 'terminated'
    cancelled = [each for each in waiting_group.activities if each['StatusCode'] == 'Cancelled']
    assert len(cancelled) == 1 and 'Lifecycle Action Completed with ABANDON Result' in cancelled[0]['StatusMessage']


def test_an_instance_that_was_never_registered_with_a_balancer_can_leave(api: Rehearsal) -> None:
    vpc = api.client('ec2').describe_vpcs()['Vpcs'][0]['VpcId']
    target = api.client('elbv2').create_target_group(Name=uuid.uuid4().hex[:8], Protocol='HTTP', Port=80, VpcId=vpc)
    arn = target['TargetGroups'][0]['TargetGroupArn']
    new = Group(api, [hook('launch')], DesiredCapacity=1, TargetGroupARNs=[arn])
    (instance,) = new.wait_for('Pending:Wait')
    assert not api.client('elbv2').describe_target_health(TargetGroupArn=arn)['TargetHealthDescriptions']
    new.api.set_desired_capacity(AutoScalingGroupName=new.name, DesiredCapacity=0)
    new.wait_for()
    assert new.power(instance) == 'terminated'


def test_only_a_waiting_instance_can_be_completed_or_kept_waiting(waiting_group: Group) -> None:
    first, second = waiting_group.wait_for('Pending:Wait', 'Pending:Wait')
    named = {'AutoScalingGroupName': waiting_group.name, 'LifecycleHookName': 'launch'}
    waiting_group.api.record_lifecycle_action_heartbeat(InstanceId=second, **named)
    waiting_group.complete(first, 'CONTINUE')
    waiting_group.wait_for('InService', 'Pending:Wait')
    with pytest.raises(ClientError, match=f'No active Lifecycle Action found with instance ID {first}'):
        waiting_group.complete(first, 'CONTINUE')
    with pytest.raises(ClientError, match='No active Lifecycle Action'):
        waiting_group.api.record_lifecycle_action_heartbeat(InstanceId=first, **named)
    with pytest.raises(ClientError, match='No active Lifecycle Action'):
        waiting_group.complete(second, 'CONTINUE', hook='another')
    with pytest.raises(ClientError, match='must be CONTINUE or ABANDON'):
        waiting_group.complete(second, 'PERHAPS')


@pytest.mark.parametrize('result', ['CONTINUE', 'ABANDON'])
def test_a_hook_keeps_an_instance_running_before_it_is_terminated(api: Rehearsal, result: str) -> None:
    group = Group(api, [hook('leave', 'TERMINATING')], DesiredCapacity=1)
    (instance,) = group.wait_for('InService')
    group.api.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=0)
    group.wait_for('Terminating:Wait')
    assert group.power(instance) == 'running'
    group.complete(instance, result, hook='leave')
    group.wait_for()
    assert group.power(instance) == 'terminated'


def test_a_hook_is_read_back_as_it_was_put(group: Group) -> None:
    put = hook('more', NotificationMetadata='{"a": 1}', DefaultResult='CONTINUE',
               RoleARN='arn:aws:iam::123456789012:role/r',
               NotificationTargetARN='arn:aws:sqs:us-east-1:123456789012:q')
    group.api.put_lifecycle_hook(AutoScalingGroupName=group.name, **put)
    (read,) = group.api.describe_lifecycle_hooks(AutoScalingGroupName=group.name)['LifecycleHooks']
    assert read == {**put, 'AutoScalingGroupName': group.name, 'GlobalTimeout': 6000}


def test_a_hook_has_the_defaults_of_aws(group: Group) -> None:
    group.api.put_lifecycle_hook(AutoScalingGroupName=group.name, LifecycleHookName='plain',
                                 LifecycleTransition='autoscaling:EC2_INSTANCE_LAUNCHING')
    (read,) = group.api.describe_lifecycle_hooks(AutoScalingGroupName=group.name)['LifecycleHooks']
    assert (read['HeartbeatTimeout'], read['DefaultResult'], read['GlobalTimeout']) == (3600, 'ABANDON', 172800)
    assert not {'RoleARN', 'NotificationTargetARN', 'NotificationMetadata'} & set(read)


@pytest.mark.parametrize('wrong', [{'HeartbeatTimeout': 29}, {'HeartbeatTimeout': 7201},
                                   {'LifecycleTransition': 'autoscaling:EC2_INSTANCE_SLEEPING'}])
def test_a_hook_that_aws_would_refuse_is_refused(group: Group, wrong: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match='ValidationError'):
        group.api.put_lifecycle_hook(AutoScalingGroupName=group.name, **{**hook('wrong'), **wrong})


def test_the_attributes_of_a_group_are_read_back(api: Rehearsal) -> None:
    attributes: dict[str, Any] = {
        'DefaultInstanceWarmup': 30, 'MaxInstanceLifetime': 86400, 'DefaultCooldown': 10,
        'TerminationPolicies': ['OldestInstance'], 'CapacityRebalance': True,
        'InstanceMaintenancePolicy': {'MinHealthyPercentage': 100, 'MaxHealthyPercentage': 200}}
    group = Group(api, [], DesiredCapacity=0, **attributes)
    assert {name: group.described[name] for name in attributes} == attributes
    group.api.update_auto_scaling_group(AutoScalingGroupName=group.name, DefaultCooldown=20)
    assert group.described['DefaultCooldown'] == 20


def test_a_scaling_policy_is_enabled_by_default(group: Group) -> None:
    group.api.put_scaling_policy(AutoScalingGroupName=group.name, PolicyName='requests',
                                 PolicyType='TargetTrackingScaling', TargetTrackingConfiguration={
                                     'PredefinedMetricSpecification': {
                                         'PredefinedMetricType': 'ASGAverageCPUUtilization'}, 'TargetValue': 50.0})
    (policy,) = group.api.describe_policies(AutoScalingGroupName=group.name)['ScalingPolicies']
    assert policy['Enabled'] is True
    assert 'PredictiveScalingConfiguration' not in policy
