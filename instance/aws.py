"""The only place where a machine calls AWS; what can go wrong there becomes one sentence."""

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

# AWS refuses a request whose signature is minutes old or young by its own clock; these are its names for that.
CLOCK_ERRORS = ('InvalidSignatureException', 'RequestExpired', 'RequestTimeTooSkewed', 'SignatureDoesNotMatch')
# What passes by itself: too many requests, by all the names that services have for it, and a service in trouble.
PASSING_ERRORS = (
    'BandwidthLimitExceeded', 'EC2ThrottledException', 'InternalFailure', 'InternalServerError',
    'PriorRequestNotComplete', 'ProvisionedThroughputExceededException', 'RequestLimitExceeded', 'RequestThrottled',
    'RequestThrottledException', 'RequestTimeout', 'RequestTimeoutException', 'ServiceUnavailable', 'SlowDown',
    'ThrottledException', 'Throttling', 'ThrottlingException', 'TooManyRequestsException',
    'TransactionInProgressException')
PASSING_STATUSES = (429, 500, 502, 503, 504)
# AWS's answer where no lifecycle action waits: the code is a general one, so the message decides.
NO_LIFECYCLE_ACTION_CODE, NO_LIFECYCLE_ACTION = 'ValidationError', 'No active Lifecycle Action'
INVALID = 'ParamValidationError'
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
# The SDK itself asks the metadata service once and waits for a second, which a busy machine's first answer exceeds.
METADATA_SETTINGS = {'AWS_METADATA_SERVICE_TIMEOUT': '5', 'AWS_METADATA_SERVICE_NUM_ATTEMPTS': '1'}
NAMESPACE = 'Visitors'
Result = TypeVar('Result')


class AwsFailed(StepFailed):
    """The failure of a call of AWS: a message, AWS's error code if it answered, and whether a retry may succeed."""

    def __init__(self, message: str, code: str = '', passing: bool = False) -> None:
        """Keep the code and whether the failure is transient."""
        super().__init__(message)
        self.code = code
        self.passing = passing


class NoLifecycleAction(AwsFailed):
    """The answer that no lifecycle action of the instance waits: not yet, or no longer."""


class CredentialsMissing(AwsFailed):
    """The SDK found no credentials; why, only the metadata service can say."""


@dataclass(frozen=True)
class Patience:
    """How long a call of AWS may take: seconds to connect, to be answered, and for all of its tries together.

    The SDK's own retries count tries, and how long these last differs from version to version: there is one try a
    call, and the seconds are counted here.
    """

    connect: float = 3
    answer: float = 10
    # A service that is away for a minute does not cost a machine.
    seconds: float = 60


PATIENCE = Patience()


@dataclass(frozen=True)
class Member:
    """A machine's place in its Auto Scaling group."""

    group: str
    state: str


@dataclass(frozen=True)
class Health:
    """What a target group says of a machine, and why."""

    state: str
    why: str


