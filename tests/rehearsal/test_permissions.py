"""IAM decides: a call that the caller's policies do not allow is refused in AWS's words."""

from base64 import urlsafe_b64encode
import json
from typing import Any

from botocore.exceptions import ClientError
from moto.sts.models import sts_backends
import pytest

from rehearsal.api.permissions.conditions import holds, UnsupportedCondition
from rehearsal.api.permissions.policies import decide, Outcome, Policies, Policy, Question
from rehearsal.api.permissions.principals import instance_key
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.local_aws import launch

ACCOUNT = '123456789012'
TRUST = {'Version': '2012-10-17', 'Statement': [
    {'Effect': 'Allow', 'Action': 'sts:AssumeRole', 'Principal': {'AWS': f'arn:aws:iam::{ACCOUNT}:root'}}]}
ISSUER = 'gitlab.example.com'
SUBJECT = 'project_path:group/visitors:ref_type:branch:ref:main'
INVALID = 'not-a-token'


def allow(*actions: str, resource: str = '*', **parts: Any) -> dict[str, Any]:
    return {'Effect': 'Allow', 'Action': list(actions), 'Resource': resource, **parts}


def deny(*actions: str, resource: str = '*', **parts: Any) -> dict[str, Any]:
    return {**allow(*actions, resource=resource, **parts), 'Effect': 'Deny'}


def policy(*statements: dict[str, Any]) -> Policy:
    return Policy('own', {'Version': '2012-10-17', 'Statement': list(statements)})


def outcome(*statements: dict[str, Any], action: str = 'ssm:GetParameter', resource: str = '*',
            **context: str) -> Outcome:
    """Return the outcome of an identity's policy of these statements."""
    values = {key.lower(): (value,) for key, value in context.items()}
    return decide(Policies((policy(*statements),)), Question(action, resource, values)).outcome


# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
@pytest.mark.parametrize(('statements', 'expected'), [
    ([], Outcome.NOT_ALLOWED),
    ([allow('ssm:GetParameter')], Outcome.ALLOWED),
    ([allow('SSM:getparameter')], Outcome.ALLOWED),
    ([allow('ssm:Get*')], Outcome.ALLOWED),
    ([allow('ssm:GetParameter?')], Outcome.NOT_ALLOWED),
    ([allow('ssm:Put*', 'ssm:GetParameter')], Outcome.ALLOWED),
    ([allow('*'), deny('ssm:GetParameter')], Outcome.DENIED),
    ([deny('ssm:Put*'), allow('*')], Outcome.ALLOWED),
    ([{'Effect': 'Allow', 'NotAction': 'ssm:Put*', 'Resource': '*'}], Outcome.ALLOWED),
    ([{'Effect': 'Allow', 'NotAction': ['ssm:*'], 'Resource': '*'}], Outcome.NOT_ALLOWED),
    ([allow('*'), {'Effect': 'Deny', 'NotAction': 's3:*', 'Resource': '*'}], Outcome.DENIED)])
def test_an_allowing_statement_is_needed_and_a_denial_wins(statements: list[Any], expected: Outcome) -> None:
    assert outcome(*statements) is expected


@pytest.mark.parametrize(('pattern', 'expected'), [
    ('arn:aws:ssm:*:123456789012:parameter/visitors/*', Outcome.ALLOWED),
    ('arn:aws:ssm:us-east-1:123456789012:parameter/visitors/?', Outcome.ALLOWED),
    ('arn:aws:ssm:us-east-1:123456789012:parameter/Visitors/*', Outcome.NOT_ALLOWED),
    ('arn:aws:ssm:us-east-1:123456789012:parameter/visitors', Outcome.NOT_ALLOWED),
    ('*', Outcome.ALLOWED)])
def test_a_statement_is_about_the_resources_that_its_pattern_matches(pattern: str, expected: Outcome) -> None:
    resource = 'arn:aws:ssm:us-east-1:123456789012:parameter/visitors/a'
    assert outcome(allow('ssm:GetParameter', resource=pattern), resource=resource) is expected
    without = {'Effect': 'Allow', 'Action': '*', 'NotResource': pattern}
    opposite = {Outcome.ALLOWED: Outcome.NOT_ALLOWED, Outcome.NOT_ALLOWED: Outcome.ALLOWED}[expected]
    assert outcome(without, resource=resource) is opposite


