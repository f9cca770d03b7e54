"""The API of a rehearsal, as far as it answers otherwise than moto."""

from base64 import b64encode
from typing import Any
import uuid

from botocore.exceptions import ClientError
import pytest
import requests

from rehearsal.api.source_ami import OWNER
from rehearsal.api.volumes import merged
from rehearsal.client import Rehearsal
from tests.support.instances import Instance, launch
from tests.support.local_aws import make_profile

TAGS = [{'ResourceType': 'image', 'Tags': [{'Key': 'Of', 'Value': 'image'}]},
        {'ResourceType': 'snapshot', 'Tags': [{'Key': 'Of', 'Value': 'snapshot'}]}]


def unique() -> str:
    return f'image-{uuid.uuid4().hex[:8]}'


def image(api: Rehearsal, instance: Instance, **options: Any) -> dict[str, Any]:
    """Return the description of a new AMI of an instance."""
    ec2 = api.client('ec2')
    ami = ec2.create_image(**{'InstanceId': instance.name, 'Name': unique(), **options})
    return dict(ec2.describe_images(ImageIds=[ami['ImageId']])['Images'][0])


def test_the_filter_that_finds_debians_ami_on_aws_finds_it_here(api: Rehearsal) -> None:
    filters = {'name': 'debian-13-amd64-*', 'root-device-type': 'ebs', 'virtualization-type': 'hvm',
               'architecture': 'x86_64'}
    (ami,) = api.client('ec2').describe_images(
        Owners=[OWNER], Filters=[{'Name': name, 'Values': [value]} for name, value in filters.items()])['Images']
    assert ami['ImageId'] == api.facts['source_ami']
    assert (ami['Public'], ami['EnaSupport'], ami['State']) == (True, True, 'available')
    mine = api.client('ec2').describe_images(Owners=['self'])['Images']
    assert api.facts['source_ami'] not in [image['ImageId'] for image in mine]


def test_an_instance_inherits_the_disks_of_its_ami(api: Rehearsal) -> None:
    instance = launch(api)
    (disk,) = instance.described['BlockDeviceMappings']
    volume = api.client('ec2').describe_volumes(VolumeIds=[disk['Ebs']['VolumeId']])['Volumes'][0]
    assert (disk['DeviceName'], disk['Ebs']['DeleteOnTermination']) == (instance.described['RootDeviceName'], True)
    assert (volume['Size'], volume['VolumeType'], volume['Encrypted']) == (8, 'gp3', False)


def test_an_ami_inherits_the_disk_of_its_instance(api: Rehearsal) -> None:
    disk = {'VolumeSize': 12, 'Encrypted': True}
    instance = launch(api, BlockDeviceMappings=[{'DeviceName': '/dev/xvda', 'Ebs': disk}])
    described = image(api, instance, TagSpecifications=TAGS)
    disk = described['BlockDeviceMappings'][0]['Ebs']
    assert (disk['VolumeSize'], disk['VolumeType'], disk['Encrypted']) == (12, 'gp3', True)
    (snapshot,) = api.client('ec2').describe_snapshots(SnapshotIds=[disk['SnapshotId']])['Snapshots']
    assert (snapshot['VolumeSize'], snapshot['Encrypted']) == (12, True)
    assert described['Tags'] == TAGS[0]['Tags'] and snapshot['Tags'] == TAGS[1]['Tags']


@pytest.mark.parametrize(('mappings', 'disks'), [
    ([], {'/dev/a': {'VolumeSize': 8}}),
    ([{'DeviceName': '/dev/a', 'Ebs': {'VolumeSize': 9, 'KmsKeyId': None}}], {'/dev/a': {'VolumeSize': 9}}),
    ([{'DeviceName': '/dev/b', 'Ebs': {'VolumeSize': 1}}], {'/dev/a': {'VolumeSize': 8}, '/dev/b': {'VolumeSize': 1}}),
    ([{'DeviceName': '/dev/a', 'NoDevice': ''}], {})])
def test_the_disk_of_a_launch_changes_that_of_the_ami(mappings: list[dict[str, Any]], disks: dict[str, Any]) -> None:
    result = merged([{'DeviceName': '/dev/a', 'Ebs': {'VolumeSize': 8}}], mappings)
    assert {disk['DeviceName']: disk['Ebs'] for disk in result} == disks


