"""Instance refreshes by AWS's API: a group's instances are really replaced, and refused requests name their cause."""

from collections.abc import Iterator
import json
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError
import pytest

from rehearsal.embedded import EmbeddedRehearsal
from tests.support.groups import Group, hook
from tests.support.waiting import eventually


class Refreshed:
    """A group of two with a second version of its template."""

    def __init__(self, aws: EmbeddedRehearsal, hooks: list[dict[str, Any]], **options: Any) -> None:
        """Make the group, and wait for its instances."""
        self.aws, self.group = aws, Group(aws, hooks, **options)
        self.client, self.name = self.group.api, self.group.name
        self.add_version()

    def add_version(self, **data: Any) -> None:
        """Make a version of the template."""
        self.group.ec2.create_launch_template_version(LaunchTemplateName=self.name, SourceVersion='1',
                                                      LaunchTemplateData={'InstanceType': 't3.micro', **data})

    def start(self, version: str | None = '2', **preferences: Any) -> str:
        """Start a refresh to a version of the template."""
        desired = {'LaunchTemplate': {'LaunchTemplateName': self.name, 'Version': version}} if version else None
        options = {'DesiredConfiguration': desired} if desired else {}
        answer = self.client.start_instance_refresh(AutoScalingGroupName=self.name, Preferences=preferences, **options)
        return str(answer['InstanceRefreshId'])

    @property
    def described(self) -> dict[str, Any]:
        """The newest refresh as the API shows it."""
        return dict(self.client.describe_instance_refreshes(AutoScalingGroupName=self.name)['InstanceRefreshes'][0])

    @property
    def status(self) -> str:
        """The status of the newest refresh."""
        return str(self.described['Status'])

    @property
    def versions(self) -> list[str]:
        """The versions of the instances that are in service."""
        return sorted(each['LaunchTemplate']['Version'] for each in self.group.described['Instances']
                      if each['LifecycleState'] == 'InService')

    @property
    def version(self) -> str:
        """The version of the group."""
        return str(self.group.described['LaunchTemplate']['Version'])

    def wait_for(self, status: str) -> None:
        """Return when the refresh has a status."""
        eventually(lambda: self.status == status, lambda: f'{self.described}')


@pytest.fixture
def refreshed(aws: EmbeddedRehearsal) -> Iterator[Refreshed]:
    """Give a group of two in service."""
    new = Refreshed(aws, [])
    new.group.wait_for('InService', 'InService')
    yield new
    new.client.delete_auto_scaling_group(AutoScalingGroupName=new.name, ForceDelete=True)


def test_a_refresh_replaces_all_instances_and_writes_the_version_of_the_group(refreshed: Refreshed) -> None:
    identity = refreshed.start(MinHealthyPercentage=100, MaxHealthyPercentage=150, InstanceWarmup=0)
    refreshed.wait_for('Successful')
    assert (refreshed.versions, refreshed.version) == (['2', '2'], '2')
    shown = refreshed.described
    assert (shown['InstanceRefreshId'], shown['PercentageComplete'], shown['InstancesToUpdate']) == (identity, 100, 0)
    assert shown['EndTime'] >= shown['StartTime']
    causes = [each['Cause'] for each in refreshed.group.activities]
    assert sum('in response to an instance refresh' in cause for cause in causes) == 4


def test_a_replacement_waits_for_its_launch_hook(aws: EmbeddedRehearsal) -> None:
    new = Refreshed(aws, [hook('launch')])
    for instance in new.group.wait_for('Pending:Wait', 'Pending:Wait'):
        new.group.complete(instance, 'CONTINUE')
    first = set(new.group.wait_for('InService', 'InService'))
    new.start(MinHealthyPercentage=100, MaxHealthyPercentage=200)
    new.group.wait_for('InService', 'InService', 'Pending:Wait', 'Pending:Wait')
    assert new.versions == ['1', '1'] and new.described['PercentageComplete'] == 0
    for instance in set(new.group.states) - first:
        new.group.complete(instance, 'CONTINUE')
    new.wait_for('Successful')
    assert new.versions == ['2', '2']


