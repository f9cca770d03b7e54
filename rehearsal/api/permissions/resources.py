"""The actions, resources and context of a request, as the Service Authorization Reference lists them.

https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
The resources are those of the services that this project calls; for other services it is *.
"""

from collections.abc import Callable, Iterator, Mapping
import re
from typing import Any

from moto.acm.models import acm_backends
from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE
from moto.secretsmanager.models import secretsmanager_backends

from rehearsal.api.permissions.conditions import Context
from rehearsal.api.permissions.policies import Question
from rehearsal.api.permissions.requests import Request
from rehearsal.settings import ACCOUNT

# Services whose actions have another prefix than the name that signs their calls.
PREFIXES = {'monitoring': 'cloudwatch'}
# Operations of S3 whose permission has another name.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
PERMISSIONS = {
    's3:AbortMultipartUpload': 's3:AbortMultipartUpload',
    's3:CompleteMultipartUpload': 's3:PutObject',
    's3:CopyObject': 's3:PutObject',
    's3:CreateMultipartUpload': 's3:PutObject',
    's3:DeleteBucketEncryption': 's3:PutEncryptionConfiguration',
    's3:DeleteBucketLifecycle': 's3:PutLifecycleConfiguration',
    's3:DeleteObjects': 's3:DeleteObject',
    's3:DeletePublicAccessBlock': 's3:PutBucketPublicAccessBlock',
    's3:GetBucketAccelerateConfiguration': 's3:GetAccelerateConfiguration',
    's3:GetBucketCors': 's3:GetBucketCORS',
    's3:GetBucketEncryption': 's3:GetEncryptionConfiguration',
    's3:GetBucketLifecycleConfiguration': 's3:GetLifecycleConfiguration',
    's3:GetBucketReplication': 's3:GetReplicationConfiguration',
    's3:GetObjectLockConfiguration': 's3:GetBucketObjectLockConfiguration',
    's3:GetPublicAccessBlock': 's3:GetBucketPublicAccessBlock',
    's3:HeadBucket': 's3:ListBucket',
    's3:HeadObject': 's3:GetObject',
    's3:ListBuckets': 's3:ListAllMyBuckets',
    's3:ListObjects': 's3:ListBucket',
    's3:ListObjectsV2': 's3:ListBucket',
    's3:ListObjectVersions': 's3:ListBucketVersions',
    's3:PutBucketEncryption': 's3:PutEncryptionConfiguration',
    's3:PutBucketLifecycleConfiguration': 's3:PutLifecycleConfiguration',
    's3:PutPublicAccessBlock': 's3:PutBucketPublicAccessBlock',
    's3:UploadPart': 's3:PutObject',
}
EC2_ID = re.compile(r'([a-z]+(?:-[a-z]+)*)-[0-9a-f]{8,17}')
EC2_TYPES = {'flow-logs': 'vpc-flow-log', 'managed-prefix-list': 'prefix-list', 'nat-gateway': 'natgateway',
             'vpc-elastic-ip': 'elastic-ip'}
# The types that a call of EC2 makes.
CREATED = {
    'AllocateAddress': ('elastic-ip',), 'CreateFlowLogs': ('vpc-flow-log',), 'CreateImage': ('image', 'snapshot'),
    'CreateInternetGateway': ('internet-gateway',), 'CreateKeyPair': ('key-pair',),
    'CreateLaunchTemplate': ('launch-template',), 'CreateNatGateway': ('natgateway',),
    'CreateRouteTable': ('route-table',), 'CreateSecurityGroup': ('security-group',), 'CreateSubnet': ('subnet',),
    'CreateVpc': ('vpc',), 'CreateVpcEndpoint': ('vpc-endpoint',),
    'RunInstances': ('instance', 'network-interface', 'volume')}
# Calls of EC2 that decide about resources of one type only, though they name others.
ONLY = {'CreateRoute': 'route-table', 'DeleteRoute': 'route-table', 'ReplaceRoute': 'route-table'}
# Descriptions of EC2 that have resources.
DESCRIBED = ('DescribeVpcAttribute',)
# Parameters of EC2 whose ids are no resources of the call.
NO_RESOURCES = ('IpPermissions', 'SecurityGroupRules', 'LaunchTemplateData')


def questions(request: Request) -> list[Question]:
    """Return the questions of a request: its action on each of its resources, and the actions that it implies."""
    prefix = PREFIXES.get(request.service, request.service)
    action = f'{prefix}:{request.operation}'
    action = PERMISSIONS.get(action, action)
    if request.service == 'ec2':
        return list(questions_of_ec2(request, action))
    resources = RESOURCES.get(prefix, lambda _: ())(request)
    context = context_of(request)
    asked = [Question(action, resource, {**context, **tags_of(resource)}) for resource in resources or ['*']]
    return [*asked, *implied(request, context)]


