"""The only place where a machine calls AWS; what can go wrong there becomes one sentence."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
import os
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError, NoCredentialsError

from instance.errors import StepFailed
from instance.settings import Settings

# AWS refuses a request whose signature is minutes old or young by its own clock; these are its names for that.
CLOCK_ERRORS = ('InvalidSignatureException', 'RequestExpired', 'RequestTimeTooSkewed', 'SignatureDoesNotMatch')
NAMESPACE = 'Visitors'


class AwsFailed(StepFailed):
    def __init__(self, reason: str, error: str = '') -> None:
        """Hold why a call of AWS failed, and AWS's own name of the error where it has answered."""
        super().__init__(reason)
        self.error = error


@dataclass(frozen=True)
class Patience:
    """How long a call of AWS may take: seconds to connect and to be answered, and tries in all."""

    connect: float = 3
    answer: float = 10
    # With the pauses between them about a minute: what is away for shorter shall not cost a machine.
    tries: int = 8


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
    def __init__(self, settings: Settings, patience: Patience = Patience()) -> None:
        """Call AWS as the user data says; nothing is sent before something is asked."""
        # The SDK reads its own settings from the environment, and there is no other way to give it all of them.
        os.environ.update(settings.sdk)
        self._region = settings.region
        self._clients: dict[str, Any] = {}
        self._config = Config(
            connect_timeout=patience.connect, read_timeout=patience.answer,
            retries={'mode': 'standard', 'total_max_attempts': patience.tries})

    def parameters(self, path: str) -> dict[str, str]:
        """Return the plain parameters right under a path of the Parameter Store, by the last part of their names."""
        found: dict[str, str] = {}
        with _explained(f'parameters under {path}'):
            pages = self._client('ssm').get_paginator('get_parameters_by_path').paginate(Path=path)
            for parameter in (each for page in pages for each in page['Parameters']):
                if parameter['Type'] != 'String':
                    raise StepFailed(f'parameter {parameter["Name"]} is a {parameter["Type"]}; use a String, and for '
                                     'a secret one whose value is the name of a secret of Secrets Manager')
                found[parameter['Name'].removeprefix(f'{path}/')] = parameter['Value']
        return found

    def secret(self, name: str) -> str:
        """Return the current value of a secret."""
        with _explained(f'secret {name}'):
            value = self._client('secretsmanager').get_secret_value(SecretId=name).get('SecretString')
        if not value:
            raise StepFailed(f'secret {name} holds no text')
        return str(value)

    def database_token(self, host: str, port: int, user: str) -> str:
        """Return a token that is the password of a database user for a quarter of an hour; signed here, not asked."""
        with _explained('token for the database'):
            return str(self._client('rds').generate_db_auth_token(host, port, user, self._region))

    def member(self, instance: str) -> Member | None:
        """Return a machine's place in its group, None where it has no group."""
        with _explained('place in the Auto Scaling group'):
            answer = self._client('autoscaling').describe_auto_scaling_instances(InstanceIds=[instance])
        found = [Member(each['AutoScalingGroupName'], each['LifecycleState'])
                 for each in answer['AutoScalingInstances']]
        return found[0] if found else None

    def complete(self, hook: str, group: str, instance: str, result: str) -> None:
        """Tell a group how the action of a lifecycle hook has ended: CONTINUE or ABANDON."""
        with _explained(f'lifecycle hook {hook} of {group}'):
            self._client('autoscaling').complete_lifecycle_action(
                LifecycleHookName=hook, AutoScalingGroupName=group, InstanceId=instance,
                LifecycleActionResult=result)

    def heartbeat(self, hook: str, group: str, instance: str) -> None:
        """Make a lifecycle hook wait for its time-out again."""
        with _explained(f'lifecycle hook {hook} of {group}'):
            self._client('autoscaling').record_lifecycle_action_heartbeat(
                LifecycleHookName=hook, AutoScalingGroupName=group, InstanceId=instance)

    def target_groups(self, group: str) -> list[str]:
        """Return the target groups that an Auto Scaling group registers its machines with."""
        with _explained(f'Auto Scaling group {group}'):
            answer = self._client('autoscaling').describe_auto_scaling_groups(AutoScalingGroupNames=[group])
        named = {arn for each in answer['AutoScalingGroups'] for arn in each.get('TargetGroupARNs', [])}
        # The newer name for the same, which holds other kinds of sources as well.
        sources = {source['Identifier'] for each in answer['AutoScalingGroups']
                   for source in each.get('TrafficSources', []) if source.get('Type') == 'elbv2'}
        return sorted(named | sources)

    def health(self, target_group: str, instance: str) -> Health:
        """Return what a target group says of a machine."""
        with _explained(f'target group {target_group}'):
            answer = self._client('elbv2').describe_target_health(
                TargetGroupArn=target_group, Targets=[{'Id': instance}])
        for described in answer['TargetHealthDescriptions']:
            health = described['TargetHealth']
            return Health(health['State'], health.get('Description') or health.get('Reason') or 'no reason given')
        return Health('unregistered', 'the target group does not know it')

    def count(self, metric: str, dimensions: Sequence[Mapping[str, str]]) -> None:
        """Add one to a metric, once for each set of dimensions: CloudWatch does not add up over them."""
        data = [{'MetricName': metric, 'Value': 1, 'Unit': 'Count',
                 'Dimensions': [{'Name': name, 'Value': value} for name, value in each.items()]}
                for each in dimensions]
        with _explained(f'metric {metric}'):
            self._client('cloudwatch').put_metric_data(Namespace=NAMESPACE, MetricData=data)

    def make_log_stream(self, group: str, stream: str) -> None:
        """Make a stream of a log group, if it is not there."""
        with _explained(f'log stream {group}/{stream}'):
            client = self._client('logs')
            try:
                client.create_log_stream(logGroupName=group, logStreamName=stream)
            except client.exceptions.ResourceAlreadyExistsException:
                pass

    def put_log_events(self, group: str, stream: str, events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Send events to a log stream and return what CloudWatch says of those that it does not take."""
        with _explained(f'log stream {group}/{stream}'):
            answer = self._client('logs').put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
        return dict(answer.get('rejectedLogEventsInfo') or {})

    def _client(self, service: str) -> Any:
        # Half a second on a small machine, so who does not call AWS does not wait for it.
        import boto3
        if service not in self._clients:
            # Not boto3's own session, which two threads must not use at a time.
            session = boto3.Session(region_name=self._region or None)
            self._clients[service] = session.client(service, config=self._config)
        return self._clients[service]


@contextmanager
def _explained(subject: str) -> Iterator[None]:
    try:
        yield
    except (NoCredentialsError, CredentialRetrievalError):
        raise AwsFailed(f'{subject}: no credentials; this machine needs an instance profile with a role') from None
    except ClientError as error:
        code = str(error.response['Error'].get('Code'))
        raise AwsFailed(f'{subject}: {_answer(code, error)}', code) from None
    except BotoCoreError as error:
        raise AwsFailed(f'{subject}: {error}') from None


def _answer(code: str, error: ClientError) -> str:
    message = str(error.response['Error'].get('Message'))
    if code not in CLOCK_ERRORS:
        return f'{code}: {message}'
    now = datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')
    return f'{code}: {message} (by the clock of this machine it is {now}; if that is wrong, so is the signature)'
