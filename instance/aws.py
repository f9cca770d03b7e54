"""The only module that calls AWS; each failure of a call becomes an AwsFailed with one sentence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
import os
import random
import time
from typing import Any, TypeVar

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError, ClientError, ConnectionError as NotConnected, CredentialRetrievalError, HTTPClientError,
    MetadataRetrievalError, NoCredentialsError, ParamValidationError)

from instance.deadline import Deadline
from instance.errors import StepFailed
from instance.metadata import Metadata, MetadataUnavailable
from instance.user_data import UserData

# Error codes of a request that AWS refuses because its signature is minutes off by AWS's clock.
CLOCK_CODES = ('InvalidSignatureException', 'RequestExpired', 'RequestTimeTooSkewed', 'SignatureDoesNotMatch')
# Error codes of transient failures: the services' names for too many requests, and a service in trouble.
TRANSIENT_CODES = (
    'BandwidthLimitExceeded', 'EC2ThrottledException', 'InternalFailure', 'InternalServerError',
    'PriorRequestNotComplete', 'ProvisionedThroughputExceededException', 'RequestLimitExceeded', 'RequestThrottled',
    'RequestThrottledException', 'RequestTimeout', 'RequestTimeoutException', 'ServiceUnavailable', 'SlowDown',
    'ThrottledException', 'Throttling', 'ThrottlingException', 'TooManyRequestsException',
    'TransactionInProgressException')
TRANSIENT_STATUSES = (429, 500, 502, 503, 504)
# AWS's answer if no lifecycle action waits: the code is a general one, so the message has to match as well.
NO_LIFECYCLE_ACTION_CODE, NO_LIFECYCLE_ACTION = 'ValidationError', 'No active Lifecycle Action'
INVALID = 'ParamValidationError'
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
# By default the SDK asks the metadata service once, for one second, which the first answer of a busy instance exceeds.
METADATA_SETTINGS = {'AWS_METADATA_SERVICE_TIMEOUT': '5', 'AWS_METADATA_SERVICE_NUM_ATTEMPTS': '1'}
NAMESPACE = 'Visitors'
Result = TypeVar('Result')


class AwsFailed(StepFailed):
    """The failure of a call of AWS: a message, AWS's error code if AWS answered, and whether a retry may succeed."""

    def __init__(self, message: str, code: str = '', is_transient: bool = False) -> None:
        """Keep the code and whether the failure is transient."""
        super().__init__(message)
        self.code = code
        self.is_transient = is_transient


class NoLifecycleAction(AwsFailed):
    """AWS's answer that no lifecycle action of the instance waits: not yet, or no longer."""


class CredentialsMissing(AwsFailed):
    """The SDK's failure to find credentials; only the metadata service knows the reason."""


@dataclass(frozen=True)
class Patience:
    """The time limits of a call of AWS, in seconds: to connect, for an answer, and for all tries together.

    The SDK's own retries are limited by number, and their duration differs from version to version. So the SDK tries
    once, and this module retries until the time is over.
    """

    connect: float = 3
    answer: float = 10
    # A service that is unavailable for a minute must not cost an instance.
    seconds: float = 60


PATIENCE = Patience()


@dataclass(frozen=True)
class Member:
    """An instance's membership in its Auto Scaling group."""

    group: str
    state: str


@dataclass(frozen=True)
class Health:
    """An instance's health in a target group, with the reason."""

    state: str
    reason: str


