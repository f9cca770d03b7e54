"""Groups and load balancers: health checks, draining, standby, detachment, and the events of a group."""

from collections.abc import Iterator
import json
from typing import Any

from botocore.exceptions import ClientError
from moto.elbv2.models import elbv2_backends
import pytest

from rehearsal.api.groups.health import Checks, failure
from rehearsal.api.target_health import Health, HEALTHY, targets_of, UNHEALTHY
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.groups import Group, hook
from tests.support.waiting import eventually

GRACE = 300


class Balancer:
    """A target group behind a listener, whose checks have the results that a test decides."""

    def __init__(self, aws: EmbeddedRehearsal, delay: int = 60) -> None:
        """Make load balancer, listener and target group."""
        self._aws, self._client = aws, aws.client('elbv2')
        subnets = aws.client('ec2').describe_subnets()['Subnets'][:2]
        made = self._client.create_target_group(Name='targets', Protocol='HTTP', Port=80, VpcId=subnets[0]['VpcId'])
        self.arn = made['TargetGroups'][0]['TargetGroupArn']
        self._client.modify_target_group_attributes(TargetGroupArn=self.arn, Attributes=[
            {'Key': 'deregistration_delay.timeout_seconds', 'Value': str(delay)}])
        made = self._client.create_load_balancer(Name='balancer', Subnets=[each['SubnetId'] for each in subnets])
        self._client.create_listener(LoadBalancerArn=made['LoadBalancers'][0]['LoadBalancerArn'], Protocol='HTTP',
                                     Port=80, DefaultActions=[{'Type': 'forward', 'TargetGroupArn': self.arn}])

    @property
    def states(self) -> dict[str, str]:
        """The state of each target."""
        answer = self._client.describe_target_health(TargetGroupArn=self.arn)['TargetHealthDescriptions']
        return {each['Target']['Id']: each['TargetHealth']['State'] for each in answer}

    def check(self, instance: str, state: str) -> None:
        """Let the checks of a target have a result."""
        target_group = elbv2_backends[self._aws.account][self._aws.region].target_groups[self.arn]
        targets_of(target_group).checked[instance] = Health(state)


@pytest.fixture
def checked(aws: EmbeddedRehearsal, monkeypatch: pytest.MonkeyPatch) -> EmbeddedRehearsal:
    """Give a rehearsal whose registered targets are healthy only after a check."""
    monkeypatch.setattr('rehearsal.api.load_balancers.Records.has_programs', True)
    return aws


def in_service(group: Group, balancer: Balancer, count: int = 2) -> list[str]:
    """Return the instances of a group, when its load balancer calls them healthy."""
    instances = group.wait_for(*['InService'] * count)
    for instance in instances:
        balancer.check(instance, HEALTHY)
    return instances


@pytest.mark.parametrize(('checks', 'word'), [
    (Checks('running'), ''), (Checks('pending'), ''), (Checks('stopped', in_grace=True), 'EC2 health check'),
    (Checks('terminated', kind='ELB'), 'EC2 health check'), (Checks('running', is_marked=True), 'user health-check'),
    (Checks('running', kind='ELB', targets=('healthy', 'unhealthy')), 'ELB system health check'),
    (Checks('running', kind='ELB', targets=('unhealthy',), in_grace=True), ''),
    (Checks('running', kind='EC2', targets=('unhealthy',)), ''),
    (Checks('running', kind='ELB', targets=('initial', 'draining', 'unused')), '')])
def test_the_checks_of_a_group_decide_whether_an_instance_fails_and_why(checks: Checks, word: str) -> None:
    cause = failure(checks)
    assert bool(cause) == bool(word) and word in cause


def test_an_unhealthy_target_is_replaced_after_the_grace_period(checked: EmbeddedRehearsal) -> None:
    balancer = Balancer(checked)
    group = Group(checked, [], TargetGroupARNs=[balancer.arn], HealthCheckType='ELB', HealthCheckGracePeriod=GRACE)
    sick, well = in_service(group, balancer)
    balancer.check(sick, UNHEALTHY)
    checked.skip(GRACE - 60)
    checked.look()
    assert group.states[sick] == 'InService'
    checked.skip(61)
    eventually(lambda: group.states[sick] == 'Terminating', 'the sick one leaves')
    assert group.states[well] == 'InService'
    assert any('ELB system health check' in each['Cause'] for each in group.activities)


def test_a_group_with_ec2_checks_keeps_an_unhealthy_target(checked: EmbeddedRehearsal) -> None:
    balancer = Balancer(checked)
    group = Group(checked, [], TargetGroupARNs=[balancer.arn])
    sick, _well = in_service(group, balancer)
    balancer.check(sick, UNHEALTHY)
    checked.skip(3600)
    checked.look()
    assert group.states[sick] == 'InService'


