"""The health of targets: the rules of one check after another, and the record that the API answers from."""

from collections.abc import Sequence
from typing import Any

from moto.elbv2.models import elbv2_backends
import pytest

from rehearsal.api.target_health import Failure, HEALTHY, INITIAL, NEW, receiving, step, target_state, UNHEALTHY
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.local_aws import launch

BAD = Failure('Target.ResponseCodeMismatch', 'Health checks failed with these codes: [503]')


def states_after(*passes: bool) -> Sequence[str]:
    """Return the states of a new target after each check, with thresholds of 2 passed and 3 failed."""
    health, states = NEW, []
    for passed in passes:
        health = step(health, None if passed else BAD, healthy_threshold=2, unhealthy_threshold=3)
        states.append(health.state)
    return states


def test_one_passed_check_is_enough_for_a_new_target() -> None:
    assert states_after(True) == [HEALTHY]
    assert states_after(False, True) == [INITIAL, HEALTHY]


def test_a_new_target_is_unhealthy_after_as_many_failures_in_a_row_as_the_threshold() -> None:
    assert states_after(False, False, False) == [INITIAL, INITIAL, UNHEALTHY]


def test_a_passed_check_ends_a_row_of_failures() -> None:
    assert states_after(True, False, False, True, False, False, False) == [*[HEALTHY] * 6, UNHEALTHY]


def test_an_unhealthy_target_needs_as_many_passed_checks_in_a_row_as_the_threshold() -> None:
    assert states_after(False, False, False, True, False, True, True) == [
        INITIAL, INITIAL, UNHEALTHY, UNHEALTHY, UNHEALTHY, UNHEALTHY, HEALTHY]


def test_an_unhealthy_target_has_the_reason_of_its_last_failure() -> None:
    health = NEW
    for failure in (BAD, BAD, Failure('Target.Timeout', 'Request timed out')):
        health = step(health, failure, 2, 3)
    assert (health.reason, health.description) == ('Target.Timeout', 'Request timed out')
    assert step(step(health, None, 2, 3), None, 2, 3).reason is None


@pytest.mark.parametrize(('states', 'expected'), [
    ({'a': 'healthy', 'b': 'unhealthy', 'c': 'initial', 'd': 'draining'}, {'a'}),
    ({'a': 'unhealthy', 'b': 'initial', 'c': 'draining', 'd': 'unused'}, {'a', 'b'}),
    ({'a': 'draining', 'b': 'unused'}, set()),
])
def test_healthy_targets_get_the_requests_and_all_registered_ones_if_none_is_healthy(
        states: dict[str, str], expected: set[str]) -> None:
    assert receiving(states) == expected


def make_target_group(aws: EmbeddedRehearsal, delay: int = 300) -> str:
    vpc = aws.client('ec2').describe_vpcs()['Vpcs'][0]['VpcId']
    elb = aws.client('elbv2')
    arn = elb.create_target_group(Name='page', Protocol='HTTP', Port=8000, VpcId=vpc)['TargetGroups'][0]
    elb.modify_target_group_attributes(TargetGroupArn=arn['TargetGroupArn'], Attributes=[
        {'Key': 'deregistration_delay.timeout_seconds', 'Value': str(delay)}])
    return str(arn['TargetGroupArn'])


def described(elb: Any, group: str, *targets: str) -> dict[str, str]:
    """Return the states of targets as the API describes them."""
    answer = elb.describe_target_health(TargetGroupArn=group, Targets=[{'Id': target} for target in targets])
    return {each['Target']['Id']: each['TargetHealth']['State'] for each in answer['TargetHealthDescriptions']}


def state(aws: EmbeddedRehearsal, group: str, target: str) -> str:
    """Return the state of a target as other parts of the rehearsal see it."""
    return target_state(elbv2_backends[aws.account][aws.region], group, target)


def test_without_machines_a_registered_target_is_healthy_while_it_runs(aws: EmbeddedRehearsal) -> None:
    elb, group, target = aws.client('elbv2'), make_target_group(aws), launch(aws)
    assert described(elb, group, target) == {target: 'unused'} and state(aws, group, target) == 'unused'
    elb.register_targets(TargetGroupArn=group, Targets=[{'Id': target}])
    assert described(elb, group) == {target: 'healthy'} and state(aws, group, target) == 'healthy'
    aws.client('ec2').stop_instances(InstanceIds=[target])
    assert described(elb, group) == {target: 'unused'} and state(aws, group, target) == 'unused'


@pytest.mark.parametrize('terminated', [False, True])
def test_a_target_drains_after_its_deregistration_and_after_its_termination(
        aws: EmbeddedRehearsal, terminated: bool) -> None:
    elb, group, target = aws.client('elbv2'), make_target_group(aws), launch(aws)
    elb.register_targets(TargetGroupArn=group, Targets=[{'Id': target}])
    if terminated:
        aws.client('ec2').terminate_instances(InstanceIds=[target])
    else:
        elb.deregister_targets(TargetGroupArn=group, Targets=[{'Id': target}])
    assert described(elb, group) == {target: 'draining'} and state(aws, group, target) == 'draining'


def test_a_drained_target_is_unused_and_no_longer_listed(aws: EmbeddedRehearsal) -> None:
    elb, group, target = aws.client('elbv2'), make_target_group(aws, delay=0), launch(aws)
    elb.register_targets(TargetGroupArn=group, Targets=[{'Id': target}])
    elb.deregister_targets(TargetGroupArn=group, Targets=[{'Id': target}])
    assert described(elb, group) == {}
    assert described(elb, group, target) == {target: 'unused'} and state(aws, group, target) == 'unused'


def test_a_draining_target_that_is_registered_again_drains_no_more(aws: EmbeddedRehearsal) -> None:
    elb, group, target = aws.client('elbv2'), make_target_group(aws), launch(aws)
    elb.register_targets(TargetGroupArn=group, Targets=[{'Id': target}])
    elb.deregister_targets(TargetGroupArn=group, Targets=[{'Id': target}])
    elb.register_targets(TargetGroupArn=group, Targets=[{'Id': target}])
    assert described(elb, group) == {target: 'healthy'}


def test_a_target_that_is_not_registered_can_be_deregistered(aws: EmbeddedRehearsal) -> None:
    elb, group, target = aws.client('elbv2'), make_target_group(aws), launch(aws)
    elb.deregister_targets(TargetGroupArn=group, Targets=[{'Id': target}])
    assert described(elb, group) == {}
