"""Whatever starts an image is a use of it, wherever AWS lets it be named; what is not understood is one, too."""

from collections.abc import Callable, Iterator
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
import pytest

from release.aws import Aws
from release.errors import AwsFailed
from release.uses import Reading, Use, uses
from tests.support.account import Account, REGION

IMAGE, OTHER = 'ami-0123456789abcdef0', 'ami-0fedcba9876543210'
SIZE = {'MinSize': 0, 'MaxSize': 0, 'DesiredCapacity': 0, 'AvailabilityZones': [f'{REGION}a']}


@pytest.fixture
def aws(account: Account, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """Give the seam to the account of the test."""
    for name, value in account.environment.items():
        monkeypatch.setenv(name, value)
    return Aws({}, REGION, sleep=lambda seconds: None)


def template(account: Account, image: str, name: str = 'template') -> str:
    """Return the id of a new launch template whose first version has an image; nothing of it, if that is empty."""
    data = {'InstanceType': 't3.small', **({'ImageId': image} if image else {})}
    made = account.client('ec2').create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    return str(made['LaunchTemplate']['LaunchTemplateId'])


def version(account: Account, template: str, image: str, *, default: bool = False) -> None:
    """Add a version to a template."""
    ec2 = account.client('ec2')
    made = ec2.create_launch_template_version(LaunchTemplateId=template, LaunchTemplateData={'ImageId': image})
    if default:
        number = made['LaunchTemplateVersion']['VersionNumber']
        ec2.modify_launch_template(LaunchTemplateId=template, DefaultVersion=str(number))


def group(account: Account, **what: Any) -> None:
    """Make a group of capacity 0."""
    account.client('autoscaling').create_auto_scaling_group(AutoScalingGroupName='group', **SIZE, **what)


def mixed(account: Account, base: str, overrides: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a mixed instances policy."""
    return {'LaunchTemplate': {'LaunchTemplateSpecification': {'LaunchTemplateId': base, 'Version': '1'},
                               'Overrides': overrides}}


def in_old_version(account: Account, image: str) -> str:
    """Return a template whose first version has an image, and neither its default nor its latest."""
    made = template(account, image)
    version(account, made, OTHER, default=True)
    version(account, made, OTHER)
    return made


def by_group(account: Account) -> str:
    group(account, LaunchTemplate={'LaunchTemplateId': in_old_version(account, IMAGE), 'Version': '1'})
    return 'the Auto Scaling group group'


def by_name_of_a_template(account: Account) -> str:
    in_old_version(account, IMAGE)
    group(account, LaunchTemplate={'LaunchTemplateName': 'template', 'Version': '1'})
    return 'the Auto Scaling group group'


def by_mixed_policy(account: Account) -> str:
    policy = mixed(account, in_old_version(account, IMAGE), [{'InstanceType': 't3.small'}])
    group(account, MixedInstancesPolicy=policy)
    return 'the Auto Scaling group group'


def by_override_with_a_template(account: Account) -> str:
    other = {'LaunchTemplateId': in_old_version(account, IMAGE), 'Version': '1'}
    group(account, MixedInstancesPolicy=mixed(account, template(account, OTHER, 'base'), [
        {'InstanceType': 't3.small'}, {'InstanceType': 't3.large', 'LaunchTemplateSpecification': other}]))
    return 'the Auto Scaling group group'


def by_override_with_an_image(account: Account) -> str:
    group(account, MixedInstancesPolicy=mixed(account, template(account, OTHER), [
        {'InstanceType': 't3.small', 'ImageId': IMAGE}]))
    return 'the Auto Scaling group group'


def by_launch_configuration(account: Account) -> str:
    account.client('autoscaling').create_launch_configuration(LaunchConfigurationName='old', ImageId=IMAGE,
                                                              InstanceType='t3.small')
    group(account, LaunchConfigurationName='old')
    return 'the Auto Scaling group group'


def by_unused_launch_configuration(account: Account) -> str:
    account.client('autoscaling').create_launch_configuration(LaunchConfigurationName='old', ImageId=IMAGE,
                                                              InstanceType='t3.small')
    return 'the launch configuration old'


def by_alias(account: Account) -> str:
    account.client('ssm').put_parameter(Name='/visitors/ami', Value=IMAGE, Type='String')
    group(account, LaunchTemplate={'LaunchTemplateId': in_old_version(account, 'resolve:ssm:/visitors/ami'),
                                   'Version': '1'})
    return 'the Auto Scaling group group'


def by_latest_version(account: Account) -> str:
    version(account, template(account, OTHER), IMAGE)
    return 'version 2 of the launch template template'


def by_default_version(account: Account) -> str:
    version(account, template(account, IMAGE), OTHER)
    return 'version 1 of the launch template template'


def by_refresh(account: Account) -> str:
    group(account, LaunchTemplate={'LaunchTemplateId': template(account, OTHER, 'other'), 'Version': '1'})
    wanted = {'LaunchTemplate': {'LaunchTemplateId': in_old_version(account, IMAGE), 'Version': '1'}}
    account.say('refreshes', json.dumps({'group': [{'InstanceRefreshId': 'r', 'Status': 'InProgress',
                                                    'DesiredConfiguration': wanted}]}))
    return 'the instance refresh of the Auto Scaling group group'


def by_fleet(account: Account) -> str:
    account.client('ec2').create_fleet(
        Type='maintain', TargetCapacitySpecification={'TotalTargetCapacity': 0, 'DefaultTargetCapacityType': 'spot'},
        LaunchTemplateConfigs=[{'LaunchTemplateSpecification': {'LaunchTemplateId': in_old_version(account, IMAGE),
                                                                'Version': '1'}}])
    return 'the EC2 Fleet fleet-'


USERS = (by_group, by_name_of_a_template, by_mixed_policy, by_override_with_a_template, by_override_with_an_image,
         by_launch_configuration, by_unused_launch_configuration, by_alias, by_latest_version, by_default_version,
         by_refresh, by_fleet)


@pytest.mark.parametrize('make', USERS)
def test_each_way_to_start_an_image_is_a_use_at_capacity_0(account: Account, aws: Aws,
                                                           make: Callable[[Account], str]) -> None:
    user = make(account)
    assert any(use.user.startswith(user) and not use.doubt for use in uses(aws, [IMAGE])), uses(aws, [IMAGE])
    assert not uses(aws, ['ami-00000000000000000']), 'and of no other image'


def doubt_about_an_alias(account: Account) -> str:
    template(account, 'resolve:ssm:/no/such/parameter')
    return 'resolve:ssm:/no/such/parameter is not resolved'


def doubt_about_an_alias_in_an_override(account: Account) -> str:
    group(account, MixedInstancesPolicy=mixed(account, template(account, OTHER), [
        {'InstanceType': 't3.small', 'ImageId': 'resolve:ssm:/a'}]))
    return 'resolve:ssm:/a is not resolved'


def doubt_about_a_deleted_template(account: Account) -> str:
    made = template(account, OTHER)
    group(account, LaunchTemplate={'LaunchTemplateId': made, 'Version': '1'})
    account.client('ec2').delete_launch_template(LaunchTemplateId=made)
    return 'is unreadable'


def doubt_about_a_template_without_image(account: Account) -> str:
    group(account, LaunchTemplate={'LaunchTemplateId': template(account, ''), 'Version': '1'})
    return 'its description names no AMI'


@pytest.mark.parametrize('make', [doubt_about_an_alias, doubt_about_an_alias_in_an_override,
                                  doubt_about_a_deleted_template, doubt_about_a_template_without_image])
def test_what_is_not_understood_is_a_use_of_every_image(account: Account, aws: Aws,
                                                        make: Callable[[Account], str]) -> None:
    says = make(account)
    for image in (IMAGE, 'ami-00000000000000000'):
        assert any(says in str(use) and 'may start any AMI' in str(use) for use in uses(aws, [image]))


def test_what_has_ended_is_no_use(account: Account, aws: Aws) -> None:
    by_refresh(account)
    said = account.folder / 'refreshes'
    said.write_text(said.read_text(encoding='utf-8').replace('InProgress', 'Successful'), encoding='utf-8')
    assert not uses(aws, [IMAGE])


def test_a_region_whose_groups_cannot_be_listed_is_no_region_without_uses(account: Account, aws: Aws) -> None:
    account.refuse(1, 'DescribeAutoScalingGroups', status=400, code='ValidationError')
    with pytest.raises(AwsFailed):
        uses(aws, [IMAGE])


WORDS = st.text(st.characters(codec='ascii', exclude_characters='-'), max_size=8)


def wrapped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return forms that AWS may invent: what is named lies somewhere among other things."""
    def beside(value: Any) -> Iterator[st.SearchStrategy[Any]]:
        yield st.lists(WORDS, max_size=2).map(lambda others: [*others, value])
        yield st.dictionaries(WORDS, WORDS, max_size=2).map(lambda others: {**others, 'Named': value})
    return inner.flatmap(lambda value: st.one_of(list(beside(value))))


@given(st.recursive(st.just(IMAGE), wrapped, max_leaves=6))
def test_an_image_is_found_wherever_a_description_names_it(description: Any) -> None:
    assert IMAGE in Reading().read(description).amis


@given(st.recursive(st.just({'LaunchTemplateId': 'lt-1', 'Version': '7'}), wrapped, max_leaves=6))
def test_a_template_is_found_wherever_a_description_names_it(description: Any) -> None:
    assert Reading().read(description).templates == {('lt-1', '7')}


def test_an_image_in_a_name_or_in_a_tag_is_none_that_is_started() -> None:
    found = Reading().read({'Name': f'of-{IMAGE}', 'Tags': [{'Key': 'Image', 'Value': IMAGE}]})
    assert not found.amis


def test_a_use_says_who_and_what() -> None:
    assert str(Use('the instance i-1', IMAGE, runs=True)) == f'the instance i-1 runs {IMAGE}'
    assert str(Use('the group g', IMAGE)) == f'the group g starts {IMAGE}'
