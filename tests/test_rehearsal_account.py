"""Defaults of the account and budgets, which a rehearsal adds to moto."""

from typing import Any

from rehearsal.cloud import Rehearsal


def test_what_may_be_shared_with_the_public_is_kept_and_taken_back(api: Rehearsal) -> None:
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
    shown = budgets.describe_subscribers_for_notification(AccountId=account, BudgetName='monthly',
                                                          Notification=warning)
    assert shown['Subscribers'] == people
    arn = f'arn:aws:budgets::{account}:budget/monthly'
    budgets.tag_resource(ResourceARN=arn, ResourceTags=[{'Key': 'Owner', 'Value': 'ops'}])
    budgets.untag_resource(ResourceARN=arn, ResourceTagKeys=['Project'])
    assert budgets.list_tags_for_resource(ResourceARN=arn)['ResourceTags'] == [{'Key': 'Owner', 'Value': 'ops'}]
    assert api.gaps() == []
