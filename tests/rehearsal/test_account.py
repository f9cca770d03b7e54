"""Defaults of the account, budgets and bucket policies, where a rehearsal answers otherwise than moto."""

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