def test_snapshots_of_others_are_not_ones_own(api: Rehearsal) -> None:
    ec2 = api.client('ec2')
    mine = {each['OwnerId'] for each in ec2.describe_snapshots(OwnerIds=['self'])['Snapshots']}
    assert OWNER not in mine
    assert [each['OwnerId'] for each in ec2.describe_snapshots(OwnerIds=[OWNER])['Snapshots']] == [OWNER]


@pytest.mark.parametrize('with_snapshots', [True, False])
def test_a_deregistered_ami_takes_its_snapshots_along_on_request(api: Rehearsal, with_snapshots: bool) -> None:
    ec2, described = api.client('ec2'), image(api, launch(api))
    snapshot = described['BlockDeviceMappings'][0]['Ebs']['SnapshotId']
    with pytest.raises(ClientError, match=r'InvalidSnapshot\.InUse'):
        ec2.delete_snapshot(SnapshotId=snapshot)
    options = {'DeleteAssociatedSnapshots': True} if with_snapshots else {}
    answer = ec2.deregister_image(ImageId=described['ImageId'], **options)
    assert [each['ReturnCode'] for each in answer.get('DeleteSnapshotResults', [])] == ['success'] * with_snapshots
    left = [each['SnapshotId'] for each in ec2.describe_snapshots(OwnerIds=['self'])['Snapshots']]
    assert (snapshot in left) is not with_snapshots
    with pytest.raises(ClientError, match=r'InvalidAMIID\.NotFound'):
        launch(api, ImageId=described['ImageId'])


def test_the_imds_support_of_an_ami_is_read_back(api: Rehearsal) -> None:
    ec2, ami = api.client('ec2'), image(api, launch(api))['ImageId']
    assert 'ImdsSupport' not in ec2.describe_images(ImageIds=[ami])['Images'][0]
    ec2.modify_image_attribute(ImageId=ami, ImdsSupport={'Value': 'v2.0'})
    assert ec2.describe_images(ImageIds=[ami])['Images'][0]['ImdsSupport'] == 'v2.0'
    assert ec2.describe_image_attribute(ImageId=ami, Attribute='imdsSupport')['ImdsSupport'] == {'Value': 'v2.0'}


def test_an_ami_can_still_be_shared(api: Rehearsal) -> None:
    ec2, ami = api.client('ec2'), image(api, launch(api))['ImageId']
    ec2.modify_image_attribute(ImageId=ami, LaunchPermission={'Add': [{'UserId': '210987654321'}]})
    attribute = ec2.describe_image_attribute(ImageId=ami, Attribute='launchPermission')
    assert attribute['LaunchPermissions'] == [{'UserId': '210987654321'}]


def test_two_amis_of_an_account_have_different_names(api: Rehearsal) -> None:
    instance = launch(api)
    name = image(api, instance)['Name']
    with pytest.raises(ClientError, match=r'InvalidAMIName\.Duplicate'):
        image(api, instance, Name=name)


def test_a_copied_ami_is_one_of_its_own(api: Rehearsal) -> None:
    ec2, source = api.client('ec2'), image(api, launch(api))
    copy = ec2.copy_image(SourceImageId=source['ImageId'], SourceRegion='us-east-1', Name=unique(), Encrypted=True)
    ec2.deregister_image(ImageId=source['ImageId'])
    described = ec2.describe_images(ImageIds=[copy['ImageId']])['Images'][0]
    assert (described['State'], described['BlockDeviceMappings'][0]['Ebs']['Encrypted']) == ('available', True)
    assert launch(api, ImageId=copy['ImageId']).state == 'running'


@pytest.mark.parametrize(('wrong', 'code'), [
    ({'ImageId': 'ami-00000000000000000'}, r'InvalidAMIID\.NotFound'),
    ({'InstanceType': 't3.enormous'}, 'instance type'), ({'KeyName': 'nobody'}, r'InvalidKeyPair\.NotFound'),
    ({'SubnetId': 'subnet-00000000'}, r'InvalidSubnetID\.NotFound'),
    ({'SecurityGroupIds': ['sg-00000000']}, r'InvalidGroup|InvalidSecurityGroupID')])