def test_a_boundary_and_a_session_policy_limit_and_allow_nothing() -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html
    everything, nothing, reads = policy(allow('*')), policy(), policy(allow('ssm:Get*'))
    for name in ('boundary', 'session'):
        def result(identity: Policy, limit: Policy, action: str = 'ssm:GetParameter', name: str = name) -> Outcome:
            return decide(Policies((identity,), **{name: limit}), Question(action)).outcome

        assert result(everything, reads) is Outcome.ALLOWED
        assert result(everything, reads, 'ssm:PutParameter') is Outcome.NOT_ALLOWED
        assert result(nothing, everything) is Outcome.NOT_ALLOWED
        assert result(everything, policy(allow('*'), deny('ssm:*'))) is Outcome.DENIED


def test_a_decision_names_the_policy_and_the_statement_that_decided() -> None:
    decision = decide(Policies((policy(allow('s3:*', Sid='Objects'), deny('ssm:*', Sid='NoParameters')),)),
                      Question('ssm:GetParameter'))
    assert (decision.outcome, decision.policy, decision.statement) == (Outcome.DENIED, 'own', 'NoParameters')


# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
@pytest.mark.parametrize(('operator', 'expected', 'actual', 'holds_'), [
    ('StringEquals', 'a', ('a',), True), ('StringEquals', 'a', ('A',), False), ('StringEquals', 'a', None, False),
    ('StringEquals', ['a', 'b'], ('b',), True), ('StringEqualsIgnoreCase', 'a', ('A',), True),
    ('StringNotEquals', 'a', ('b',), True), ('StringNotEquals', ['a', 'b'], ('b',), False),
    ('StringNotEquals', 'a', None, True), ('StringLike', 'a*', ('abc',), True), ('StringLike', '?*', ('',), False),
    ('StringNotLike', 'a*', ('abc',), False), ('StringEqualsIfExists', 'a', None, True),
    ('StringEqualsIfExists', 'a', ('b',), False), ('Null', 'true', None, True), ('Null', 'true', ('a',), False),
    ('Null', 'false', ('a',), True), ('Bool', False, ('false',), True), ('Bool', 'true', ('false',), False),
    ('ArnLike', 'arn:aws:ec2:*:1:vpc/*', ('arn:aws:ec2:x:1:vpc/v',), True),
    ('ArnLike', 'arn:aws:ec2:*:vpc/*', ('arn:aws:ec2:x:1:vpc/v',), False),
    ('ArnNotLike', 'arn:aws:ec2:*:1:vpc/*', ('arn:aws:ec2:x:1:vpc/v',), False),
    ('NumericLessThan', '10', ('9',), True), ('NumericLessThan', 10, ('10',), False),
    ('NumericNotEquals', '1', ('2',), True), ('IpAddress', '10.0.0.0/8', ('10.1.2.3',), True),
    ('NotIpAddress', '10.0.0.0/8', ('10.1.2.3',), False),
    ('DateLessThan', '2026-01-01T00:00:00Z', ('2025-01-01T00:00:00Z',), True),
    ('ForAllValues:StringLike', ['a*'], ('a', 'ab'), True), ('ForAllValues:StringLike', ['a*'], ('a', 'b'), False),
    ('ForAllValues:StringLike', ['a*'], None, True), ('ForAnyValue:StringEquals', ['a'], ('b', 'a'), True),
    ('ForAnyValue:StringEquals', ['a'], ('b',), False), ('ForAnyValue:StringEquals', ['a'], None, False)])
def test_an_operator_of_a_condition(operator: str, expected: Any, actual: Any, holds_: bool) -> None:
    context = {} if actual is None else {'aws:key': actual}
    assert holds({operator: {'aws:Key': expected}}, context) is holds_


def test_all_operators_and_keys_of_a_condition_must_hold_and_variables_are_replaced() -> None:
    context = {'aws:username': ('ada',), 'aws:requestedregion': ('eu-central-1',), 'x:home': ('/home/ada',)}
    both = {'StringEquals': {'aws:RequestedRegion': 'eu-central-1', 'x:Home': '/home/${aws:username}'}}
    assert holds(both, context)
    assert not holds({**both, 'StringLike': {'aws:username': 'b*'}}, context)
    assert not holds({'StringEquals': {**both['StringEquals'], 'aws:username': 'bea'}}, context)


