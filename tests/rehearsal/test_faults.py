"""Faults: calls that the API refuses, loses, delays, throttles or answers otherwise."""

from concurrent.futures import ThreadPoolExecutor
import time
from typing import Any

from botocore.exceptions import ClientError
import pytest
import requests

from rehearsal.client import Rehearsal
from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.faults import Fault
from tests.support.waiting import eventually

SERVICES: list[tuple[str, str]] = [
    ('ec2', 'describe_instances'), ('autoscaling', 'describe_auto_scaling_groups'), ('ssm', 'describe_parameters'),
    ('s3', 'list_buckets'), ('route53', 'list_hosted_zones'), ('cloudwatch', 'list_metrics'),
    ('elbv2', 'describe_load_balancers'), ('iam', 'list_roles')]


@pytest.mark.parametrize(('service', 'action'), SERVICES)
def test_a_refusal_is_the_error_that_a_service_s_own_library_raises(aws: EmbeddedRehearsal, service: str,
                                                                    action: str) -> None:
    aws.faults.refuse(times=1, code='Refused', message='less < more', status=418)
    with pytest.raises(ClientError) as refused:
        getattr(aws.client(service), action)()
    response = refused.value.response
    assert (response['Error']['Code'], response['Error']['Message']) == ('Refused', 'less < more')
    assert response['ResponseMetadata']['HTTPStatusCode'] == 418
    assert len(aws.faults.refused) == 1
    getattr(aws.client(service), action)()


def test_a_fault_counts_each_operation_by_itself(aws: EmbeddedRehearsal) -> None:
    ssm = aws.client('ssm')
    aws.faults.refuse(times=1)
    for _ in range(2):
        for act in (ssm.describe_parameters, ssm.list_documents):
            try:
                act()
            except ClientError:
                pass
    assert aws.faults.refused == ['ssm:DescribeParameters', 'ssm:ListDocuments']


@pytest.mark.parametrize(('pattern', 'is_hit'), [
    ('DescribeParameters', True), ('ssm:DescribeParameters', True), ('ssm:*', True), ('Describe*', True),
    ('ec2:*', False), ('Describe', False)])
def test_a_pattern_hits_an_operation_with_or_without_its_service(aws: EmbeddedRehearsal, pattern: str,
                                                                 is_hit: bool) -> None:
    aws.faults.refuse(pattern)
    try:
        aws.client('ssm').describe_parameters()
    except ClientError:
        assert is_hit
    else:
        assert not is_hit


def test_only_the_calls_that_a_condition_names_are_refused(aws: EmbeddedRehearsal) -> None:
    ssm = aws.client('ssm')
    aws.faults.refuse('PutParameter', when=lambda call: call.parameters['Value'] == 'bad')
    ssm.put_parameter(Name='a', Value='good', Type='String')
    with pytest.raises(ClientError, match='ServiceUnavailable'):
        ssm.put_parameter(Name='b', Value='bad', Type='String')
    assert [each['Name'] for each in ssm.describe_parameters()['Parameters']] == ['a']


def test_a_lost_answer_is_one_to_a_call_that_was_performed(aws: EmbeddedRehearsal) -> None:
    ssm = aws.client('ssm')
    aws.faults.lose('PutParameter', times=1, code='InternalServerError', status=500)
    with pytest.raises(ClientError, match='InternalServerError'):
        ssm.put_parameter(Name='a', Value='1', Type='String')
    assert ssm.get_parameter(Name='a')['Parameter']['Value'] == '1'


def test_a_stalled_call_is_performed_after_its_seconds_and_clearing_ends_the_wait(aws: EmbeddedRehearsal) -> None:
    ssm = aws.client('ssm')
    aws.faults.stall('DescribeParameters', seconds=0.4, times=1)
    began = time.monotonic()
    ssm.describe_parameters()
    assert time.monotonic() - began >= 0.4
    aws.faults.stall('DescribeParameters', seconds=600)
    with ThreadPoolExecutor(1) as thread:
        stalled = thread.submit(ssm.describe_parameters)
        eventually(lambda: aws.faults.calls[-1].operation == 'DescribeParameters', 'the call has come')
        aws.faults.clear()
        stalled.result(30)