def test_a_launch_that_names_an_unknown_resource_is_refused(api: Rehearsal, wrong: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError, match=code):
        launch(api, **wrong)


def test_an_instance_is_launched_in_the_default_subnet_and_has_an_address_of_it(api: Rehearsal) -> None:
    instance = launch(api).described
    (subnet,) = api.client('ec2').describe_subnets(SubnetIds=[instance['SubnetId']])['Subnets']
    assert subnet['DefaultForAz']
    assert instance['PrivateIpAddress'].rsplit('.', 2)[0] == subnet['CidrBlock'].rsplit('.', 2)[0]


@pytest.mark.parametrize(('action', 'state'), [
    ('start_instances', 'running'), ('stop_instances', 'stopped'), ('terminate_instances', 'terminated')])
def test_a_repeated_action_changes_nothing(api: Rehearsal, action: str, state: str) -> None:
    instance = launch(api)
    for _ in range(2):
        getattr(api.client('ec2'), action)(InstanceIds=[instance.name])
        assert instance.state == state


@pytest.mark.parametrize('action', ['start_instances', 'stop_instances', 'reboot_instances'])
def test_a_terminated_instance_allows_no_action(api: Rehearsal, action: str) -> None:
    instance = launch(api)
    instance.terminate()
    with pytest.raises(ClientError, match='IncorrectInstanceState'):
        getattr(api.client('ec2'), action)(InstanceIds=[instance.name])
    with pytest.raises(ClientError, match='IncorrectInstanceState'):
        image(api, instance)


def test_tokens_are_required_by_default(api: Rehearsal) -> None:
    assert launch(api).described['MetadataOptions']['HttpTokens'] == 'required'
    optional = launch(api, MetadataOptions={'HttpTokens': 'optional', 'InstanceMetadataTags': 'enabled'}).described
    assert optional['MetadataOptions']['HttpTokens'] == 'optional'
    assert optional['MetadataOptions']['InstanceMetadataTags'] == 'enabled'


def profile(api: Rehearsal) -> str:
    """Return the name of a new instance profile."""
    name = unique()
    make_profile(api.client('iam'), name)
    return name


def test_all_instances_of_a_launch_have_the_profile(api: Rehearsal) -> None:
    name = profile(api)
    answer = api.client('ec2').run_instances(ImageId=api.facts['source_ami'], InstanceType='t3.small', MinCount=2,
                                             MaxCount=2, IamInstanceProfile={'Name': name})
    for launched in answer['Instances']:
        instance_profile = Instance(api, launched['InstanceId']).described['IamInstanceProfile']
        assert instance_profile['Arn'].endswith(f':instance-profile/{name}')


def test_an_instance_has_the_attributes_of_its_launch_template(api: Rehearsal) -> None:
    ec2, name = api.client('ec2'), profile(api)
    security_group = ec2.create_security_group(GroupName=unique(), Description='one')['GroupId']
    data = {'ImageId': api.facts['source_ami'], 'InstanceType': 't3.micro', 'IamInstanceProfile': {'Name': name},
            'InstanceInitiatedShutdownBehavior': 'terminate', 'UserData': b64encode(b'#!/bin/sh\n').decode(),
            'MetadataOptions': {'HttpTokens': 'required', 'InstanceMetadataTags': 'enabled'},
            'NetworkInterfaces': [{'DeviceIndex': 0, 'Groups': [security_group]}],
            'BlockDeviceMappings': [{'DeviceName': '/dev/xvda', 'Ebs': {'VolumeSize': 20}}]}
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={'InstanceType': 't3.nano'})
    ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData=data)
    answer = ec2.run_instances(MinCount=1, MaxCount=1, LaunchTemplate={'LaunchTemplateName': name, 'Version': '2'})
    instance = Instance(api, answer['Instances'][0]['InstanceId'])
    description = instance.described
    assert description['InstanceType'] == 't3.micro'
    assert description['MetadataOptions']['InstanceMetadataTags'] == 'enabled'
    assert description['IamInstanceProfile']['Arn'].endswith(name)
    assert [each['GroupId'] for each in description['SecurityGroups']] == [security_group]
    volume = description['BlockDeviceMappings'][0]['Ebs']['VolumeId']
    assert ec2.describe_volumes(VolumeIds=[volume])['Volumes'][0]['Size'] == 20
    for attribute, value in {'instanceInitiatedShutdownBehavior': 'terminate', 'userData': data['UserData']}.items():
        answer = ec2.describe_instance_attribute(InstanceId=instance.name, Attribute=attribute)
        assert answer[attribute[0].upper() + attribute[1:]]['Value'] == value