def test_an_abandoned_replacement_is_retried_and_fails_the_refresh_after_an_hour(aws: EmbeddedRehearsal) -> None:
    new = Refreshed(aws, [hook('launch')], DesiredCapacity=1)
    (first,) = new.group.wait_for('Pending:Wait')
    new.group.complete(first, 'CONTINUE')
    new.group.wait_for('InService')
    new.start(MinHealthyPercentage=100, MaxHealthyPercentage=200, AutoRollback=True)
    new.group.wait_for('InService', 'Pending:Wait')
    (second,) = set(new.group.states) - {first}
    new.group.complete(second, 'ABANDON')
    eventually(lambda: second not in new.group.states and 'Pending:Wait' in new.group.states.values(), 'a retry')
    assert new.status == 'InProgress'
    # The second replacement waits for no heartbeat.
    aws.skip(3600)
    new.wait_for('RollbackSuccessful')
    assert list(new.group.wait_for('InService')) == [first]
    assert (new.versions, new.version) == (['1'], '1')
    details = new.described['RollbackDetails']
    assert (details['PercentageCompleteOnRollback'], details['InstancesToUpdateOnRollback']) == (0, 1)
    assert 'one hour' in details['RollbackReason']


def test_an_ami_that_cannot_be_launched_fails_the_refresh_after_an_hour(refreshed: Refreshed) -> None:
    refreshed.add_version(ImageId='ami-0000000000000dead')
    refreshed.start('3', MinHealthyPercentage=100, MaxHealthyPercentage=150)
    eventually(lambda: any(each['StatusCode'] == 'Failed' for each in refreshed.group.activities), 'it has tried')
    eventually(lambda: refreshed.status == 'InProgress', 'it goes on')
    refreshed.aws.look()
    refreshed.aws.skip(3601)
    refreshed.wait_for('Failed')
    assert (refreshed.versions, refreshed.version) == (['1', '1'], '1')


def test_an_alarm_rolls_a_refresh_back(refreshed: Refreshed) -> None:
    alarms = refreshed.aws.client('cloudwatch')
    alarms.put_metric_alarm(AlarmName='errors', Namespace='n', MetricName='m', Statistic='Sum', Period=60,
                            EvaluationPeriods=1, Threshold=1, ComparisonOperator='GreaterThanThreshold',
                            TreatMissingData='ignore')
    refreshed.start(MinHealthyPercentage=0, BakeTime=600, AutoRollback=True,
                    AlarmSpecification={'Alarms': ['errors']})
    refreshed.wait_for('Baking')
    assert refreshed.versions == ['2', '2']
    alarms.set_alarm_state(AlarmName='errors', StateValue='ALARM', StateReason='a test')
    refreshed.wait_for('RollbackSuccessful')
    assert (refreshed.versions, refreshed.version) == (['1', '1'], '1')
    assert 'errors' in refreshed.described['StatusReason']


def test_a_call_rolls_back_what_a_refresh_has_replaced(refreshed: Refreshed) -> None:
    refreshed.start(MinHealthyPercentage=50, CheckpointPercentages=[50, 100])
    eventually(lambda: refreshed.versions == ['1', '2'], 'the first half')
    assert refreshed.described['PercentageComplete'] == 50
    refreshed.client.rollback_instance_refresh(AutoScalingGroupName=refreshed.name)
    refreshed.wait_for('RollbackSuccessful')
    assert (refreshed.versions, refreshed.version) == (['1', '1'], '1')


def test_a_cancelled_refresh_leaves_a_mixture(refreshed: Refreshed) -> None:
    identity = refreshed.start(MinHealthyPercentage=50, CheckpointPercentages=[50, 100])
    eventually(lambda: refreshed.versions == ['1', '2'], 'the first half')
    answer = refreshed.client.cancel_instance_refresh(AutoScalingGroupName=refreshed.name)
    assert answer['InstanceRefreshId'] == identity
    refreshed.wait_for('Cancelled')
    assert (refreshed.versions, refreshed.version) == (['1', '2'], '1')


def test_a_scale_out_during_a_refresh_launches_the_new_version(refreshed: Refreshed) -> None:
    refreshed.start(MinHealthyPercentage=50, CheckpointPercentages=[50, 100], CheckpointDelay=172800)
    eventually(lambda: refreshed.versions == ['1', '2'], 'the first half')
    refreshed.client.set_desired_capacity(AutoScalingGroupName=refreshed.name, DesiredCapacity=4)
    eventually(lambda: refreshed.versions == ['1', '2', '2', '2'], lambda: f'{refreshed.versions}')
    assert refreshed.version == '1'


