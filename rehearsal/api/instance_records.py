"""Moto's records of instances: their states, and the actions that each state allows."""

from copy import copy
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import StateReason

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html
CODES = {'pending': 0, 'running': 16, 'shutting-down': 32, 'terminated': 48, 'stopping': 64, 'stopped': 80}
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
BY_ITSELF, NOT_LAUNCHED = 'Client.InstanceInitiatedShutdown', 'Server.InternalError'
# The states that allow an action; in those of the first part of each pair it changes nothing.
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html
ALLOWED = {'started': (('running', 'pending'), ('stopped',)), 'stopped': (('stopped', 'stopping'), ('running',)),
           'rebooted': ((), ('running',)), 'terminated': (('terminated', 'shutting-down'), tuple(CODES)),
           'imaged': ((), ('running', 'stopped'))}


class IncorrectInstanceState(EC2ClientError):
    """The refusal of an action that the state of an instance does not allow."""

    def __init__(self, instance: str, state: str, action: str) -> None:
        """Name instance, state and action."""
        super().__init__('IncorrectInstanceState',
                         f"The instance '{instance}' is '{state}' and not in a state from which it can be {action}")


def must_change(instance: Any, action: str) -> bool:
    """Return whether an action changes an instance; raise IncorrectInstanceState where its state does not allow it."""
    unchanged, allowed = ALLOWED[action]
    if instance.state in unchanged:
        return False
    if instance.state not in allowed:
        raise IncorrectInstanceState(instance.id, instance.state, action)
    return True


def set_state(instance: Any, state: str) -> Any:
    """Set the state of an instance, and return the one before."""
    before = copy(instance._state)
    instance._state.name, instance._state.code = state, CODES[state]
    return before


class MotoRecord:
    """Moto's record of an instance, as its machine changes it.

    Only moto's own methods, now called `moto_start` and so on, change the record; the others order a machine.
    """

    def __init__(self, instance: Any) -> None:
        """Keep the record of this instance."""
        self._instance = instance
        self.id = instance.id

    @property
    def terminates_when_off(self) -> bool:
        """Whether the instance is terminated, not stopped, when it powers itself off."""
        return bool(self._instance.instance_initiated_shutdown_behavior == 'terminate')

    def running(self) -> None:
        """Record that it runs, unless its end has been ordered meanwhile."""
        if self._instance.state in ('pending', 'running', 'stopped'):
            self._instance.moto_start()

    def stopped(self, by_itself: bool) -> None:
        """Record that it is off, unless its end has been ordered meanwhile."""
        if self._instance.state not in ('shutting-down', 'terminated'):
            self._instance.moto_stop()
            self._explain(by_itself)

    def terminated(self, by_itself: bool) -> None:
        """Record that it is terminated."""
        self._instance.moto_terminate()
        release(self._instance)
        self._explain(by_itself)

    def not_launched(self, reason: str) -> None:
        """Record that its launch failed."""
        self._instance.moto_terminate()
        release(self._instance)
        self._instance.state_reason = StateReason(f'{NOT_LAUNCHED}: {reason}', NOT_LAUNCHED)

    def _explain(self, by_itself: bool) -> None:
        if by_itself:
            self._instance.state_reason = StateReason(f'{BY_ITSELF}: Instance initiated shutdown', BY_ITSELF)


def release(instance: Any) -> None:
    """Free the addresses of a terminated instance, and detach the interfaces that outlive it."""
    if instance.subnet_id and any(instance.subnet_id in zone for zone in instance.ec2_backend.subnets.values()):
        subnet = instance.ec2_backend.get_subnet(instance.subnet_id)
        for address in instance._private_ips:
            subnet.del_subnet_ip(address)
    for interface in instance.nics.values():
        if interface.id in instance.ec2_backend.enis:
            interface.instance, interface.attachment_id, interface.attach_time = None, None, None
            interface.status, interface.device_index = 'available', None