def context_of(request: Request) -> dict[str, tuple[str, ...]]:
    """Return the values that conditions on any resource of a request can read.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
    """
    parameters = request.parameters
    context: dict[str, tuple[str, ...]] = {
        'aws:requestedregion': (request.region,), 'aws:securetransport': ('true',),
        **{f'aws:requesttag/{key}'.lower(): (value,) for key, value in tags_in(parameters).items()}}
    if 'Namespace' in parameters and request.service == 'monitoring':
        context['cloudwatch:namespace'] = (str(parameters['Namespace']),)
    if 'AWSServiceName' in parameters:
        context['iam:awsservicename'] = (str(parameters['AWSServiceName']),)
    if request.operation == 'ChangeResourceRecordSets':
        changes = [change['ResourceRecordSet'] for change in parameters['ChangeBatch']['Changes']]
        key = 'route53:changeresourcerecordsetsnormalizedrecordnames'
        context[key] = tuple(str(record['Name']).lower().rstrip('.').replace('\\052', '*') for record in changes)
    return context


def implied(request: Request, context: Context) -> Iterator[Question]:
    """Yield the questions about actions that a request implies: a role that it hands to a service.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html
    """
    if request.operation == 'AddRoleToInstanceProfile':
        role = arn('iam', f'role/{request.parameters["RoleName"]}')
        yield Question('iam:PassRole', role, {**context, 'iam:passedtoservice': ('ec2.amazonaws.com',)})


def questions_of_ec2(request: Request, action: str) -> Iterator[Question]:
    """Yield the questions about a request to EC2, which decides about each resource."""
    context, operation = context_of(request), request.operation
    if operation.startswith('Describe') and operation not in DESCRIBED:
        yield Question(action, '*', context)
        return
    tags = {str(each.get('ResourceType')): tags_in(each) for each in request.parameters.get('TagSpecifications') or []}
    launched_by = launch_template_of(request)
    common = {**context, **({'ec2:launchtemplate': (launched_by,)} if launched_by else {})}
    found = [*dict.fromkeys(named_in(request.parameters, request.region))]
    for kind, identity in found:
        if ONLY.get(operation, kind) == kind:
            about = {**common, **facts(request, kind, identity)}
            yield Question(action, ec2_arn(request.region, kind, identity), about)
    created = CREATED.get(operation, ())
    for kind in created:
        own = {f'aws:requesttag/{key}'.lower(): (value,) for key, value in tags.get(kind, {}).items()}
        identity = str(request.parameters.get('KeyName', '*')) if kind == 'key-pair' else '*'
        yield Question(action, ec2_arn(request.region, kind, identity), {**common, **own})
    for kind, values in tags.items():
        if values:
            own = {f'aws:requesttag/{key}'.lower(): (value,) for key, value in values.items()}
            resource = ec2_arn(request.region, EC2_TYPES.get(kind, kind), '*')
            yield Question('ec2:CreateTags', resource, {**context, **own, 'ec2:createaction': (operation,)})
    if not found and not created:
        yield Question(action, '*', context)
    role = request.parameters.get('DeliverLogsPermissionArn')
    if role:
        passed = {**context, 'iam:passedtoservice': ('vpc-flow-logs.amazonaws.com',)}
        yield Question('iam:PassRole', str(role), passed)
    yield from passed_profile(request, context)


def passed_profile(request: Request, context: Context) -> Iterator[Question]:
    """Yield the question about the role in the instance profile of a launch."""
    profile = request.parameters.get('IamInstanceProfile') or {}
    name = profile.get('Name') or str(profile.get('Arn', '')).rpartition('/')[2]
    if name and request.operation == 'RunInstances':
        yield Question('iam:PassRole', arn('iam', f'role/{name}'),
                       {**context, 'iam:passedtoservice': ('ec2.amazonaws.com',)})


def named_in(value: Any, region: str, name: str = '') -> Iterator[tuple[str, str]]:
    """Yield type and id of each resource of EC2 that parameters name."""
    if name in NO_RESOURCES:
        return
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield from named_in(member, region, str(key))
    elif isinstance(value, (list, tuple)):
        for member in value:
            yield from named_in(member, region, name)
    elif name == 'KeyName':
        yield 'key-pair', str(value)
    elif name == 'LaunchTemplateName':
        yield 'launch-template', str(value)
    elif isinstance(value, str) and (match := EC2_ID.fullmatch(value)) and match[1] in EC2_PREFIX_TO_RESOURCE:
        kind = EC2_PREFIX_TO_RESOURCE[match[1]]
        yield EC2_TYPES.get(kind, kind), value


def launch_template_of(request: Request) -> str | None:
    """Return the ARN of the launch template of a launch."""
    template = request.parameters.get('LaunchTemplate') or {}
    named = template.get('LaunchTemplateId') or template.get('LaunchTemplateName')
    return ec2_arn(request.region, 'launch-template', str(named)) if named else None