def test_an_operator_that_is_not_modelled_is_refused_loudly() -> None:
    with pytest.raises(UnsupportedCondition, match='BinaryEquals'):
        holds({'BinaryEquals': {'aws:Key': 'AA=='}}, {'aws:key': ('AA==',)})


def test_a_call_that_such_an_operator_decides_is_refused_at_once(aws: EmbeddedRehearsal) -> None:
    role = Role(aws, allow('ssm:*', Condition={'BinaryEquals': {'aws:Key': 'AA=='}}))
    refused = refusal_of(role.client('ssm').describe_parameters)
    assert refused[::2] == (400, 'the operator BinaryEquals of a condition is no part of this rehearsal')


class Role:
    """A role of the rehearsal, and clients with the keys of a session of it."""

    def __init__(self, aws: EmbeddedRehearsal, *statements: dict[str, Any], name: str = 'worker',
                 trust: dict[str, Any] | None = None, **options: Any) -> None:
        """Make the role with an inline policy of these statements."""
        self.aws, self.name = aws, name
        self.arn = f'arn:aws:iam::{ACCOUNT}:role/{name}'
        self.session = f'arn:aws:sts::{ACCOUNT}:assumed-role/{name}/session'
        aws.client('iam').create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust or TRUST), **options)
        self.put(*statements)

    def put(self, *statements: dict[str, Any]) -> None:
        """Replace the inline policy, or delete it if there are no statements."""
        iam = self.aws.client('iam')
        if not statements:
            for name in iam.list_role_policies(RoleName=self.name)['PolicyNames']:
                iam.delete_role_policy(RoleName=self.name, PolicyName=name)
            return
        text = json.dumps({'Version': '2012-10-17', 'Statement': list(statements)})
        iam.put_role_policy(RoleName=self.name, PolicyName='own', PolicyDocument=text)

    def client(self, service: str, **options: Any) -> Any:
        """Return a client with the keys of a new session."""
        return self.aws.client(service, **keys_of(
            self.aws.client('sts').assume_role(RoleArn=self.arn, RoleSessionName='session', **options)))


def keys_of(answer: dict[str, Any]) -> dict[str, str]:
    keys = answer['Credentials']
    return {'aws_access_key_id': keys['AccessKeyId'], 'aws_secret_access_key': keys['SecretAccessKey'],
            'aws_session_token': keys['SessionToken']}


def refusal_of(call: Any, **parameters: Any) -> tuple[int, str, str]:
    """Return status, code and message of the refusal of a call."""
    with pytest.raises(ClientError) as error:
        call(**parameters)
    answer = error.value.response
    return answer['ResponseMetadata']['HTTPStatusCode'], answer['Error']['Code'], answer['Error']['Message']


# https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
@pytest.mark.parametrize(('service', 'operation', 'parameters', 'status', 'code', 'action', 'resource'), [
    ('ssm', 'get_parameter', {'Name': '/a/b'}, 400, 'AccessDeniedException', 'ssm:GetParameter',
     'arn:aws:ssm:us-east-1:123456789012:parameter/a/b'),
    ('ec2', 'describe_instances', {}, 403, 'UnauthorizedOperation', 'ec2:DescribeInstances', '*'),
    ('autoscaling', 'delete_auto_scaling_group', {'AutoScalingGroupName': 'one'}, 403, 'AccessDenied',
     'autoscaling:DeleteAutoScalingGroup',
     'arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:unknown:autoScalingGroupName/one'),
    ('s3', 'get_object', {'Bucket': 'one', 'Key': 'a/b'}, 403, 'AccessDenied', 's3:GetObject',
     'arn:aws:s3:::one/a/b'),
    ('s3', 'list_objects_v2', {'Bucket': 'one'}, 403, 'AccessDenied', 's3:ListBucket', 'arn:aws:s3:::one'),
    ('route53', 'get_hosted_zone', {'Id': 'Z1'}, 403, 'AccessDenied', 'route53:GetHostedZone',
     'arn:aws:route53:::hostedzone/Z1'),
    ('logs', 'create_log_stream', {'logGroupName': '/a', 'logStreamName': 'b'}, 400, 'AccessDeniedException',
     'logs:CreateLogStream', 'arn:aws:logs:us-east-1:123456789012:log-group:/a:log-stream:b'),
    ('iam', 'create_role', {'RoleName': 'one', 'AssumeRolePolicyDocument': '{}'}, 403, 'AccessDenied',
     'iam:CreateRole', 'arn:aws:iam::123456789012:role/one'),
    ('cloudwatch', 'put_metric_data', {'Namespace': 'a', 'MetricData': []}, 400, 'AccessDeniedException',
     'cloudwatch:PutMetricData', '*')])