def test_a_version_of_a_launch_template_inherits_from_its_source(api: Rehearsal) -> None:
    ec2, name = api.client('ec2'), unique()
    tags = [{'ResourceType': 'launch-template', 'Tags': [{'Key': 'Of', 'Value': 'template'}]}]
    ec2.create_launch_template(LaunchTemplateName=name, TagSpecifications=tags,
                               LaunchTemplateData={'ImageId': 'ami-1', 'InstanceType': 't3.small'})
    ec2.create_launch_template_version(LaunchTemplateName=name, SourceVersion='1',
                                       LaunchTemplateData={'InstanceType': 't3.micro'})
    first, second = (ec2.describe_launch_template_versions(LaunchTemplateName=name, Versions=[version])
                     ['LaunchTemplateVersions'][0]['LaunchTemplateData'] for version in '12')
    assert first == {'ImageId': 'ami-1', 'InstanceType': 't3.small'}, "the template's own tags are none of its data"
    assert second == {'ImageId': 'ami-1', 'InstanceType': 't3.micro'}


def test_a_metric_that_was_put_can_be_read(api: Rehearsal) -> None:
    watch, name = api.client('cloudwatch'), unique()
    dimensions = [{'Name': 'Group', 'Value': 'one'}]
    watch.put_metric_data(Namespace=name, MetricData=[{'MetricName': 'Failed', 'Dimensions': dimensions, 'Value': 1,
                                                       'Unit': 'Count'}])
    (metric,) = watch.list_metrics(Namespace=name)['Metrics']
    assert (metric['MetricName'], metric['Dimensions']) == ('Failed', dimensions)


@pytest.mark.parametrize(('service', 'action', 'options', 'code'), [
    ('autoscaling', 'describe_traffic_sources', {'AutoScalingGroupName': 'g'}, 'InvalidAction'),
    ('ec2', 'enable_image_deprecation', {'ImageId': 'ami-1', 'DeprecateAt': '2030-01-01'}, 'InvalidAction'),
    ('ssm', 'describe_instance_information', {}, 'UnknownOperationException')])
def test_a_missing_action_is_refused_at_once_and_listed(api: Rehearsal, service: str, action: str,
                                                        options: dict[str, str], code: str) -> None:
    before = len(api.gaps())
    with pytest.raises(ClientError) as refused:
        getattr(api.client(service), action)(**options)
    assert refused.value.response['Error']['Code'] == code
    assert refused.value.response['ResponseMetadata']['HTTPStatusCode'] == 400
    (gap,) = api.gaps()[before:]
    assert gap == f'{service}:{"".join(word.title() for word in action.split("_"))}'


def test_an_action_that_moto_fails_at_is_another_gap_than_a_missing_one(api: Rehearsal) -> None:
    before = len(api.gaps())
    with pytest.raises(ClientError, match='moto failed') as refused:
        # moto reads the group without checking that it exists.
        api.client('autoscaling').describe_load_balancer_target_groups(AutoScalingGroupName='unknown')
    assert refused.value.response['Error']['Code'] == 'InternalFailure'
    assert refused.value.response['ResponseMetadata']['HTTPStatusCode'] == 400
    assert api.gaps()[before:] == ["autoscaling:DescribeLoadBalancerTargetGroups: moto failed: KeyError('unknown')"]


def test_a_mistake_of_the_caller_is_no_gap(api: Rehearsal) -> None:
    before = len(api.gaps())
    with pytest.raises(ClientError, match='not found'):
        api.client('autoscaling').set_desired_capacity(AutoScalingGroupName='nobody', DesiredCapacity=1)
    assert len(api.gaps()) == before


def test_a_request_without_service_and_action_is_answered(api: Rehearsal) -> None:
    assert requests.get(f'{api.endpoint}/nothing/here', timeout=10).status_code < 500


