"""Single instances in EC2: their state and their console."""

from release.aws import Aws
from release.errors import AwsFailed

ALIVE = ('pending', 'running', 'stopping', 'stopped')
UNKNOWN = 'unknown'
NO_INSTANCE = 'InvalidInstanceID.NotFound'
NO_LATEST_CONSOLE = 'UnsupportedOperation'


def state_of(aws: Aws, instance: str) -> str:
    """Return an instance's state; UNKNOWN if EC2 has forgotten the instance, or does not list it yet."""
    try:
        answer = aws.call('ec2', 'describe_instances', InstanceIds=[instance])
    except AwsFailed as error:
        if error.code == NO_INSTANCE:
            return UNKNOWN
        raise
    states = [each['State']['Name'] for reservation in answer['Reservations'] for each in reservation['Instances']]
    return str(states[0]) if states else UNKNOWN


def console_of(aws: Aws, instance: str) -> str:
    """Return an instance's console output: the current one if its type supports that, else EC2's last copy."""
    try:
        answer = aws.call('ec2', 'get_console_output', InstanceId=instance, Latest=True)
    except AwsFailed as error:
        if error.code != NO_LATEST_CONSOLE:
            raise
        answer = aws.call('ec2', 'get_console_output', InstanceId=instance)
    return str(answer.get('Output', ''))