def facts(request: Request, kind: str, identity: str) -> dict[str, tuple[str, ...]]:
    """Return the facts about a resource of EC2 for conditions: its tags, and the owner of an AMI."""
    backend = ec2_backends[ACCOUNT][request.region]
    tags = dict(backend.tags.get(identity, {}))
    about: dict[str, tuple[str, ...]] = {
        f'aws:resourcetag/{key}'.lower(): (str(value),) for key, value in tags.items()}
    if kind == 'image' and identity in backend.amis:
        about['ec2:owner'] = (str(backend.amis[identity].owner_id),)
    return about


def tags_of(resource: str) -> dict[str, tuple[str, ...]]:
    """Return the tags of a certificate, the only resource besides EC2's whose tags conditions read here."""
    if ':acm:' not in resource:
        return {}
    region = resource.split(':')[3]
    found = acm_backends[ACCOUNT][region]._certificates.get(resource)
    return {f'aws:resourcetag/{key}'.lower(): (str(value),) for key, value in (found.tags if found else {}).items()}


def tags_in(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags in parameters, which services spell in different ways."""
    tags: dict[str, str] = {}
    for name in ('Tags', 'tags', 'ResourceTags', 'TagList'):
        value = parameters.get(name) or []
        if isinstance(value, Mapping):
            tags |= {str(key): str(text) for key, text in value.items()}
        else:
            tags |= {str(tag.get('Key')): str(tag.get('Value', '')) for tag in value if isinstance(tag, Mapping)}
    return tags


def arn(service: str, rest: str, region: str = '') -> str:
    """Return an ARN of the rehearsal's account."""
    return f'arn:aws:{service}:{region}:{ACCOUNT}:{rest}'


def ec2_arn(region: str, kind: str, identity: str) -> str:
    """Return the ARN of a resource of EC2; AMIs and snapshots have no account in theirs."""
    account = '' if kind in ('image', 'snapshot') else ACCOUNT
    return f'arn:aws:ec2:{region}:{account}:{kind}/{identity}'


def values(request: Request, *names: str) -> list[str]:
    """Return the values of those parameters that a request has, one or lists of them."""
    found = [request.parameters.get(name) for name in names]
    return [str(each) for value in found if value for each in (value if isinstance(value, list) else [value])]


def of_autoscaling(request: Request) -> list[str]:
    """Return the groups of a request."""
    if request.operation.startswith('Describe'):
        return []
    tagged = [tag.get('ResourceId') for tag in request.parameters.get('Tags') or [] if isinstance(tag, Mapping)]
    groups = autoscaling_backends[ACCOUNT][request.region].autoscaling_groups
    names = dict.fromkeys([*values(request, 'AutoScalingGroupName'), *map(str, filter(None, tagged))])
    return [str(groups[name].arn) if name in groups else
            arn('autoscaling', f'autoScalingGroup:unknown:autoScalingGroupName/{name}', request.region)
            for name in names]


def of_cloudwatch(request: Request) -> list[str]:
    """Return the alarms and dashboards of a request."""
    alarms = values(request, 'AlarmName', 'AlarmNames')
    if request.operation == 'DescribeAlarms' and not alarms:
        alarms = ['*']
    dashboards = values(request, 'DashboardName', 'DashboardNames')
    return [*(arn('cloudwatch', f'alarm:{name}', request.region) for name in alarms),
            *(arn('cloudwatch', f'dashboard/{name}') for name in dashboards), *values(request, 'ResourceARN')]


def of_logs(request: Request) -> list[str]:
    """Return the log groups and streams of a request."""
    if request.operation == 'DescribeLogGroups':
        return []
    stream = f':log-stream:{request.parameters["logStreamName"]}' if 'logStreamName' in request.parameters else ''
    return [*(arn('logs', f'log-group:{name}{stream}', request.region) for name in values(request, 'logGroupName')),
            *values(request, 'resourceArn')]


def of_s3(request: Request) -> list[str]:
    """Return the bucket or the objects of a request."""
    bucket, key = request.parameters.get('Bucket'), request.parameters.get('Key')
    keys = [each['Key'] for each in (request.parameters.get('Delete') or {}).get('Objects', [])] or [key]
    return [f'arn:aws:s3:::{bucket}/{each}' if each else f'arn:aws:s3:::{bucket}' for each in keys] if bucket else []


def of_secrets(request: Request) -> list[str]:
    """Return the secrets of a request, by their ARNs, of which a name has no random end."""
    if request.operation == 'CreateSecret':
        return [arn('secretsmanager', f'secret:{name}-??????', request.region) for name in values(request, 'Name')]
    secrets = secretsmanager_backends[ACCOUNT][request.region].secrets
    return [str(secrets[name].arn) if name in secrets else name if name.startswith('arn:') else
            arn('secretsmanager', f'secret:{name}', request.region) for name in values(request, 'SecretId')]


def of_ssm(request: Request) -> list[str]:
    """Return the parameters of a request, or their path."""
    if request.operation == 'DescribeParameters':
        return []
    names = values(request, 'Name', 'Names', 'Path', 'ResourceId')
    return [arn('ssm', f'parameter/{name.lstrip("/")}', request.region) for name in names]


def of_load_balancing(request: Request) -> list[str]:
    """Return the load balancers, listeners and target groups of a request."""
    if request.operation.startswith('Describe'):
        return []
    made = {'CreateLoadBalancer': 'loadbalancer/app', 'CreateTargetGroup': 'targetgroup'}.get(request.operation)
    if made:
        return [arn('elasticloadbalancing', f'{made}/{request.parameters["Name"]}/*', request.region)]
    return values(request, 'ListenerArn', 'LoadBalancerArn', 'ResourceArn', 'ResourceArns', 'TargetGroupArn')


def of_rds(request: Request) -> list[str]:
    """Return the databases, parameter groups and subnet groups of a request."""
    kinds = {'DBInstanceIdentifier': 'db', 'DBParameterGroupName': 'pg', 'DBSubnetGroupName': 'subgrp',
             'OptionGroupName': 'og', 'FinalDBSnapshotIdentifier': 'snapshot'}
    named = [arn('rds', f'{kind}:{name}', request.region) for parameter, kind in kinds.items()
             for name in values(request, parameter)]
    lists = {'DescribeDBInstances': 'db:*', 'DescribeDBParameterGroups': 'pg:*', 'DescribeDBSubnetGroups': 'subgrp:*'}
    if not named and request.operation in lists:
        return [arn('rds', lists[request.operation], request.region)]
    return [*named, *values(request, 'ResourceName')]


def of_iam(request: Request) -> list[str]:
    """Return the roles, profiles, users and policies of a request."""
    kinds = {'InstanceProfileName': 'instance-profile', 'RoleName': 'role', 'UserName': 'user'}
    if request.operation == 'AddRoleToInstanceProfile':
        kinds.pop('RoleName')
    if request.operation == 'CreateServiceLinkedRole':
        return [arn('iam', f'role/aws-service-role/{request.parameters["AWSServiceName"]}/*')]
    named = [arn('iam', f'{kind}/{name}') for parameter, kind in kinds.items() for name in values(request, parameter)]
    return [*named, *values(request, 'OpenIDConnectProviderArn')]


def of_route_53(request: Request) -> list[str]:
    """Return the hosted zones, health checks and changes of a request."""
    if request.operation.startswith('List') and request.operation.endswith('Zones'):
        return []
    kind = 'change' if request.operation == 'GetChange' else 'hostedzone'
    named = [f'arn:aws:route53:::{kind}/{name.rpartition("/")[2]}' for name in values(request, 'HostedZoneId', 'Id')]
    checks = [f'arn:aws:route53:::healthcheck/{name}' for name in values(request, 'HealthCheckId')]
    tagged = [f'arn:aws:route53:::{request.parameters.get("ResourceType")}/{name}'
              for name in values(request, 'ResourceId')]
    return [*named, *checks, *tagged]


def of_events(request: Request) -> list[str]:
    """Return the rules of a request."""
    return [*(arn('events', f'rule/{name}', request.region) for name in values(request, 'Name', 'Rule')),
            *values(request, 'ResourceARN')]


def of_sns(request: Request) -> list[str]:
    """Return the topics of a request."""
    return [*(arn('sns', name, request.region) for name in values(request, 'Name')),
            *values(request, 'TopicArn', 'ResourceArn')]


def of_waf(request: Request) -> list[str]:
    """Return the web ACLs of a request, and the resources that they protect."""
    named, identity = request.parameters.get('Name'), request.parameters.get('Id', '*')
    acl = [arn('wafv2', f'regional/webacl/{named}/{identity}', request.region)] if named else []
    return [*acl, *values(request, 'ResourceARN', 'ResourceArn', 'WebACLArn')]


RESOURCES: dict[str, Callable[[Request], list[str] | tuple[str, ...]]] = {
    'acm': lambda request: values(request, 'CertificateArn'),
    'autoscaling': of_autoscaling,
    'cloudwatch': of_cloudwatch,
    'elasticloadbalancing': of_load_balancing,
    'events': of_events,
    'iam': of_iam,
    'logs': of_logs,
    'rds': of_rds,
    'route53': of_route_53,
    's3': of_s3,
    'secretsmanager': of_secrets,
    'sns': of_sns,
    'ssm': of_ssm,
    'sts': lambda request: values(request, 'RoleArn'),
    'wafv2': of_waf,
}