def test_deleted_versions_of_a_launch_template_are_gone_and_their_numbers_are_not_used_again(api: Rehearsal) -> None:
    ec2, name = api.client('ec2'), unique()
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={'ImageId': 'ami-1'})
    for number in range(2, 19):
        ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData={'ImageId': f'ami-{number}'})
    answer = ec2.delete_launch_template_versions(LaunchTemplateName=name, Versions=['1', '2', '18', '99'])
    assert [each['VersionNumber'] for each in answer['SuccessfullyDeletedLaunchTemplateVersions']] == [2, 18]
    refused = {each['VersionNumber']: each['ResponseError']['Code']
               for each in answer['UnsuccessfullyDeletedLaunchTemplateVersions']}
    assert refused == {1: 'unexpectedError', 99: 'launchTemplateVersionDoesNotExist'}, '1 is the default version'
    made = ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData={'ImageId': 'ami-19'})
    assert made['LaunchTemplateVersion']['VersionNumber'] == 19
    versions = ec2.describe_launch_template_versions(LaunchTemplateName=name)['LaunchTemplateVersions']
    assert [each['VersionNumber'] for each in versions] == [1, *range(3, 18), 19]
    (third,) = ec2.describe_launch_template_versions(LaunchTemplateName=name, Versions=['3'])['LaunchTemplateVersions']
    assert third['LaunchTemplateData']['ImageId'] == 'ami-3'
    with pytest.raises(ClientError, match=r'InvalidLaunchTemplateId\.VersionNotFound'):
        ec2.describe_launch_template_versions(LaunchTemplateName=name, Versions=['2'])


def referring(api: Rehearsal, ami: str, **which: Any) -> list[tuple[str, str]]:
    """Return type and ARN of each resource that names an AMI."""
    answer = api.client('ec2').describe_image_references(ImageIds=[ami], **which)
    return [(each['ResourceType'], each['Arn']) for each in answer['ImageReferences']]


def test_instances_templates_and_parameters_of_its_type_refer_to_an_ami(api: Rehearsal) -> None:
    ec2, ssm = api.client('ec2'), api.client('ssm')
    ami = image(api, launch(api))['ImageId']
    assert not referring(api, ami, IncludeAllResourceTypes=True)
    instance = launch(api, ImageId=ami)
    made = ec2.create_launch_template(LaunchTemplateName=unique(), LaunchTemplateData={'ImageId': ami})
    template = made['LaunchTemplate']['LaunchTemplateId']
    names = [f'/{unique()}' for _ in range(2)]
    for name, kind in zip(names, ('aws:ec2:image', 'text')):
        ssm.put_parameter(Name=name, Value=ami, Type='String', DataType=kind)
    assert [(kind, arn.rpartition(':')[2]) for kind, arn in referring(api, ami, IncludeAllResourceTypes=True)] == [
        ('ec2:Instance', f'instance/{instance.name}'), ('ec2:LaunchTemplate', f'launch-template/{template}'),
        ('ssm:Parameter', f'parameter{names[0]}')]
    ssm.delete_parameters(Names=names)


def test_references_are_limited_by_state_depth_and_type(api: Rehearsal) -> None:
    ec2 = api.client('ec2')
    ami = image(api, launch(api))['ImageId']
    launch(api, ImageId=ami)
    name = unique()
    ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={'ImageId': ami})
    for _ in range(10):
        ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData={'ImageId': 'ami-1'})
    assert [kind for kind, _ in referring(api, ami, IncludeAllResourceTypes=True)] == ['ec2:Instance'], 'depth is 10'
    deep = [{'ResourceType': 'ec2:LaunchTemplate', 'ResourceTypeOptions': [
        {'OptionName': 'version-depth', 'OptionValues': ['11']}]}]
    assert [kind for kind, _ in referring(api, ami, ResourceTypes=deep)] == ['ec2:LaunchTemplate']
    stopped = [{'ResourceType': 'ec2:Instance', 'ResourceTypeOptions': [
        {'OptionName': 'state-name', 'OptionValues': ['stopped']}]}]
    assert not referring(api, ami, ResourceTypes=stopped)
    with pytest.raises(ClientError, match='MissingParameter'):
        referring(api, ami)
