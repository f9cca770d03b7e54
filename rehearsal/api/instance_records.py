"""What the API tells of instances, as moto keeps it, and what may be asked of an instance in which state."""

from copy import copy
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance, StateReason

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html
CODES = {'pending': 0, 'running': 16, 'shutting-down': 32, 'terminated': 48, 'stopping': 64, 'stopped': 80}
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
BY_ITSELF, NOT_LAUNCHED = 'Client.InstanceInitiatedShutdown', 'Server.InternalError'
# The states in which an action can be asked for; the first of each pair is one that it changes nothing in.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html
ALLOWED = {'started': (('running', 'pending'), ('stopped',)), 'stopped': (('stopped', 'stopping'), ('running',)),
           'rebooted': ((), ('running',)), 'terminated': (('terminated', 'shutting-down'), tuple(CODES)),
           'imaged': ((), ('running', 'stopped'))}
moto_stop, moto_start, moto_terminate = Instance.stop, Instance.start, Instance.terminate


class IncorrectInstanceState(EC2ClientError):
    """An action that an instance in its state does not allow."""

    def __init__(self, instance: str, state: str, action: str) -> None:
        """Say which instance is in which state."""
        super().__init__('IncorrectInstanceState',
                         f"The instance '{instance}' is '{state}' and not in a state from which it can be {action}")


def must_change(instance: Any, action: str) -> bool:
    """Return whether an action changes anything about an instance; refuse it where its state does not allow it."""
    unchanged, allowed = ALLOWED[action]
    if instance.state in unchanged:
        return False
    if instance.state not in allowed:
        raise IncorrectInstanceState(instance.id, instance.state, action)
    return True


def tell(instance: Any, state: str) -> Any:
    """Have the API tell another state of an instance, and return the one before."""
    before = copy(instance._state)
    instance._state.name, instance._state.code = state, CODES[state]
    return before


class MotoRecord:
    def __init__(self, instance: Any) -> None:
        """Keep moto's record of an instance true."""
        self._instance = instance
        self.id = instance.id

    @property
    def terminates_when_off(self) -> bool:
        """Whether it is to be terminated, not stopped, when it turns itself off."""
        return bool(self._instance.instance_initiated_shutdown_behavior == 'terminate')

    def running(self) -> None:
        """Tell that it runs, unless somebody has ordered its end meanwhile."""
        if self._instance.state in ('pending', 'running', 'stopped'):
            moto_start(self._instance)

    def stopped(self, by_itself: bool) -> None:
        """Tell that it is off, unless somebody has ordered its end meanwhile."""
        if self._instance.state not in ('shutting-down', 'terminated'):
            moto_stop(self._instance)
            self._explain(by_itself)

    def terminated(self, by_itself: bool) -> None:
        """Tell that it is no more."""
        moto_terminate(self._instance)
        self._explain(by_itself)

    def not_launched(self, reason: str) -> None:
        """Tell that it has never run."""
        moto_terminate(self._instance)
        self._instance.state_reason = StateReason(f'{NOT_LAUNCHED}: {reason}', NOT_LAUNCHED)

    def _explain(self, by_itself: bool) -> None:
        if by_itself:
            self._instance.state_reason = StateReason(f'{BY_ITSELF}: Instance initiated shutdown', BY_ITSELF)
