"""Attributes of an account and its resources, where a rehearsal answers otherwise than moto."""

import json
from typing import Any

from botocore.exceptions import ClientError
import pytest

from rehearsal.client import Rehearsal


def test_limits_of_public_sharing_are_kept_and_removed(api: Rehearsal) -> None:
    ec2 = api.client('ec2')
    assert ec2.get_image_block_public_access_state()['ImageBlockPublicAccessState'] == 'unblocked'
    ec2.enable_image_block_public_access(ImageBlockPublicAccessState='block-new-sharing')
    ec2.enable_snapshot_block_public_access(State='block-all-sharing')
    assert ec2.get_image_block_public_access_state()['ImageBlockPublicAccessState'] == 'block-new-sharing'
    assert ec2.get_snapshot_block_public_access_state()['State'] == 'block-all-sharing'
    ec2.disable_image_block_public_access()
    ec2.disable_snapshot_block_public_access()
    assert ec2.get_image_block_public_access_state()['ImageBlockPublicAccessState'] == 'unblocked'
    assert ec2.get_snapshot_block_public_access_state()['State'] == 'unblocked'


def test_metadata_defaults_are_kept_until_a_client_has_no_preference(api: Rehearsal) -> None:
    ec2 = api.client('ec2')
    ec2.modify_instance_metadata_defaults(HttpTokens='required', HttpPutResponseHopLimit=1)
    assert ec2.get_instance_metadata_defaults()['AccountLevel'] == {'HttpTokens': 'required',
                                                                    'HttpPutResponseHopLimit': 1}
    ec2.modify_instance_metadata_defaults(HttpTokens='no-preference', HttpPutResponseHopLimit=-1)
    assert ec2.get_instance_metadata_defaults()['AccountLevel'] == {}


def test_a_budget_shows_whom_it_warns_and_its_tags(api: Rehearsal) -> None:
    budgets, account = api.client('budgets'), '123456789012'
    warning = {'NotificationType': 'ACTUAL', 'ComparisonOperator': 'GREATER_THAN', 'Threshold': 80.0}
    people = [{'SubscriptionType': 'EMAIL', 'Address': 'costs@example.com'}]
    budget: dict[str, Any] = {'BudgetName': 'monthly', 'BudgetLimit': {'Amount': '10', 'Unit': 'USD'},
                              'TimeUnit': 'MONTHLY', 'BudgetType': 'COST'}
    budgets.create_budget(AccountId=account, Budget=budget, ResourceTags=[{'Key': 'Project', 'Value': 'visitors'}],
                          NotificationsWithSubscribers=[{'Notification': warning, 'Subscribers': people}])
    answer = budgets.describe_subscribers_for_notification(AccountId=account, BudgetName='monthly',
                                                           Notification=warning)
    assert answer['Subscribers'] == people
    arn = f'arn:aws:budgets::{account}:budget/monthly'
    budgets.tag_resource(ResourceARN=arn, ResourceTags=[{'Key': 'Owner', 'Value': 'ops'}])
    budgets.untag_resource(ResourceARN=arn, ResourceTagKeys=['Project'])
    assert budgets.list_tags_for_resource(ResourceARN=arn)['ResourceTags'] == [{'Key': 'Owner', 'Value': 'ops'}]
    assert api.gaps() == []


def test_a_bucket_that_refuses_requests_without_tls_answers_ours_and_a_bucket_that_refuses_all_does_not(
        api: Rehearsal) -> None:
    s3 = api.client('s3')
    s3.create_bucket(Bucket='tls-only')
    s3.put_object(Bucket='tls-only', Key='state', Body=b'1')
    denied: dict[str, Any] = {'Effect': 'Deny', 'Action': 's3:*', 'Principal': '*',
                              'Resource': 'arn:aws:s3:::tls-only/*'}
    without_tls = {**denied, 'Condition': {'Bool': {'aws:SecureTransport': 'false'}}}
    s3.put_bucket_policy(Bucket='tls-only', Policy=json.dumps({'Version': '2012-10-17', 'Statement': [without_tls]}))
    assert s3.get_object(Bucket='tls-only', Key='state')['Body'].read() == b'1'
    s3.put_bucket_policy(Bucket='tls-only', Policy=json.dumps({'Version': '2012-10-17', 'Statement': [denied]}))
    with pytest.raises(ClientError, match='Forbidden|AccessDenied'):
        s3.get_object(Bucket='tls-only', Key='state')