def test_the_defaults_are_those_of_the_group(aws: EmbeddedRehearsal) -> None:
    policy = {'MinHealthyPercentage': 100, 'MaxHealthyPercentage': 120}
    new = Refreshed(aws, [], InstanceMaintenancePolicy=policy, DefaultInstanceWarmup=120, HealthCheckGracePeriod=60)
    new.start()
    assert new.described['Preferences'] == {
        **policy, 'InstanceWarmup': 120, 'SkipMatching': False, 'AutoRollback': False,
        'ScaleInProtectedInstances': 'Wait', 'StandbyInstances': 'Wait'}
    other = Refreshed(aws, [], HealthCheckGracePeriod=60)
    other.start(CheckpointPercentages=[50])
    shown = other.described['Preferences']
    assert (shown['MinHealthyPercentage'], shown['InstanceWarmup'], shown['CheckpointDelay']) == (90, 60, 3600)
    assert 'MaxHealthyPercentage' not in shown


def test_a_refresh_without_a_desired_configuration_replaces_by_the_group_s_own_version(refreshed: Refreshed) -> None:
    first = set(refreshed.group.states)
    refreshed.start(None, MinHealthyPercentage=0)
    refreshed.wait_for('Successful')
    assert refreshed.versions == ['1', '1'] and not first & set(refreshed.group.states)
    assert 'DesiredConfiguration' not in refreshed.described


def test_a_refresh_stands_still_while_its_process_is_suspended(refreshed: Refreshed) -> None:
    refreshed.client.suspend_processes(AutoScalingGroupName=refreshed.name, ScalingProcesses=['InstanceRefresh'])
    refreshed.start(MinHealthyPercentage=0)
    for _ in range(3):
        refreshed.aws.look()
    assert (refreshed.status, refreshed.versions) == ('Pending', ['1', '1'])
    refreshed.client.resume_processes(AutoScalingGroupName=refreshed.name)
    refreshed.wait_for('Successful')


def test_a_second_refresh_is_refused(refreshed: Refreshed) -> None:
    refreshed.start(MinHealthyPercentage=50, CheckpointPercentages=[50, 100])
    with pytest.raises(ClientError) as refused:
        refreshed.start()
    assert refused.value.response['Error']['Code'] == 'InstanceRefreshInProgress'
    assert isinstance(refused.value, refreshed.client.exceptions.InstanceRefreshInProgressFault)


@pytest.mark.parametrize('action', ['cancel_instance_refresh', 'rollback_instance_refresh'])
def test_without_a_running_refresh_there_is_nothing_to_end(refreshed: Refreshed, action: str) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(refreshed.client, action)(AutoScalingGroupName=refreshed.name)
    assert isinstance(refused.value, refreshed.client.exceptions.ActiveInstanceRefreshNotFoundFault)


@pytest.mark.parametrize('version', [None, '$Latest'])
def test_a_rollback_needs_numbered_versions(refreshed: Refreshed, version: str | None) -> None:
    with pytest.raises(ClientError, match='AutoRollback needs'):
        refreshed.start(version, AutoRollback=True)
    refreshed.start(version, CheckpointPercentages=[50, 100])
    with pytest.raises(ClientError) as refused:
        refreshed.client.rollback_instance_refresh(AutoScalingGroupName=refreshed.name)
    assert isinstance(refused.value, refreshed.client.exceptions.IrreversibleInstanceRefreshFault)


def test_a_rollback_needs_the_id_of_an_ami_and_a_numbered_version_of_the_group(refreshed: Refreshed) -> None:
    refreshed.add_version(ImageId='resolve:ssm:/ami')
    with pytest.raises(ClientError, match='AutoRollback needs'):
        refreshed.start('3', AutoRollback=True)
    refreshed.client.update_auto_scaling_group(AutoScalingGroupName=refreshed.name, LaunchTemplate={
        'LaunchTemplateName': refreshed.name, 'Version': '$Default'})
    with pytest.raises(ClientError, match='AutoRollback needs'):
        refreshed.start('2', AutoRollback=True)


@pytest.mark.parametrize(('preferences', 'message'), [
    ({'MaxHealthyPercentage': 110}, 'must specify MinHealthyPercentage'),
    ({'MinHealthyPercentage': 50, 'MaxHealthyPercentage': 151}, 'difference'),
    ({'MinHealthyPercentage': 101}, 'MinHealthyPercentage 101'), ({'BakeTime': 172801}, 'BakeTime'),
    ({'MinHealthyPercentage': 90, 'MaxHealthyPercentage': 99}, 'MaxHealthyPercentage 99'),
    ({'CheckpointDelay': 60}, 'CheckpointPercentages'), ({'CheckpointPercentages': [50, 20]}, 'ascending'),
    ({'CheckpointPercentages': [50, 50]}, 'unique'), ({'CheckpointPercentages': [0, 50]}, 'between 1 and 100'),
    ({'ScaleInProtectedInstances': 'Terminate'}, 'ScaleInProtectedInstances'),
    ({'StandbyInstances': 'Refresh'}, 'StandbyInstances'),
    ({'AlarmSpecification': {'Alarms': [f'alarm-{number}' for number in range(11)]}}, 'at most 10')])