class Aws:
    def __init__(self, settings: UserData, patience: Patience | None = None) -> None:
        """Call AWS as the user data says; nothing is sent before something is asked."""
        # The SDK reads its own settings from the environment, and there is no other way to give it all of them.
        os.environ.update({**METADATA_SETTINGS, **settings.sdk})
        self._region = settings.region
        self._patience = patience or PATIENCE
        self._clients: dict[str, Any] = {}
        self._config = Config(
            connect_timeout=self._patience.connect, read_timeout=self._patience.answer,
            retries={'mode': 'standard', 'total_max_attempts': 1})

    def parameters(self, path: str) -> dict[str, str]:
        """Return the plain parameters right under a path of the Parameter Store, by the last part of their names."""
        def ask() -> dict[str, str]:
            pages = self._client('ssm').get_paginator('get_parameters_by_path').paginate(Path=path)
            return {parameter['Name'].removeprefix(f'{path}/'): _plain(parameter)
                    for page in pages for parameter in page['Parameters']}

        return self._call(f'parameters under {path}', ask)

    def secret(self, reference: str, subject: str) -> str:
        """Return the current value of a secret; what goes wrong is said of the subject.

        The reference is shown if it is an ARN alone: anything else may be the secret itself, put where its name
        belongs.
        """
        def ask() -> str:
            return str(self._client('secretsmanager').get_secret_value(SecretId=reference).get('SecretString') or '')

        shown = reference if reference.startswith('arn:') else 'its value'
        try:
            value = self._call(subject, ask)
        except AwsFailed as error:
            raise AwsFailed(error.message.replace(reference, shown), error.code, error.passing) from None
        if not value:
            raise StepFailed(f'{subject}: the secret holds no text')
        return value

    def database_token(self, host: str, port: int, user: str) -> str:
        """Return a token that is the password of a database user for a quarter of an hour; signed here, not asked."""
        return self._call('token for the database', lambda: str(
            self._client('rds').generate_db_auth_token(host, port, user, self._region)))

    def member(self, instance: str) -> Member | None:
        """Return a machine's place in its group, None where it has no group."""
        answer = self._call('place in the Auto Scaling group', lambda: (
            self._client('autoscaling').describe_auto_scaling_instances(InstanceIds=[instance])))
        found = [Member(each['AutoScalingGroupName'], each['LifecycleState'])
                 for each in answer['AutoScalingInstances']]
        return found[0] if found else None

    def complete(self, hook: str, group: str, instance: str, result: str) -> None:
        """Tell a group how the action of a lifecycle hook has ended: CONTINUE or ABANDON."""
        self._call(f'lifecycle hook {hook} of {group}', lambda: (
            self._client('autoscaling').complete_lifecycle_action(
                LifecycleHookName=hook, AutoScalingGroupName=group, InstanceId=instance,
                LifecycleActionResult=result)))

    def heartbeat(self, hook: str, group: str, instance: str) -> None:
        """Make a lifecycle hook wait for its time-out again."""
        self._call(f'lifecycle hook {hook} of {group}', lambda: (
            self._client('autoscaling').record_lifecycle_action_heartbeat(
                LifecycleHookName=hook, AutoScalingGroupName=group, InstanceId=instance)))

    def target_groups(self, group: str) -> list[str]:
        """Return the target groups that an Auto Scaling group registers its machines with."""
        answer = self._call(f'Auto Scaling group {group}', lambda: (
            self._client('autoscaling').describe_auto_scaling_groups(AutoScalingGroupNames=[group])))
        named = {arn for each in answer['AutoScalingGroups'] for arn in each.get('TargetGroupARNs', [])}
        # The newer name for the same, which holds other kinds of sources as well.
        sources = {source['Identifier'] for each in answer['AutoScalingGroups']
                   for source in each.get('TrafficSources', []) if source.get('Type') == 'elbv2'}
        return sorted(named | sources)

    def health(self, target_group: str, instance: str) -> Health:
        """Return what a target group says of a machine."""
        answer = self._call(f'target group {target_group}', lambda: (
            self._client('elbv2').describe_target_health(TargetGroupArn=target_group, Targets=[{'Id': instance}])))
        for described in answer['TargetHealthDescriptions']:
            health = described['TargetHealth']
            return Health(health['State'], health.get('Description') or health.get('Reason') or 'no reason given')
        return Health('unregistered', 'the target group does not know it')

    def count(self, metric: str, dimensions: Sequence[Mapping[str, str]]) -> None:
        """Add one to a metric, once for each set of dimensions: CloudWatch does not add up over them."""
        data = [{'MetricName': metric, 'Value': 1, 'Unit': 'Count',
                 'Dimensions': [{'Name': name, 'Value': value} for name, value in each.items()]}
                for each in dimensions]
        self._call(f'metric {metric}', lambda: (
            self._client('cloudwatch').put_metric_data(Namespace=NAMESPACE, MetricData=data)))

    def make_log_stream(self, group: str, stream: str) -> None:
        """Make a stream of a log group, if it does not exist."""
        def make() -> None:
            client = self._client('logs')
            try:
                client.create_log_stream(logGroupName=group, logStreamName=stream)
            except client.exceptions.ResourceAlreadyExistsException:
                pass

        self._call(f'log stream {group}/{stream}', make)

    def put_log_events(self, group: str, stream: str, events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Send events to a log stream and return what CloudWatch says of those that it does not take."""
        answer = self._call(f'log stream {group}/{stream}', lambda: (
            self._client('logs').put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)))
        return dict(answer.get('rejectedLogEventsInfo') or {})

    def _client(self, service: str) -> Any:
        # Half a second on a small machine, so who does not call AWS does not wait for it.
        import boto3
        if service not in self._clients:
            # Not boto3's own session, which two threads must not use at a time.
            session = boto3.Session(region_name=self._region or None)
            self._clients[service] = session.client(service, config=self._config)
        return self._clients[service]

    def _call(self, subject: str, act: Callable[[], Result]) -> Result:
        """Return what a call returns; what may pass is tried again until the patience is over."""
        deadline = Deadline(self._patience.seconds)
        pause = FIRST_PAUSE
        while True:
            try:
                return _explained(subject, act)
            except AwsFailed as error:
                if isinstance(error, CredentialsMissing):
                    # A client keeps for good what credentials it was made with.
                    self._clients.clear()
                if not error.passing:
                    raise
                if not deadline.left:
                    raise _final(subject, error) from None
            # Not all machines of a group at the same moment.
            time.sleep(min(pause * random.uniform(0.5, 1), deadline.left))
            pause = min(2 * pause, LONGEST_PAUSE)


def _plain(parameter: Mapping[str, str]) -> str:
    if parameter['Type'] != 'String':
        raise StepFailed(f'parameter {parameter["Name"]} is a {parameter["Type"]}; use a String, and for '
                         'a secret one whose value is the name of a secret of Secrets Manager')
    return parameter['Value']


def _explained(subject: str, act: Callable[[], Result]) -> Result:
    """Return what a call returns; raise AwsFailed with one sentence for all that the SDK raises."""
    from botocore.parsers import ResponseParserError
    try:
        return act()
    except (NoCredentialsError, CredentialRetrievalError, MetadataRetrievalError) as error:
        raise CredentialsMissing(f'{subject}: {error}', passing=True) from None
    except ClientError as error:
        code = str(error.response['Error'].get('Code'))
        status = error.response.get('ResponseMetadata', {}).get('HTTPStatusCode')
        passing = code in PASSING_ERRORS or status in PASSING_STATUSES
        raise _type_of(code, error)(f'{subject}: {_answer(code, error)}', code, passing) from None
    except (NotConnected, HTTPClientError, ResponseParserError) as error:
        raise AwsFailed(f'{subject}: {error}', passing=True) from None
    except ParamValidationError as error:
        raise AwsFailed(f'{subject}: {error}', INVALID) from None
    except (BotoCoreError, OSError, ValueError) as error:
        # Files that the user data names, as a token's, and settings of the SDK that it cannot read.
        raise AwsFailed(f'{subject}: {error}') from None


def _type_of(code: str, error: ClientError) -> type[AwsFailed]:
    message = str(error.response['Error'].get('Message'))
    is_missing_action = code == NO_LIFECYCLE_ACTION_CODE and NO_LIFECYCLE_ACTION in message
    return NoLifecycleAction if is_missing_action else AwsFailed


def _final(subject: str, error: AwsFailed) -> AwsFailed:
    """Return the error that a call ends with; where credentials are missing, with what the metadata service says."""
    if not isinstance(error, CredentialsMissing):
        return error

    try:
        role = Metadata(seconds=0).fetch_role()
    except MetadataUnavailable as away:
        return AwsFailed(f'{subject}: no credentials: {away.message}')
    if not role:
        return AwsFailed(f'{subject}: no credentials; this machine needs an instance profile with a role')
    return AwsFailed(f'{subject}: no credentials: the metadata service names the role {role} and gives none of its '
                     'credentials')


def _answer(code: str, error: ClientError) -> str:
    message = str(error.response['Error'].get('Message'))
    if code not in CLOCK_ERRORS:
        return f'{code}: {message}'
    now = datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
    return f'{code}: {message} (by the clock of this machine it is {now}; if that is wrong, so is the signature)'
