"""The embedded rehearsal: an API in this process, with one set of records that a reset empties."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
import sys
from threading import Barrier
from types import FunctionType
from typing import cast
import uuid

from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
import pytest
import requests

from rehearsal.api.extensions import EXTENSIONS
from rehearsal.api.parts import Parts
from rehearsal.api.patching import Extension, install
from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.errors import RehearsalError
from tests.support.local_aws import launch
from tests.support.waiting import eventually

RULES = 24


def test_a_reset_leaves_the_source_ami_and_nothing_else(aws: EmbeddedRehearsal) -> None:
    ec2 = aws.client('ec2')
    for _ in range(2):
        ec2.create_image(InstanceId=launch(aws), Name='visitors')
        aws.client('ssm').put_parameter(Name='a', Value='1', Type='String')
        aws.faults.refuse('DescribeKeyPairs')
        aws.say('hello')
        aws.reset()
        assert not aws.faults.calls and not ec2.describe_key_pairs()['KeyPairs']
        assert [image['ImageId'] for image in ec2.describe_images()['Images']] == [aws.source_ami]
        assert not ec2.describe_instances()['Reservations']
        assert not aws.client('ssm').describe_parameters()['Parameters']
        assert not ec2.get_console_output(InstanceId=launch(aws)).get('Output')


def test_only_one_is_open_in_a_process(aws: EmbeddedRehearsal) -> None:
    with pytest.raises(RehearsalError, match='is open: its records'):
        EmbeddedRehearsal()


def test_a_stopped_api_refuses_connections_and_has_its_records_afterwards(aws: EmbeddedRehearsal) -> None:
    ssm = aws.client('ssm')
    ssm.put_parameter(Name='a', Value='1', Type='String')
    aws.stop()
    with pytest.raises(EndpointConnectionError):
        ssm.get_parameter(Name='a')
    aws.start()
    assert ssm.get_parameter(Name='a')['Parameter']['Value'] == '1'


def test_consoles_show_a_text_with_the_tags_of_the_ami(aws: EmbeddedRehearsal) -> None:
    ec2 = aws.client('ec2')
    ami = ec2.create_image(InstanceId=launch(aws), Name='visitors', TagSpecifications=[
        {'ResourceType': 'image', 'Tags': [{'Key': 'Version', 'Value': '1.2'}]}])['ImageId']
    aws.say('SELFTEST PASSED {Version}')
    assert ec2.get_console_output(InstanceId=launch(aws, ami))['Output'] == 'SELFTEST PASSED 1.2'


def test_new_amis_are_in_the_state_that_a_test_wants(aws: EmbeddedRehearsal) -> None:
    ec2 = aws.client('ec2')
    aws.records.state_of_new_amis = 'pending'
    ami = ec2.create_image(InstanceId=launch(aws), Name='visitors')['ImageId']
    assert ec2.describe_images(ImageIds=[ami])['Images'][0]['State'] == 'pending'


def test_a_group_launches_waits_for_its_hook_and_is_gone_after_a_reset(aws: EmbeddedRehearsal) -> None:
    groups, name = aws.client('autoscaling'), f'group-{uuid.uuid4().hex[:8]}'
    aws.client('ec2').create_launch_template(LaunchTemplateName=name, LaunchTemplateData={
        'ImageId': aws.source_ami, 'InstanceType': 't3.small'})
    hook = {'LifecycleHookName': 'launch', 'LifecycleTransition': 'autoscaling:EC2_INSTANCE_LAUNCHING'}
    groups.create_auto_scaling_group(
        AutoScalingGroupName=name, MinSize=1, MaxSize=1, LaunchTemplate={'LaunchTemplateName': name, 'Version': '1'},
        AvailabilityZones=[f'{aws.region}a'], LifecycleHookSpecificationList=[hook])

    def states() -> list[str]:
        return [each['LifecycleState'] for each in groups.describe_auto_scaling_instances()['AutoScalingInstances']]

    eventually(lambda: states() == ['Pending:Wait'], 'the instance waits')
    aws.reset()
    assert states() == []


def test_the_metadata_service_of_an_instance_answers_and_has_faults(aws: EmbeddedRehearsal) -> None:
    instance = launch(aws)
    with aws.metadata(instance) as service:
        service.faults.refuse('PUT /latest/api/token', times=1, status=503)
        lifetime = {'X-aws-ec2-metadata-token-ttl-seconds': '60'}
        tokens = [requests.put(f'{service.endpoint}/latest/api/token', headers=lifetime, timeout=10)
                  for _ in range(2)]
        assert [answer.status_code for answer in tokens] == [503, 200]
        answer = requests.get(f'{service.endpoint}/latest/meta-data/instance-id', timeout=10,
                              headers={'X-aws-ec2-metadata-token': tokens[1].text})
        assert answer.text == instance
        assert [call.operation for call in service.faults.calls][-1] == 'GET /latest/meta-data/instance-id'


def test_an_alias_of_an_ami_is_resolved_on_request(aws: EmbeddedRehearsal) -> None:
    ec2 = aws.client('ec2')
    aws.client('ssm').put_parameter(Name='/ami', Value='ami-1', Type='String')
    ec2.create_launch_template(LaunchTemplateName='template', LaunchTemplateData={'ImageId': 'resolve:ssm:/ami'})

    def ami(**options: bool) -> str:
        answer = ec2.describe_launch_template_versions(LaunchTemplateName='template', **options)
        return str(answer['LaunchTemplateVersions'][0]['LaunchTemplateData']['ImageId'])

    assert (ami(ResolveAlias=True), ami()) == ('ami-1', 'resolve:ssm:/ami')


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Let threads take turns after every few instructions, so that a race between them is met."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures('eager_threads')
@pytest.mark.parametrize('direction', ['ingress', 'egress'])
def test_concurrent_revocations_of_rules_all_take_effect(aws: EmbeddedRehearsal, direction: str) -> None:
    ec2 = aws.client('ec2', config=Config(max_pool_connections=RULES))
    group = ec2.create_security_group(GroupName='many', Description='rules')['GroupId']
    getattr(ec2, f'authorize_security_group_{direction}')(GroupId=group, IpPermissions=[
        {'IpProtocol': 'tcp', 'FromPort': 100 + number, 'ToPort': 100 + number, 'IpRanges': [{'CidrIp': '10.0.0.0/8'}]}
        for number in range(RULES)])
    rules = [each['SecurityGroupRuleId'] for each in ec2.describe_security_group_rules(
        Filters=[{'Name': 'group-id', 'Values': [group]}])['SecurityGroupRules'] if each['FromPort'] >= 100]
    assert len(rules) == RULES
    together = Barrier(RULES)

    def revoke(rule: str) -> None:
        together.wait(30)
        getattr(ec2, f'revoke_security_group_{direction}')(GroupId=group, SecurityGroupRuleIds=[rule])

    with ThreadPoolExecutor(RULES) as threads:
        list(threads.map(revoke, rules))
    left = ec2.describe_security_group_rules(Filters=[{'Name': 'group-id', 'Values': [group]}])['SecurityGroupRules']
    assert not {each['SecurityGroupRuleId'] for each in left} & set(rules)


@pytest.mark.parametrize('direction', ['ingress', 'egress'])
def test_a_repeated_revocation_names_the_unknown_rule_by_aws_s_code(aws: EmbeddedRehearsal, direction: str) -> None:
    ec2 = aws.client('ec2')
    group = ec2.create_security_group(GroupName='one', Description='rule')['GroupId']
    rule = getattr(ec2, f'authorize_security_group_{direction}')(GroupId=group, IpPermissions=[
        {'IpProtocol': 'tcp', 'FromPort': 1, 'ToPort': 1, 'IpRanges': [{'CidrIp': '10.0.0.0/8'}]}])
    (rule,) = [each['SecurityGroupRuleId'] for each in rule['SecurityGroupRules']]
    revoke = getattr(ec2, f'revoke_security_group_{direction}')
    revoke(GroupId=group, SecurityGroupRuleIds=[rule])
    with pytest.raises(ClientError, match=r'InvalidSecurityGroupRuleId\.NotFound.*' + rule):
        revoke(GroupId=group, SecurityGroupRuleIds=[rule])
    with pytest.raises(ClientError, match=r'InvalidPermission\.NotFound'):
        revoke(GroupId=group, IpPermissions=[{'IpProtocol': 'tcp', 'FromPort': 1, 'ToPort': 1,
                                              'IpRanges': [{'CidrIp': '10.0.0.0/8'}]}])


def test_no_two_extensions_replace_the_same_member_of_a_class() -> None:
    members = [(extension.extends, name) for extension in EXTENSIONS for name, member in vars(extension).items()
               if isinstance(member, (FunctionType, property))]
    assert len(members) == len(set(members))


def test_an_extension_can_call_the_member_that_it_replaces_and_its_removal_restores_the_class() -> None:
    class Owner:
        """A class as moto has it."""

        def name(self) -> str:
            """Return a name."""
            return 'moto'

    class Named(Extension, extends=Owner):
        """An extension of it."""

        def name(self) -> str:
            """Return moto's name with another one."""
            return f'{self.moto_name()} of {self.rehearsal}'

    before, parts = dict(vars(Owner)), 'the rehearsal'
    undo = install([Named], cast(Parts, parts))
    assert Owner().name() == 'moto of the rehearsal'
    undo()
    assert dict(vars(Owner)) == before