def test_impossible_preferences_are_refused(refreshed: Refreshed, preferences: dict[str, Any], message: str) -> None:
    # boto3 itself refuses some of them otherwise.
    refreshed.client = refreshed.aws.client('autoscaling', config=Config(parameter_validation=False))
    with pytest.raises(ClientError, match=message):
        refreshed.start(**preferences)
    assert not refreshed.client.describe_instance_refreshes(AutoScalingGroupName=refreshed.name)['InstanceRefreshes']


@pytest.mark.parametrize('template', [{'LaunchTemplateName': 'none'}, {'LaunchTemplateId': 'lt-0123456789abcdef0'},
                                      {'Version': '2'}])
def test_an_unknown_template_or_version_is_refused(refreshed: Refreshed, template: dict[str, str]) -> None:
    with pytest.raises(ClientError, match='launchTemplateId|launch template'):
        refreshed.client.start_instance_refresh(AutoScalingGroupName=refreshed.name,
                                                DesiredConfiguration={'LaunchTemplate': template})
    with pytest.raises(ClientError, match='version 9'):
        refreshed.start('9')


@pytest.mark.parametrize('options', [
    {'Strategy': 'ReplaceRootVolume'},
    {'DesiredConfiguration': {'MixedInstancesPolicy': {'LaunchTemplate': {
        'LaunchTemplateSpecification': {'LaunchTemplateName': 'any', 'Version': '1'}}}}}])
def test_what_is_not_modelled_is_a_gap(refreshed: Refreshed, options: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match='InvalidAction'):
        refreshed.client.start_instance_refresh(AutoScalingGroupName=refreshed.name, **options)
    assert 'autoscaling:StartInstanceRefresh' in refreshed.aws.gaps[-1]


def test_refreshes_are_listed_in_pages_and_by_their_ids(refreshed: Refreshed) -> None:
    identities = []
    for _ in range(3):
        identities.append(refreshed.start('1', SkipMatching=True))
        refreshed.wait_for('Successful')
    page = refreshed.client.describe_instance_refreshes(AutoScalingGroupName=refreshed.name, MaxRecords=2)
    rest = refreshed.client.describe_instance_refreshes(AutoScalingGroupName=refreshed.name,
                                                        NextToken=page['NextToken'])
    listed = [each['InstanceRefreshId'] for each in [*page['InstanceRefreshes'], *rest['InstanceRefreshes']]]
    assert listed == identities[::-1] and 'NextToken' not in rest
    (only,) = refreshed.client.describe_instance_refreshes(
        AutoScalingGroupName=refreshed.name, InstanceRefreshIds=[identities[1]])['InstanceRefreshes']
    assert only['InstanceRefreshId'] == identities[1]


def test_a_refresh_sends_its_events_to_eventbridge(refreshed: Refreshed) -> None:
    queues, topics, rules = (refreshed.aws.client(service) for service in ('sqs', 'sns', 'events'))
    queue = queues.create_queue(QueueName='inbox')['QueueUrl']
    topic = topics.create_topic(Name='refreshes')['TopicArn']
    topics.subscribe(TopicArn=topic, Protocol='sqs', Attributes={'RawMessageDelivery': 'true'},
                     Endpoint=f'arn:aws:sqs:{refreshed.aws.region}:{refreshed.aws.account}:inbox')
    rules.put_rule(Name='refreshes', EventPattern=json.dumps({
        'source': ['aws.autoscaling'], 'detail-type': [{'prefix': 'EC2 Auto Scaling Instance Refresh'}]}))
    rules.put_targets(Rule='refreshes', Targets=[{'Id': 'inbox', 'Arn': topic}])
    identity = refreshed.start(MinHealthyPercentage=50, CheckpointPercentages=[50, 100], CheckpointDelay=0)
    refreshed.wait_for('Successful')
    received: list[dict[str, Any]] = []
    while messages := queues.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get('Messages'):
        received += [json.loads(message['Body']) for message in messages]
    assert [each['detail-type'].removeprefix('EC2 Auto Scaling Instance Refresh ') for each in received] == [
        'Started', 'Checkpoint Reached', 'Succeeded']
    assert {each['detail']['InstanceRefreshId'] for each in received} == {identity}
    assert (received[1]['detail']['CheckpointPercentage'], received[1]['detail']['CheckpointDelay']) == ('50', '0')