@pytest.mark.parametrize(('service', 'action', 'code'), [
    ('ec2', 'describe_instances', 'RequestLimitExceeded'), ('autoscaling', 'describe_tags', 'Throttling'),
    ('ssm', 'describe_parameters', 'ThrottlingException')])
def test_calls_beyond_a_limit_get_the_code_of_their_service(aws: EmbeddedRehearsal, service: str, action: str,
                                                            code: str) -> None:
    client = aws.client(service)
    aws.faults.throttle(f'{service}:*', per_second=0.01)
    getattr(client, action)()
    with pytest.raises(ClientError, match=code):
        getattr(client, action)()


@pytest.mark.parametrize(('service', 'action', 'options', 'result'), [
    ('autoscaling', 'describe_instance_refreshes', {'AutoScalingGroupName': 'g'},
     {'InstanceRefreshes': [{'InstanceRefreshId': 'r', 'Status': 'InProgress'}]}),
    ('ssm', 'get_parameter', {'Name': 'a'}, {'Parameter': {'Name': 'a', 'Value': 'b'}}),
    ('ec2', 'get_console_output', {'InstanceId': 'i-1'}, {'InstanceId': 'i-1'}),
    ('elbv2', 'describe_target_health', {'TargetGroupArn': 'a'},
     {'TargetHealthDescriptions': [{'Target': {'Id': 'i-1'}, 'TargetHealth': {'State': 'draining'}}]})])
def test_an_answer_has_the_form_of_its_service(aws: EmbeddedRehearsal, service: str, action: str,
                                               options: dict[str, str], result: dict[str, Any]) -> None:
    aws.faults.answer('*', result=result)
    answer = getattr(aws.client(service), action)(**options)
    del answer['ResponseMetadata']
    assert answer == result


def test_a_watcher_sees_a_call_before_it_is_performed(aws: EmbeddedRehearsal) -> None:
    ssm, seen = aws.client('ssm'), []
    aws.faults.watch('PutParameter', act=lambda call: seen.append(
        (call.parameters['Name'], len(aws.faults.calls))))
    ssm.put_parameter(Name='a', Value='1', Type='String')
    assert seen == [('a', 1)]


def test_the_newest_fault_decides_and_calls_are_listed_in_order(aws: EmbeddedRehearsal) -> None:
    ec2 = aws.client('ec2')
    aws.faults.refuse('DescribeInstances', code='Older')
    aws.faults.refuse('DescribeInstances', code='Newer', times=1)
    for code in ('Newer', 'Older'):
        with pytest.raises(ClientError, match=code):
            ec2.describe_instances()
    ec2.create_tags(Resources=[aws.source_ami], Tags=[{'Key': 'a b', 'Value': 'c'}])
    assert [call.operation for call in aws.faults.calls] == ['DescribeInstances', 'DescribeInstances', 'CreateTags']
    assert aws.faults.calls[-1].parameters['Tag.1.Key'] == 'a b'


def test_a_fault_with_an_unknown_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="effect 'explode': take one of refuse, lose"):
        Fault('explode')


def test_faults_of_a_rehearsal_in_another_process_are_set_and_cleared(api: Rehearsal) -> None:
    ssm = api.client('ssm')
    api.fault('refuse', 'DescribeParameters', code='Refused')
    with pytest.raises(ClientError, match='Refused'):
        ssm.describe_parameters()
    assert api.calls()[-1] == {'service': 'ssm', 'operation': 'DescribeParameters', 'text': '{}'}
    refused = requests.get(f'{api.endpoint}/rehearsal/faults', timeout=10).json()['refused']
    assert refused == ['ssm:DescribeParameters']
    api.clear_faults()
    ssm.describe_parameters()
    wrong = requests.put(f'{api.endpoint}/rehearsal/faults', json=[{'effect': 'explode'}], timeout=10)
    assert (wrong.status_code, wrong.text) == (400, "effect 'explode': take one of "
                                                    'refuse, lose, stall, throttle, answer, watch\n')