class Aws:
    """The AWS API as this instance uses it, in the region of its user data."""

    def __init__(self, user_data: UserData, patience: Patience | None = None) -> None:
        """Prepare the SDK; a client is made by the first call that needs it."""
        # The SDK reads its settings from the environment; some of them cannot be passed in any other way.
        os.environ.update({**METADATA_SETTINGS, **user_data.sdk})
        self._region = user_data.region
        self._patience = patience or PATIENCE
        self._clients: dict[str, Any] = {}
        self._config = Config(
            connect_timeout=self._patience.connect, read_timeout=self._patience.answer,
            retries={'mode': 'standard', 'total_max_attempts': 1})

    def parameters(self, path: str) -> dict[str, str]:
        """Return the parameters directly under a path of the Parameter Store, by the last part of their names."""
        def fetch() -> dict[str, str]:
            pages = self._client('ssm').get_paginator('get_parameters_by_path').paginate(Path=path)
            return {parameter['Name'].removeprefix(f'{path}/'): _plain(parameter)
                    for page in pages for parameter in page['Parameters']}

        return self._call(f'parameters under {path}', fetch)

    def secret(self, reference: str, subject: str) -> str:
        """Return the current value of a secret; a failure names the subject.

        A message shows the reference only if it is an ARN, because anything else may be the secret itself, entered in
        place of its name.
        """
        def fetch() -> str:
            return str(self._client('secretsmanager').get_secret_value(SecretId=reference).get('SecretString') or '')

        shown = reference if reference.startswith('arn:') else 'its value'
        try:
            value = self._call(subject, fetch)
        except AwsFailed as error:
            raise AwsFailed(error.message.replace(reference, shown), error.code, error.is_transient) from None
        if not value:
            raise StepFailed(f'{subject}: the secret holds no text')
        return value

    def database_token(self, host: str, port: int, user: str) -> str:
        """Return a token, a database user's password for 15 minutes; it is signed here without a call."""
        return self._call('token for the database', lambda: str(
            self._client('rds').generate_db_auth_token(host, port, user, self._region)))

    def member(self, instance: str) -> Member | None:
        """Return an instance's membership in its group, None if it has no group."""
        answer = self._call('membership in the Auto Scaling group', lambda: (
            self._client('autoscaling').describe_auto_scaling_instances(InstanceIds=[instance])))
        members = [Member(each['AutoScalingGroupName'], each['LifecycleState'])
                   for each in answer['AutoScalingInstances']]
        return members[0] if members else None

    def complete(self, hook: str, group: str, instance: str, result: str) -> None:
        """Complete the action of a lifecycle hook with CONTINUE or ABANDON."""
        self._call(f'lifecycle hook {hook} of {group}', lambda: (
            self._client('autoscaling').complete_lifecycle_action(
                LifecycleHookName=hook, AutoScalingGroupName=group, InstanceId=instance,
                LifecycleActionResult=result)))

    def heartbeat(self, hook: str, group: str, instance: str) -> None:
        """Restart the time-out of a lifecycle hook."""
        self._call(f'lifecycle hook {hook} of {group}', lambda: (
            self._client('autoscaling').record_lifecycle_action_heartbeat(
                LifecycleHookName=hook, AutoScalingGroupName=group, InstanceId=instance)))

    def target_groups(self, group: str) -> list[str]:
        """Return the target groups that an Auto Scaling group registers its instances with."""
        answer = self._call(f'Auto Scaling group {group}', lambda: (
            self._client('autoscaling').describe_auto_scaling_groups(AutoScalingGroupNames=[group])))
        arns = {arn for each in answer['AutoScalingGroups'] for arn in each.get('TargetGroupARNs', [])}
        # TrafficSources is the newer field; it lists other kinds of sources as well.
        sources = {source['Identifier'] for each in answer['AutoScalingGroups']
                   for source in each.get('TrafficSources', []) if source.get('Type') == 'elbv2'}
        return sorted(arns | sources)

    def health(self, target_group: str, instance: str) -> Health:
        """Return an instance's health in a target group."""
        answer = self._call(f'target group {target_group}', lambda: (
            self._client('elbv2').describe_target_health(TargetGroupArn=target_group, Targets=[{'Id': instance}])))
        for description in answer['TargetHealthDescriptions']:
            health = description['TargetHealth']
            return Health(health['State'], health.get('Description') or health.get('Reason') or 'no reason given')
        return Health('unregistered', 'it is not a target of the group')

    def count(self, metric: str, dimensions: Sequence[Mapping[str, str]]) -> None:
        """Add one to a metric for each set of dimensions, because CloudWatch does not aggregate over dimensions."""
        data = [{'MetricName': metric, 'Value': 1, 'Unit': 'Count',
                 'Dimensions': [{'Name': name, 'Value': value} for name, value in each.items()]}
                for each in dimensions]
        self._call(f'metric {metric}', lambda: (
            self._client('cloudwatch').put_metric_data(Namespace=NAMESPACE, MetricData=data)))

    def measure(self, percentages: Mapping[str, float], dimensions: Mapping[str, str]) -> None:
        """Send one value of each metric, in per cent."""
        data = [{'MetricName': metric, 'Value': value, 'Unit': 'Percent',
                 'Dimensions': [{'Name': name, 'Value': each} for name, each in dimensions.items()]}
                for metric, value in percentages.items()]
        self._call(f'metrics {", ".join(percentages)}', lambda: (
            self._client('cloudwatch').put_metric_data(Namespace=NAMESPACE, MetricData=data)))

    def make_log_stream(self, group: str, stream: str) -> None:
        """Create a stream of a log group unless it exists."""
        def create() -> None:
            client = self._client('logs')
            try:
                client.create_log_stream(logGroupName=group, logStreamName=stream)
            except client.exceptions.ResourceAlreadyExistsException:
                pass

        self._call(f'log stream {group}/{stream}', create)

    def put_log_events(self, group: str, stream: str, events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Send events to a log stream and return CloudWatch's report of the events that it rejected."""
        answer = self._call(f'log stream {group}/{stream}', lambda: (
            self._client('logs').put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)))
        return dict(answer.get('rejectedLogEventsInfo') or {})

    def _client(self, service: str) -> Any:
        # The import takes half a second on a small instance, so a step that does not call AWS must not wait for it.
        import boto3
        if service not in self._clients:
            # Not boto3's default session, because two threads must not share it.
            session = boto3.Session(region_name=self._region or None)
            self._clients[service] = session.client(service, config=self._config)
        return self._clients[service]

    def _call(self, subject: str, act: Callable[[], Result]) -> Result:
        """Return the result of a call; retry a transient failure until the patience is over."""
        deadline = Deadline(self._patience.seconds)
        pause = FIRST_PAUSE
        while True:
            try:
                return _explain_failure(subject, act)
            except AwsFailed as error:
                if isinstance(error, CredentialsMissing):
                    # A client keeps the credentials that it was made with, so it must be made again.
                    self._clients.clear()
                if not error.is_transient:
                    raise
                if not deadline.left:
                    raise _final(subject, error) from None
            # Randomised, so that the instances of a group do not retry at the same moment.
            time.sleep(min(pause * random.uniform(0.5, 1), deadline.left))
            pause = min(2 * pause, LONGEST_PAUSE)