def test_a_refusal_is_in_the_protocol_of_its_service_and_names_caller_action_and_resource(
        aws: EmbeddedRehearsal, service: str, operation: str, parameters: dict[str, Any], status: int, code: str,
        action: str, resource: str) -> None:
    role = Role(aws)
    answer = refusal_of(getattr(role.client(service), operation), **parameters)
    start = 'You are not authorized to perform this operation. ' if service == 'ec2' else ''
    assert answer == (status, code, f'{start}User: {role.session} is not authorized to perform: {action} on resource: '
                      f'{resource} because no identity-based policy allows the {action} action')
    assert not aws.gaps
    role.put(allow(action, resource=resource))
    try:
        getattr(role.client(service), operation)(**parameters)
    except ClientError as error:  # the resource does not exist, but the call is allowed
        assert 'denied' not in error.response['Error']['Code'].lower(), error


def test_an_explicit_denial_and_a_boundary_are_named(aws: EmbeddedRehearsal) -> None:
    made = aws.client('iam').create_policy(PolicyName='limit', PolicyDocument=json.dumps(
        {'Version': '2012-10-17', 'Statement': [allow('ssm:Describe*')]}))
    role = Role(aws, allow('ssm:*'), PermissionsBoundary=made['Policy']['Arn'])
    ssm = role.client('ssm')
    ssm.describe_parameters()
    message = refusal_of(ssm.get_parameter, Name='/a')[2]
    assert message.endswith('because no permissions boundary allows the ssm:GetParameter action')
    role.put(allow('ssm:*'), deny('ssm:DescribeParameters'))
    assert refusal_of(ssm.describe_parameters)[2].endswith('with an explicit deny in an identity-based policy')


def test_attached_policies_allow_and_the_default_version_counts(aws: EmbeddedRehearsal) -> None:
    iam, role = aws.client('iam'), Role(aws)
    text = json.dumps({'Version': '2012-10-17', 'Statement': [allow('ssm:DescribeParameters')]})
    attached = iam.create_policy(PolicyName='reads', PolicyDocument=text)['Policy']['Arn']
    iam.attach_role_policy(RoleName=role.name, PolicyArn=attached)
    role.client('ssm').describe_parameters()
    nothing = json.dumps({'Version': '2012-10-17', 'Statement': [deny('*')]})
    iam.create_policy_version(PolicyArn=attached, PolicyDocument=nothing, SetAsDefault=True)
    assert refusal_of(role.client('ssm').describe_parameters)[1] == 'AccessDeniedException'


def test_a_policy_of_the_session_limits_the_role(aws: EmbeddedRehearsal) -> None:
    role = Role(aws, allow('ssm:*'))
    limit = json.dumps({'Version': '2012-10-17', 'Statement': [allow('ssm:DescribeParameters')]})
    ssm = role.client('ssm', Policy=limit)
    ssm.describe_parameters()
    assert 'no session policy allows' in refusal_of(ssm.get_parameter, Name='/a')[2]


