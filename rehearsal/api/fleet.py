"""The machines behind the API's instances, as the API knows them; without machines, records alone."""

from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any, Protocol

from rehearsal.api.instance_records import MotoRecord
from rehearsal.errors import RehearsalError


class Fleet(Protocol):
    """The machines behind instances, and the disks behind AMIs."""

    def check(self, ami: str) -> None:
        """Refuse an AMI that no machine can be made from."""

    def launch(self, instance: Any) -> None:
        """Order that a new instance's machine is made and started."""

    def start(self, instance: Any) -> None:
        """Order that an instance's machine is started again."""

    def stop(self, instance: Any) -> None:
        """Order that an instance's machine is shut down."""

    def reboot(self, instance: Any) -> None:
        """Order that an instance's machine is shut down and started again."""

    def terminate(self, instance: Any) -> None:
        """Order that an instance's machine is shut down and removed."""

    def console(self, instance: Any) -> str:
        """Return the console of an instance."""

    def capture(self, instance: Any, ami: Any, while_off: bool) -> None:
        """Order that an instance's disks are stored under the id of an AMI."""

    def copy(self, source: str, ami: Any) -> None:
        """Store the disks of an AMI under the id of its copy, too."""

    def forget(self, ami: str) -> None:
        """Delete the disks of an AMI."""

    def forget_network(self, block: IPv4Network) -> None:
        """Delete the network of a VPC that has no machine."""


class Records:
    """A fleet without machines, whose instances reach the state of an order at once.

    A program in the same process sets the text of consoles and the state of new AMIs.
    """

    def __init__(self, source: str) -> None:
        """Know the source AMI alone."""
        self._source = source
        self.reset()

    def reset(self) -> None:
        """Forget all AMIs but the source AMI, and show empty consoles."""
        self._amis = {self._source}
        self.console_of: Callable[[Any], str] = lambda _instance: ''
        self.state_of_new_amis = 'available'

    def check(self, ami: str) -> None:
        """Refuse an unknown AMI."""
        if ami not in self._amis:
            raise RehearsalError(f'{ami} is unknown')

    def launch(self, instance: Any) -> None:
        """Record that a new instance runs."""
        MotoRecord(instance).running()

    def start(self, instance: Any) -> None:
        """Record that an instance runs again."""
        MotoRecord(instance).running()

    def stop(self, instance: Any) -> None:
        """Record that an instance is off."""
        MotoRecord(instance).stopped(by_itself=False)

    def reboot(self, instance: Any) -> None:
        """Leave the record as it is, because the instance runs again at once."""

    def terminate(self, instance: Any) -> None:
        """Record that an instance is terminated."""
        MotoRecord(instance).terminated(by_itself=False)

    def console(self, instance: Any) -> str:
        """Return the text that a program in this process decides; empty by default."""
        return self.console_of(instance)

    def capture(self, instance: Any, ami: Any, while_off: bool) -> None:
        """Record that an AMI exists."""
        self._amis.add(ami.id)
        ami.state = self.state_of_new_amis

    def copy(self, source: str, ami: Any) -> None:
        """Record that the copy of an AMI exists."""
        self._amis.add(ami.id)
        ami.state = self.state_of_new_amis

    def forget(self, ami: str) -> None:
        """Forget an AMI."""
        self._amis.discard(ami)

    def forget_network(self, block: IPv4Network) -> None:
        """Do nothing, because records need no network."""