def test_a_database_shows_the_attributes_of_its_creation_and_an_id_of_its_own(api: Rehearsal) -> None:
    rds = api.client('rds')
    attributes: dict[str, Any] = {'EngineLifecycleSupport': 'open-source-rds-extended-support-disabled',
                                  'PerformanceInsightsRetentionPeriod': 7}
    databases = [rds.create_db_instance(DBInstanceIdentifier=name, DBInstanceClass='db.t4g.micro', Engine='postgres',
                                        EnablePerformanceInsights=True, **attributes)['DBInstance']
                 for name in ('one', 'two')]
    described = rds.describe_db_instances(DBInstanceIdentifier='one')['DBInstances'][0]
    assert {name: described[name] for name in attributes} == attributes
    assert described['PerformanceInsightsEnabled'] is True
    assert len({database['DbiResourceId'] for database in databases}) == 2


def test_a_parameter_that_a_client_sets_has_the_client_as_its_source(api: Rehearsal) -> None:
    rds = api.client('rds')
    rds.create_db_parameter_group(DBParameterGroupName='group', DBParameterGroupFamily='postgres17', Description='one')
    rds.modify_db_parameter_group(DBParameterGroupName='group', Parameters=[
        {'ParameterName': 'rds.force_ssl', 'ParameterValue': '1', 'ApplyMethod': 'immediate'}])
    (parameter,) = rds.describe_db_parameters(DBParameterGroupName='group')['Parameters']
    assert (parameter['ParameterName'], parameter['Source'], parameter['IsModifiable']) == ('rds.force_ssl', 'user',
                                                                                            True)


def test_a_subnet_shows_its_ipv6_block_and_is_found_by_it(api: Rehearsal) -> None:
    ec2 = api.client('ec2')
    vpc = ec2.create_vpc(CidrBlock='10.1.0.0/16', AmazonProvidedIpv6CidrBlock=True)['Vpc']['VpcId']
    (association,) = ec2.describe_vpcs(VpcIds=[vpc])['Vpcs'][0]['Ipv6CidrBlockAssociationSet']
    block = association['Ipv6CidrBlock'].replace('/56', '/64')
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock='10.1.0.0/24', Ipv6CidrBlock=block)['Subnet']['SubnetId']
    (described,) = ec2.describe_subnets(Filters=[
        {'Name': 'ipv6-cidr-block-association.ipv6-cidr-block', 'Values': [block]}])['Subnets']
    assert described['SubnetId'] == subnet
    (shown,) = described['Ipv6CidrBlockAssociationSet']
    assert (shown['Ipv6CidrBlock'], shown['Ipv6CidrBlockState']['State']) == (block, 'associated')


def test_a_rule_shows_its_description_also_where_it_refers_to_a_group(api: Rehearsal) -> None:
    ec2 = api.client('ec2')
    group = ec2.create_security_group(GroupName='described', Description='rules')['GroupId']
    for port, source in ((1, {'IpRanges': [{'CidrIp': '10.0.0.0/8', 'Description': 'a block'}]}),
                         (2, {'UserIdGroupPairs': [{'GroupId': group, 'Description': 'a group'}]})):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[
            {'IpProtocol': 'tcp', 'FromPort': port, 'ToPort': port, **source}])
    rules = ec2.describe_security_group_rules(Filters=[{'Name': 'group-id', 'Values': [group]}])['SecurityGroupRules']
    assert {rule['FromPort']: rule['Description'] for rule in rules if not rule['IsEgress']} == {1: 'a block',
                                                                                                 2: 'a group'}