def test_a_user_has_its_own_policies_and_those_of_its_groups(aws: EmbeddedRehearsal) -> None:
    iam = aws.client('iam')
    iam.create_user(UserName='ada')
    iam.create_group(GroupName='readers')
    made = iam.create_access_key(UserName='ada')['AccessKey']
    ssm = aws.client('ssm', aws_access_key_id=made['AccessKeyId'], aws_secret_access_key=made['SecretAccessKey'])
    assert f'User: arn:aws:iam::{ACCOUNT}:user/ada is not' in refusal_of(ssm.describe_parameters)[2]
    iam.put_group_policy(GroupName='readers', PolicyName='reads', PolicyDocument=json.dumps(
        {'Version': '2012-10-17', 'Statement': [allow('ssm:DescribeParameters')]}))
    iam.add_user_to_group(GroupName='readers', UserName='ada')
    ssm.describe_parameters()


def test_a_call_of_ec2_is_decided_for_each_resource_with_its_tags(aws: EmbeddedRehearsal) -> None:
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ExamplePolicies_EC2.html
    role = Role(aws, allow('ec2:TerminateInstances',
                           Condition={'StringEquals': {'aws:ResourceTag/Project': 'visitors'}}))
    own, other = launch(aws), launch(aws)
    aws.client('ec2').create_tags(Resources=[own], Tags=[{'Key': 'Project', 'Value': 'visitors'}])
    ec2 = role.client('ec2')
    assert f'instance/{other} ' in refusal_of(ec2.terminate_instances, InstanceIds=[own, other])[2]
    ec2.terminate_instances(InstanceIds=[own])


def test_a_launch_needs_permissions_for_its_ami_its_network_and_the_tags_of_what_it_makes(
        aws: EmbeddedRehearsal) -> None:
    account, tagged = f'arn:aws:ec2:us-east-1:{ACCOUNT}', {'StringEquals': {'aws:RequestTag/Run': '7'}}
    statements = {
        'ami': allow('ec2:RunInstances', resource='arn:aws:ec2:us-east-1::image/*'),
        'network': allow('ec2:RunInstances', resource=f'{account}:network-interface/*'),
        'made': allow('ec2:RunInstances', resource=f'{account}:instance/*', Condition=tagged),
        'disk': allow('ec2:RunInstances', resource=f'{account}:volume/*'),
        'tags': allow('ec2:CreateTags', resource=f'{account}:*/*',
                      Condition={'StringEquals': {'ec2:CreateAction': 'RunInstances'}}),
        'pass': allow('iam:PassRole', Condition={'StringEquals': {'iam:PassedToService': 'ec2.amazonaws.com'}})}
    role = Role(aws, *statements.values())
    aws.client('iam').create_instance_profile(InstanceProfileName='worker')
    aws.client('iam').add_role_to_instance_profile(InstanceProfileName='worker', RoleName='worker')
    ec2, parameters = role.client('ec2'), {
        'ImageId': aws.source_ami, 'InstanceType': 't3.small', 'MinCount': 1, 'MaxCount': 1,
        'IamInstanceProfile': {'Name': 'worker'},
        'TagSpecifications': [{'ResourceType': 'instance', 'Tags': [{'Key': 'Run', 'Value': '7'}]}]}
    ec2.run_instances(**parameters)
    other = [{'ResourceType': 'instance', 'Tags': [{'Key': 'Run', 'Value': '8'}]}]
    assert ':instance/*' in refusal_of(ec2.run_instances, **{**parameters, 'TagSpecifications': other})[2]
    for missing in statements:
        role.put(*(statement for name, statement in statements.items() if name != missing))
        assert refusal_of(ec2.run_instances, **parameters)[1] in ('UnauthorizedOperation', 'AccessDenied'), missing


def test_the_context_of_a_request_has_its_region_and_namespace(aws: EmbeddedRehearsal) -> None:
    role = Role(aws, allow('ec2:DescribeVpcs', Condition={'StringEquals': {'aws:RequestedRegion': 'us-east-1'}}),
                allow('cloudwatch:PutMetricData', Condition={'StringEquals': {'cloudwatch:namespace': 'Visitors'}}))
    role.client('ec2').describe_vpcs()
    role.client('cloudwatch').put_metric_data(Namespace='Visitors', MetricData=[])
    refused = refusal_of(role.client('cloudwatch').put_metric_data, Namespace='Others', MetricData=[])
    assert refused[1] == 'AccessDeniedException'
    keys = keys_of(aws.client('sts').assume_role(RoleArn=role.arn, RoleSessionName='session'))
    elsewhere = aws.client('ec2', region_name='eu-central-1', **keys)
    assert refusal_of(elsewhere.describe_vpcs)[1] == 'UnauthorizedOperation'