def test_a_user_can_set_the_health_in_the_grace_period_only_if_the_call_says_so(aws: EmbeddedRehearsal) -> None:
    group = Group(aws, [], HealthCheckGracePeriod=GRACE)
    instance, _other = group.wait_for('InService', 'InService')
    group.api.set_instance_health(InstanceId=instance, HealthStatus='Unhealthy')
    aws.look()
    assert group.states[instance] == 'InService'
    group.api.set_instance_health(InstanceId=instance, HealthStatus='Unhealthy', ShouldRespectGracePeriod=False)
    eventually(lambda: instance not in group.states, 'it has left')
    with pytest.raises(ClientError, match='Valid instance health states'):
        group.api.set_instance_health(InstanceId=group.wait_for('InService', 'InService')[0], HealthStatus='Ill')


def test_an_instance_drains_before_its_hook_and_its_end(aws: EmbeddedRehearsal) -> None:
    balancer = Balancer(aws, delay=60)
    group = Group(aws, [hook('leave', 'TERMINATING')], DesiredCapacity=1, TargetGroupARNs=[balancer.arn])
    (instance,) = group.wait_for('InService')
    group.api.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=0)
    group.wait_for('Terminating')
    assert balancer.states == {instance: 'draining'}
    assert group.activities[0]['StatusCode'] == 'WaitingForELBConnectionDraining'
    aws.skip(59)
    aws.look()
    assert group.states == {instance: 'Terminating'} and group.power(instance) == 'running'
    aws.skip(2)
    group.wait_for('Terminating:Wait')
    assert group.power(instance) == 'running' and balancer.states == {}
    group.complete(instance, 'CONTINUE', hook='leave')
    group.wait_for()
    assert group.power(instance) == 'terminated'


def test_an_instance_that_no_longer_runs_is_replaced_without_draining(aws: EmbeddedRehearsal) -> None:
    group = Group(aws, [hook('leave', 'TERMINATING')], TargetGroupARNs=[Balancer(aws, delay=3599).arn])
    gone, _stays = group.wait_for('InService', 'InService')
    group.ec2.terminate_instances(InstanceIds=[gone])
    eventually(lambda: gone not in group.states, 'it has left')
    group.wait_for('InService', 'InService')


def test_standby_drains_and_the_way_back_registers_again(aws: EmbeddedRehearsal) -> None:
    balancer = Balancer(aws, delay=60)
    group = Group(aws, [], TargetGroupARNs=[balancer.arn])
    first, second = group.wait_for('InService', 'InService')
    named: Any = {'AutoScalingGroupName': group.name, 'InstanceIds': [first]}
    answer = group.api.enter_standby(ShouldDecrementDesiredCapacity=True, **named)
    assert 'moved to standby' in answer['Activities'][0]['Cause']
    assert balancer.states == {first: 'draining', second: 'healthy'}
    assert group.states == {first: 'EnteringStandby', second: 'InService'}
    aws.skip(61)
    group.wait_for('Standby', 'InService')
    assert balancer.states == {second: 'healthy'} and group.described['DesiredCapacity'] == 1
    group.api.exit_standby(**named)
    group.wait_for('InService', 'InService')
    assert balancer.states == {first: 'healthy', second: 'healthy'} and group.described['DesiredCapacity'] == 2


def test_standby_without_a_decrement_launches_another_instance(aws: EmbeddedRehearsal) -> None:
    group = Group(aws, [], DesiredCapacity=1)
    (instance,) = group.wait_for('InService')
    group.api.enter_standby(AutoScalingGroupName=group.name, InstanceIds=[instance],
                            ShouldDecrementDesiredCapacity=False)
    group.wait_for('Standby', 'InService')


@pytest.mark.parametrize(('act', 'words'), [('enter_standby', 'To place into standby 1 instance,'),
                                            ('detach_instances', 'To detach 1 instance,')])
def test_no_instance_steps_aside_below_the_minimum_size(aws: EmbeddedRehearsal, act: str, words: str) -> None:
    group = Group(aws, [], MinSize=2)
    instance, _other = group.wait_for('InService', 'InService')
    with pytest.raises(ClientError, match=words):
        getattr(group.api, act)(AutoScalingGroupName=group.name, InstanceIds=[instance],
                                ShouldDecrementDesiredCapacity=True)
    assert group.described['DesiredCapacity'] == 2
    group.wait_for('InService', 'InService')


