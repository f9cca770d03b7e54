"""The uses of an AMI: all that runs or starts it, wherever AWS lets it be named, and every unclear description."""

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given, strategies as st
import pytest

from release.aws import Aws
from release.errors import AwsFailed
from release.uses import Reading, Use, uses
from tests.support.account import Account, REGION

AMI, OTHER = 'ami-0123456789abcdef0', 'ami-0fedcba9876543210'
SIZE = {'MinSize': 0, 'MaxSize': 0, 'DesiredCapacity': 0, 'AvailabilityZones': [f'{REGION}a']}


@pytest.fixture
def aws(account: Account, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """Give the calls to the account of the test."""
    for name, value in account.environment.items():
        monkeypatch.setenv(name, value)
    return Aws({}, REGION, sleep=lambda seconds: None)


def template(account: Account, ami: str, name: str = 'template') -> str:
    """Return the id of a new launch template whose first version has an AMI, or none if the id is empty."""
    data = {'InstanceType': 't3.small', **({'ImageId': ami} if ami else {})}
    made = account.client('ec2').create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    return str(made['LaunchTemplate']['LaunchTemplateId'])


def version(account: Account, template: str, ami: str, *, default: bool = False) -> None:
    """Add a version to a template."""
    ec2 = account.client('ec2')
    made = ec2.create_launch_template_version(LaunchTemplateId=template, LaunchTemplateData={'ImageId': ami})
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


def in_old_version(account: Account, ami: str) -> str:
    """Return a template with an AMI in its first version, but not in its default or latest one."""
    made = template(account, ami)
    version(account, made, OTHER, default=True)
    version(account, made, OTHER)
    return made


def by_group(account: Account) -> str:
    group(account, LaunchTemplate={'LaunchTemplateId': in_old_version(account, AMI), 'Version': '1'})
    return 'the Auto Scaling group group'


def by_name_of_a_template(account: Account) -> str:
    in_old_version(account, AMI)
    group(account, LaunchTemplate={'LaunchTemplateName': 'template', 'Version': '1'})
    return 'the Auto Scaling group group'


def by_mixed_policy(account: Account) -> str:
    policy = mixed(account, in_old_version(account, AMI), [{'InstanceType': 't3.small'}])
    group(account, MixedInstancesPolicy=policy)
    return 'the Auto Scaling group group'


def by_override_with_a_template(account: Account) -> str:
    other = {'LaunchTemplateId': in_old_version(account, AMI), 'Version': '1'}
    group(account, MixedInstancesPolicy=mixed(account, template(account, OTHER, 'base'), [
        {'InstanceType': 't3.small'}, {'InstanceType': 't3.large', 'LaunchTemplateSpecification': other}]))
    return 'the Auto Scaling group group'


def by_override_with_an_ami(account: Account) -> str:
    group(account, MixedInstancesPolicy=mixed(account, template(account, OTHER), [
        {'InstanceType': 't3.small', 'ImageId': AMI}]))
    return 'the Auto Scaling group group'


def by_launch_configuration(account: Account) -> str:
    account.client('autoscaling').create_launch_configuration(LaunchConfigurationName='old', ImageId=AMI,
                                                              InstanceType='t3.small')
    group(account, LaunchConfigurationName='old')
    return 'the Auto Scaling group group'


def by_unused_launch_configuration(account: Account) -> str:
    account.client('autoscaling').create_launch_configuration(LaunchConfigurationName='old', ImageId=AMI,
                                                              InstanceType='t3.small')
    return 'the launch configuration old'


def by_alias(account: Account) -> str:
    account.client('ssm').put_parameter(Name='/visitors/ami', Value=AMI, Type='String')
    group(account, LaunchTemplate={'LaunchTemplateId': in_old_version(account, 'resolve:ssm:/visitors/ami'),
                                   'Version': '1'})
    return 'the Auto Scaling group group'


def by_latest_version(account: Account) -> str:
    version(account, template(account, OTHER), AMI)
    return 'version 2 of the launch template template'


def by_default_version(account: Account) -> str:
    version(account, template(account, AMI), OTHER)
    return 'version 1 of the launch template template'


def by_refresh(account: Account) -> str:
    group(account, LaunchTemplate={'LaunchTemplateId': template(account, OTHER, 'other'), 'Version': '1'})
    desired = {'LaunchTemplate': {'LaunchTemplateId': in_old_version(account, AMI), 'Version': '1'}}
    account.refresh('group', 'InProgress', desired)
    return 'the instance refresh of the Auto Scaling group group'


def by_fleet(account: Account) -> str:
    account.client('ec2').create_fleet(
        Type='maintain', TargetCapacitySpecification={'TotalTargetCapacity': 0, 'DefaultTargetCapacityType': 'spot'},
        LaunchTemplateConfigs=[{'LaunchTemplateSpecification': {'LaunchTemplateId': in_old_version(account, AMI),
                                                                'Version': '1'}}])
    return 'the EC2 Fleet fleet-'


USERS = (by_group, by_name_of_a_template, by_mixed_policy, by_override_with_a_template, by_override_with_an_ami,
         by_launch_configuration, by_unused_launch_configuration, by_alias, by_latest_version, by_default_version,
         by_refresh, by_fleet)


@pytest.mark.parametrize('make', USERS)
def test_each_way_to_start_an_ami_is_a_use_at_capacity_0(account: Account, aws: Aws,
                                                         make: Callable[[Account], str]) -> None:
    user = make(account)
    assert any(use.user.startswith(user) and not use.doubt for use in uses(aws, [AMI])), uses(aws, [AMI])
    assert not uses(aws, ['ami-00000000000000000']), 'and of no other AMI'


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


def doubt_about_a_template_without_ami(account: Account) -> str:
    group(account, LaunchTemplate={'LaunchTemplateId': template(account, ''), 'Version': '1'})
    return 'its description names no AMI'


@pytest.mark.parametrize('make', [doubt_about_an_alias, doubt_about_an_alias_in_an_override,
                                  doubt_about_a_deleted_template, doubt_about_a_template_without_ami])
def test_an_unclear_description_is_a_use_of_every_ami(account: Account, aws: Aws,
                                                      make: Callable[[Account], str]) -> None:
    says = make(account)
    for ami in (AMI, 'ami-00000000000000000'):
        assert any(says in str(use) and 'may start any AMI' in str(use) for use in uses(aws, [ami]))


def test_a_finished_refresh_is_no_use(account: Account, aws: Aws) -> None:
    by_refresh(account)
    account.refresh('group', 'Successful', {'LaunchTemplate': {'LaunchTemplateName': 'template', 'Version': '1'}})
    assert not uses(aws, [AMI])


def test_a_region_whose_groups_cannot_be_listed_does_not_count_as_unused(account: Account, aws: Aws) -> None:
    account.refuse('DescribeAutoScalingGroups', times=1, status=400, code='ValidationError')
    with pytest.raises(AwsFailed):
        uses(aws, [AMI])


WORDS = st.text(st.characters(codec='ascii', exclude_characters='-'), max_size=8)


def wrapped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return forms that AWS may invent: the value is anywhere among others."""
    def beside(value: Any) -> Iterator[st.SearchStrategy[Any]]:
        yield st.lists(WORDS, max_size=2).map(lambda others: [*others, value])
        yield st.dictionaries(WORDS, WORDS, max_size=2).map(lambda others: {**others, 'Named': value})
    return inner.flatmap(lambda value: st.one_of(list(beside(value))))


@given(st.recursive(st.just(AMI), wrapped, max_leaves=6))
def test_an_ami_is_found_wherever_a_description_names_it(description: Any) -> None:
    assert AMI in Reading().read(description).amis


@given(st.recursive(st.just({'LaunchTemplateId': 'lt-1', 'Version': '7'}), wrapped, max_leaves=6))
def test_a_template_is_found_wherever_a_description_names_it(description: Any) -> None:
    assert Reading().read(description).templates == {('lt-1', '7')}


def test_an_ami_in_a_name_or_a_tag_is_no_use() -> None:
    reading = Reading().read({'Name': f'of-{AMI}', 'Tags': [{'Key': 'Image', 'Value': AMI}]})
    assert not reading.amis


def test_a_use_names_the_user_and_the_ami() -> None:
    assert str(Use('the instance i-1', AMI, runs=True)) == f'the instance i-1 runs {AMI}'
    assert str(Use('the group g', AMI)) == f'the group g starts {AMI}'