def test_records_are_changed_only_under_the_names_of_the_condition(aws: EmbeddedRehearsal) -> None:
    # https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/specifying-conditions-route53.html
    names = {'route53:ChangeResourceRecordSetsNormalizedRecordNames': ['a.example.com', '_*.a.example.com']}
    role = Role(aws, allow('route53:ChangeResourceRecordSets', resource='arn:aws:route53:::hostedzone/*',
                           Condition={'ForAllValues:StringLike': names}))
    zone = aws.client('route53').create_hosted_zone(Name='example.com', CallerReference='1')['HostedZone']['Id']
    for name, is_allowed in (('a.example.com', True), ('_x.A.example.com.', True), ('b.example.com', False)):
        record = {'Name': name, 'Type': 'A', 'TTL': 60, 'ResourceRecords': [{'Value': '192.0.2.1'}]}
        parameters = {'HostedZoneId': zone, 'ChangeBatch': {'Changes': [
            {'Action': 'UPSERT', 'ResourceRecordSet': record}]}}
        call = role.client('route53').change_resource_record_sets
        if is_allowed:
            call(**parameters)
        else:
            assert refusal_of(call, **parameters)[1] == 'AccessDenied'


def test_an_instance_has_the_permissions_of_the_role_in_its_profile(aws: EmbeddedRehearsal) -> None:
    role = Role(aws, allow('ssm:DescribeParameters'))
    iam, instance = aws.client('iam'), launch(aws)
    iam.create_instance_profile(InstanceProfileName='profile')
    iam.add_role_to_instance_profile(InstanceProfileName='profile', RoleName=role.name)
    keys = {'aws_access_key_id': instance_key(instance), 'aws_secret_access_key': 'testing',
            'aws_session_token': 'testing'}
    ssm = aws.client('ssm', **keys)
    assert refusal_of(ssm.describe_parameters)[1] == 'UnrecognizedClientException'
    aws.client('ec2').associate_iam_instance_profile(InstanceId=instance, IamInstanceProfile={'Name': 'profile'})
    ssm.describe_parameters()
    message = refusal_of(ssm.get_parameter, Name='/a')[2]
    assert f'User: arn:aws:sts::{ACCOUNT}:assumed-role/worker/{instance} is not authorized' in message


def test_the_rehearsals_own_key_may_do_everything_and_an_unknown_one_nothing(aws: EmbeddedRehearsal) -> None:
    aws.client('ssm').describe_parameters()
    keys = {'aws_access_key_id': 'AKIA0123456789ABCDEF',  # pragma: allowlist secret
            'aws_secret_access_key': 'unknown'}  # pragma: allowlist secret
    codes = {service: refusal_of(getattr(aws.client(service, **keys), operation))[:2] for service, operation in (
        ('ssm', 'describe_parameters'), ('ec2', 'describe_instances'), ('autoscaling', 'describe_auto_scaling_groups'),
        ('s3', 'list_buckets'))}
    assert codes == {'ssm': (400, 'UnrecognizedClientException'), 'ec2': (401, 'AuthFailure'),
                     'autoscaling': (403, 'InvalidClientTokenId'), 's3': (403, 'InvalidAccessKeyId')}


def test_a_session_ends_and_needs_its_token(aws: EmbeddedRehearsal) -> None:
    role = Role(aws, allow('ssm:*'))
    keys = keys_of(aws.client('sts').assume_role(RoleArn=role.arn, RoleSessionName='session', DurationSeconds=900))
    aws.client('ssm', **keys).describe_parameters()
    wrong = aws.client('ssm', **{**keys, 'aws_session_token': 'another'})
    assert refusal_of(wrong.describe_parameters)[1] == 'UnrecognizedClientException'
    (session,) = sts_backends[ACCOUNT]['aws'].assumed_roles
    session.expiration = session.expiration.replace(year=2020)
    assert refusal_of(aws.client('ssm', **keys).describe_parameters)[1] == 'ExpiredTokenException'