def test_only_a_member_in_the_right_state_steps_aside_or_back(aws: EmbeddedRehearsal) -> None:
    group = Group(aws, [])
    instance, _other = group.wait_for('InService', 'InService')
    with pytest.raises(ClientError, match=f'{instance} is not in Standby'):
        group.api.exit_standby(AutoScalingGroupName=group.name, InstanceIds=[instance])
    with pytest.raises(ClientError, match='is not part of Auto Scaling group'):
        group.api.detach_instances(AutoScalingGroupName=group.name, InstanceIds=['i-0123456789abcdef0'],
                                   ShouldDecrementDesiredCapacity=False)


def test_a_detached_instance_drains_and_runs_on_and_can_be_attached_again(aws: EmbeddedRehearsal) -> None:
    balancer = Balancer(aws, delay=60)
    group = Group(aws, [], TargetGroupARNs=[balancer.arn])
    first, second = group.wait_for('InService', 'InService')
    named: Any = {'AutoScalingGroupName': group.name, 'InstanceIds': [first]}
    group.api.detach_instances(ShouldDecrementDesiredCapacity=True, **named)
    assert group.states == {first: 'Detaching', second: 'InService'} and balancer.states[first] == 'draining'
    with pytest.raises(ClientError, match='already part of an AutoScalingGroup'):
        group.api.attach_instances(**named)
    aws.skip(61)
    group.wait_for('InService')
    described = group.ec2.describe_instances(InstanceIds=[first])['Reservations'][0]['Instances'][0]
    assert described['State']['Name'] == 'running'
    assert 'aws:autoscaling:groupName' not in {tag['Key'] for tag in described['Tags']}
    group.api.attach_instances(**named)
    group.wait_for('InService', 'InService')
    assert balancer.states == {first: 'healthy', second: 'healthy'} and group.described['DesiredCapacity'] == 2
    attached = next(each for each in group.described['Instances'] if each['InstanceId'] == first)
    assert 'LaunchTemplate' not in attached


def test_an_instance_is_attached_only_within_the_maximum_and_while_it_runs(aws: EmbeddedRehearsal) -> None:
    group = Group(aws, [], MaxSize=3, DesiredCapacity=2)
    placement = {'AvailabilityZone': 'us-east-1a'}
    made = group.ec2.run_instances(ImageId=aws.source_ami, InstanceType='t3.small', MinCount=2, MaxCount=2,
                                   Placement=placement)['Instances']
    others = [each['InstanceId'] for each in made]
    with pytest.raises(ClientError, match='To attach 2 instances,'):
        group.api.attach_instances(AutoScalingGroupName=group.name, InstanceIds=others)
    group.ec2.stop_instances(InstanceIds=others[:1])
    with pytest.raises(ClientError, match='must be in running state'):
        group.api.attach_instances(AutoScalingGroupName=group.name, InstanceIds=others[:1])


def test_a_maintenance_policy_launches_before_an_unhealthy_instance_ends(aws: EmbeddedRehearsal) -> None:
    policy = {'MinHealthyPercentage': 100, 'MaxHealthyPercentage': 150}
    group = Group(aws, [hook('launch')], InstanceMaintenancePolicy=policy, DefaultInstanceWarmup=120)
    sick, well = group.wait_for('Pending:Wait', 'Pending:Wait')
    for instance in (sick, well):
        group.complete(instance, 'CONTINUE')
    group.wait_for('InService', 'InService')
    aws.skip(121)
    group.api.set_instance_health(InstanceId=sick, HealthStatus='Unhealthy')
    group.wait_for('InService', 'InService', 'Pending:Wait')
    (new,) = [each for each, state in group.states.items() if state == 'Pending:Wait']
    group.complete(new, 'CONTINUE')
    group.wait_for('InService', 'InService', 'InService')
    aws.skip(121)
    eventually(lambda: sick not in group.states, 'the sick one has left')
    assert group.states == {well: 'InService', new: 'InService'}


@pytest.mark.parametrize('policy', [{'MinHealthyPercentage': 90},
                                    {'MinHealthyPercentage': 50, 'MaxHealthyPercentage': 200}])
def test_a_maintenance_policy_needs_both_values_and_a_range_of_at_most_100(aws: EmbeddedRehearsal,
                                                                           policy: dict[str, int]) -> None:
    with pytest.raises(ClientError, match='ValidationError'):
        Group(aws, [], InstanceMaintenancePolicy=policy)


