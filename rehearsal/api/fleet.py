"""The machines behind the API's instances, as the API knows them; without machines, records alone."""

from typing import Any, Protocol

from rehearsal.api.instance_records import MotoRecord
from rehearsal.errors import RehearsalError


class Fleet(Protocol):
    """What is done with machines when the API is asked for something."""

    def check(self, ami: str) -> None:
        """Refuse an AMI that no machine can be made from."""

    def launch(self, instance: Any) -> None:
        """Have a new instance's machine made and started."""

    def start(self, instance: Any) -> None:
        """Have an instance's machine started again."""

    def stop(self, instance: Any) -> None:
        """Have an instance's machine shut down."""

    def reboot(self, instance: Any) -> None:
        """Have an instance's machine shut down and started again."""

    def terminate(self, instance: Any) -> None:
        """Have an instance's machine shut down and removed."""

    def console(self, instance: str) -> str:
        """Return what an instance has written to its console."""

    def capture(self, instance: Any, ami: Any, while_off: bool) -> None:
        """Have an instance's disks stored under the id of an AMI."""

    def copy(self, source: str, ami: Any) -> None:
        """Have an AMI stored once more."""

    def forget(self, ami: str) -> None:
        """Have what is stored of an AMI deleted."""


class NoMachines:
    def __init__(self, source: str) -> None:
        """Keep records of instances, and have nothing behind them; `source` is the AMI that is there at first."""
        self._amis = {source}

    def check(self, ami: str) -> None:
        """Refuse an AMI that is not known."""
        if ami not in self._amis:
            raise RehearsalError(f'{ami} is not known')

    def launch(self, instance: Any) -> None:
        """Tell that a new instance runs."""
        MotoRecord(instance).running()

    def start(self, instance: Any) -> None:
        """Tell that an instance runs again."""
        MotoRecord(instance).running()

    def stop(self, instance: Any) -> None:
        """Tell that an instance is off."""
        MotoRecord(instance).stopped(by_itself=False)

    def reboot(self, instance: Any) -> None:
        """Tell that an instance runs."""

    def terminate(self, instance: Any) -> None:
        """Tell that an instance is no more."""
        MotoRecord(instance).terminated(by_itself=False)

    def console(self, instance: str) -> str:
        """Return that nothing was written."""
        return ''

    def capture(self, instance: Any, ami: Any, while_off: bool) -> None:
        """Tell that an AMI is there."""
        self._amis.add(ami.id)
        ami.state = 'available'

    def copy(self, source: str, ami: Any) -> None:
        """Tell that an AMI is there once more."""
        self._amis.add(ami.id)
        ami.state = 'available'

    def forget(self, ami: str) -> None:
        """Know an AMI no more."""
        self._amis.discard(ami)