def test_a_role_is_assumed_only_by_a_caller_that_its_trust_policy_names(aws: EmbeddedRehearsal) -> None:
    # https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    service = {'Statement': [{'Effect': 'Allow', 'Action': 'sts:AssumeRole',
                              'Principal': {'Service': 'ec2.amazonaws.com'}}]}
    for_ec2 = Role(aws, allow('*'), name='for-ec2', trust=service)
    message = refusal_of(for_ec2.client, service='ssm')[2]
    assert message.endswith(f'is not authorized to perform: sts:AssumeRole on resource: {for_ec2.arn}')
    worker, other = Role(aws, allow('sts:AssumeRole')), Role(aws, allow('sts:AssumeRole'), name='other')
    only = {'Statement': [{'Effect': 'Allow', 'Action': 'sts:AssumeRole', 'Principal': {'AWS': worker.arn},
                           'Condition': {'StringEquals': {'sts:ExternalId': 'seven'}}}]}
    target = Role(aws, name='target', trust=only)
    parameters = {'RoleArn': target.arn, 'RoleSessionName': 'session', 'ExternalId': 'seven'}
    worker.client('sts').assume_role(**parameters)
    assert refusal_of(worker.client('sts').assume_role, **{**parameters, 'ExternalId': 'six'})[1] == 'AccessDenied'
    assert refusal_of(other.client('sts').assume_role, **parameters)[1] == 'AccessDenied'
    absent = {'RoleArn': f'{target.arn}-absent', 'RoleSessionName': 'session'}
    assert refusal_of(aws.client('sts').assume_role, **absent)[1] == 'AccessDenied'
    worker.put()
    assert 'no identity-based policy' in refusal_of(worker.client('sts').assume_role, **parameters)[2]


def token(**claims: Any) -> str:
    """Return a web identity token with these claims, in place of or beside the usual ones."""
    usual = {'iss': f'https://{ISSUER}', 'aud': 'visitors-bake', 'sub': SUBJECT, **claims}
    parts = (json.dumps(part).encode() for part in ({'alg': 'RS256'}, usual))
    return '.'.join(urlsafe_b64encode(part).decode().rstrip('=') for part in parts) + '.signature'


# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
@pytest.mark.parametrize(('text', 'code'), [
    (token(), ''),
    (token(aud='visitors-apply-staging'), 'AccessDenied'),
    (token(aud='another'), 'InvalidIdentityToken'),
    (token(sub=SUBJECT.replace('main', 'feature')), 'AccessDenied'),
    (token(sub=SUBJECT.replace('branch', 'tag')), 'AccessDenied'),
    (token(iss='https://elsewhere.example.com'), 'InvalidIdentityToken'),
    (token(exp=1), 'ExpiredTokenException'),
    (INVALID, 'InvalidIdentityToken')])
def test_a_job_of_the_pipeline_assumes_only_the_role_for_its_audience_and_branch(
        aws: EmbeddedRehearsal, text: str, code: str) -> None:
    iam = aws.client('iam')
    provider = iam.create_open_id_connect_provider(
        Url=f'https://{ISSUER}', ClientIDList=['visitors-bake', 'visitors-apply-staging'],
        ThumbprintList=['0' * 40])['OpenIDConnectProviderArn']
    trust = {'Version': '2012-10-17', 'Statement': [{
        'Effect': 'Allow', 'Action': 'sts:AssumeRoleWithWebIdentity', 'Principal': {'Federated': provider},
        'Condition': {'StringEquals': {f'{ISSUER}:aud': 'visitors-bake', f'{ISSUER}:sub': SUBJECT}}}]}
    role = Role(aws, allow('ssm:DescribeParameters'), name='visitors-bake', trust=trust)
    parameters = {'RoleArn': role.arn, 'RoleSessionName': 'job', 'WebIdentityToken': text}
    call = aws.client('sts').assume_role_with_web_identity
    if code:
        assert refusal_of(call, **parameters)[1] == code
    else:
        aws.client('ssm', **keys_of(call(**parameters))).describe_parameters()
        (use,) = [use for use in aws.permissions.uses if use.question.action == 'ssm:DescribeParameters']
        assert (use.principal, use.decision.policy, use.decision.statement) == ('visitors-bake', 'own', '0')