def test_a_maintenance_policy_is_cleared(aws: EmbeddedRehearsal) -> None:
    group = Group(aws, [], DesiredCapacity=0,
                  InstanceMaintenancePolicy={'MinHealthyPercentage': 90, 'MaxHealthyPercentage': 120})
    group.api.update_auto_scaling_group(AutoScalingGroupName=group.name, InstanceMaintenancePolicy={
        'MinHealthyPercentage': -1, 'MaxHealthyPercentage': -1})
    assert 'InstanceMaintenancePolicy' not in group.described


class Inbox:
    """The events of groups that a rule of EventBridge sends to a topic, and this to a queue."""

    def __init__(self, aws: EmbeddedRehearsal) -> None:
        """Make queue, topic and rule."""
        self._sqs, events = aws.client('sqs'), aws.client('events')
        self._queue = self._sqs.create_queue(QueueName='inbox')['QueueUrl']
        topic = aws.client('sns').create_topic(Name='groups')['TopicArn']
        aws.client('sns').subscribe(TopicArn=topic, Protocol='sqs', Attributes={'RawMessageDelivery': 'true'},
                                    Endpoint=f'arn:aws:sqs:{aws.region}:{aws.account}:inbox')
        events.put_rule(Name='groups', EventPattern=json.dumps({'source': ['aws.autoscaling']}))
        events.put_targets(Rule='groups', Targets=[{'Id': 'inbox', 'Arn': topic}])
        self.events: list[dict[str, Any]] = []

    def kinds(self) -> list[str]:
        """Return the detail types of all events up to now, sorted."""
        while messages := self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get('Messages'):
            self.events += [json.loads(message['Body']) for message in messages]
            for message in messages:
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message['ReceiptHandle'])
        return sorted(event['detail-type'] for event in self.events)


@pytest.fixture
def inbox(aws: EmbeddedRehearsal) -> Iterator[Inbox]:
    """Give the events of groups."""
    yield Inbox(aws)


def test_a_launch_and_an_end_are_published_with_their_hooks(aws: EmbeddedRehearsal, inbox: Inbox) -> None:
    group = Group(aws, [hook('launch', NotificationMetadata='more'), hook('leave', 'TERMINATING')], DesiredCapacity=1)
    (instance,) = group.wait_for('Pending:Wait')
    assert inbox.kinds() == ['EC2 Instance-launch Lifecycle Action']
    (event,) = inbox.events
    token = event['detail']['LifecycleActionToken']
    assert event['detail'] == {
        'LifecycleActionToken': token, 'AutoScalingGroupName': group.name, 'LifecycleHookName': 'launch',
        'EC2InstanceId': instance, 'LifecycleTransition': 'autoscaling:EC2_INSTANCE_LAUNCHING',
        'NotificationMetadata': 'more', 'Origin': 'EC2', 'Destination': 'AutoScalingGroup'}
    assert event['resources'] == [group.described['AutoScalingGroupARN']]
    group.api.complete_lifecycle_action(AutoScalingGroupName=group.name, LifecycleHookName='launch',
                                        LifecycleActionToken=token, LifecycleActionResult='CONTINUE')
    group.wait_for('InService')
    group.api.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=0)
    group.wait_for('Terminating:Wait')
    group.complete(instance, 'CONTINUE', hook='leave')
    group.wait_for()
    eventually(lambda: inbox.kinds() == [
        'EC2 Instance Launch Successful', 'EC2 Instance Terminate Successful', 'EC2 Instance-launch Lifecycle Action',
        'EC2 Instance-terminate Lifecycle Action'], 'all events')
    launch = next(each for each in inbox.events if each['detail-type'] == 'EC2 Instance Launch Successful')
    assert launch['detail']['EC2InstanceId'] == instance and launch['detail']['StatusCode'] == 'InProgress'
    assert launch['detail']['Details']['Availability Zone'] == 'us-east-1a'
    assert launch['resources'][1].endswith(f':instance/{instance}')


def test_a_failed_and_an_abandoned_launch_are_published(aws: EmbeddedRehearsal, inbox: Inbox) -> None:
    group = Group(aws, [hook('launch')], DesiredCapacity=1)
    (instance,) = group.wait_for('Pending:Wait')
    group.ec2.delete_launch_template(LaunchTemplateName=group.name)
    group.complete(instance, 'ABANDON')
    eventually(lambda: inbox.kinds().count('EC2 Instance Launch Unsuccessful') == 2, 'both events')
    details = [each['detail'] for each in inbox.events if each['detail-type'] == 'EC2 Instance Launch Unsuccessful']
    assert sorted(each['EC2InstanceId'] for each in details) == ['', instance]
    assert all(each['StatusCode'] == 'Failed' and each['StatusMessage'] for each in details)