def _plain(parameter: Mapping[str, str]) -> str:
    if parameter['Type'] != 'String':
        raise StepFailed(f'parameter {parameter["Name"]} is a {parameter["Type"]}; use a String; for a secret, use a '
                         'String with the name of a secret in Secrets Manager')
    return parameter['Value']


def _explain_failure(subject: str, act: Callable[[], Result]) -> Result:
    """Return the result of a call; raise AwsFailed with one sentence for each error of the SDK."""
    from botocore.parsers import ResponseParserError
    try:
        return act()
    except (NoCredentialsError, CredentialRetrievalError, MetadataRetrievalError) as error:
        raise CredentialsMissing(f'{subject}: {error}', is_transient=True) from None
    except ClientError as error:
        code = str(error.response['Error'].get('Code'))
        status = error.response.get('ResponseMetadata', {}).get('HTTPStatusCode')
        is_transient = code in TRANSIENT_CODES or status in TRANSIENT_STATUSES
        raise _type_of(code, error)(f'{subject}: {_answer(code, error)}', code, is_transient) from None
    except (NotConnected, HTTPClientError, ResponseParserError) as error:
        raise AwsFailed(f'{subject}: {error}', is_transient=True) from None
    except ParamValidationError as error:
        raise AwsFailed(f'{subject}: {error}', INVALID) from None
    except (BotoCoreError, OSError, ValueError) as error:
        # A file that the user data names, such as a token's, or a setting that the SDK cannot read.
        raise AwsFailed(f'{subject}: {error}') from None


def _type_of(code: str, error: ClientError) -> type[AwsFailed]:
    message = str(error.response['Error'].get('Message'))
    is_missing_action = code == NO_LIFECYCLE_ACTION_CODE and NO_LIFECYCLE_ACTION in message
    return NoLifecycleAction if is_missing_action else AwsFailed


def _final(subject: str, error: AwsFailed) -> AwsFailed:
    """Return the error that ends a call; for missing credentials, explain it by the metadata service's answer."""
    if not isinstance(error, CredentialsMissing):
        return error

    try:
        role = Metadata(seconds=0).fetch_role()
    except MetadataUnavailable as unavailable:
        return AwsFailed(f'{subject}: no credentials: {unavailable.message}')
    if not role:
        return AwsFailed(f'{subject}: no credentials; this instance needs an instance profile with a role')
    return AwsFailed(f'{subject}: no credentials: the metadata service names the role {role} but returns none of its '
                     'credentials')


def _answer(code: str, error: ClientError) -> str:
    message = str(error.response['Error'].get('Message'))
    if code not in CLOCK_CODES:
        return f'{code}: {message}'
    now = datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
    return f'{code}: {message} (the clock of this instance shows {now}; if that is wrong, so is the signature)'
