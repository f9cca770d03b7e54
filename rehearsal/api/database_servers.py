"""The servers behind the API's databases, as the API knows them; without servers, records alone."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

Done = Callable[[], None]


class DatabaseServers(Protocol):
    """The servers behind the DB instances of RDS.

    Each order changes the status of its database at once, and again when it is carried out.
    """

    are_real: bool

    def create(self, database: Any, snapshot: str | None) -> None:
        """Order a server for a new database, empty or with a snapshot's data; raise RehearsalError without one."""

    def modify(self, database: Any) -> None:
        """Order that an association with another parameter group is noticed."""

    def change_parameters(self, database: Any, changed: Collection[str]) -> None:
        """Order that a server follows some parameters of its group."""

    def set_password(self, database: Any, password: str, done: Done) -> None:
        """Order a new password of the master; `done` records it."""

    def reboot(self, database: Any, fails_over: bool) -> None:
        """Order that a server is started again, on its standby if it fails over."""

    def stop(self, database: Any) -> None:
        """Order that a server is stopped."""

    def start(self, database: Any) -> None:
        """Order that a stopped server is started."""

    def delete(self, database: Any, snapshot: str | None, done: Done) -> None:
        """Order that a server is removed, after a final snapshot if that has a name; `done` records it."""

    def take_snapshot(self, database: Any, snapshot: Any, place: str) -> None:
        """Order a copy of a server's data."""

    def has_snapshot(self, snapshot: str) -> bool:
        """Return whether there is a copy of this name."""

    def forget_snapshot(self, snapshot: str) -> None:
        """Delete a copy."""

    def is_pending(self, database: Any) -> bool:
        """Return whether a reboot would change a parameter of a database."""


class DatabaseRecords:
    """Databases without servers, which reach the state of an order at once."""

    are_real = False

    def create(self, database: Any, snapshot: str | None) -> None:
        """Leave the record as it is, because the database is available at once."""

    def modify(self, database: Any) -> None:
        """Leave the record as it is."""

    def change_parameters(self, database: Any, changed: Collection[str]) -> None:
        """Leave the record as it is."""

    def set_password(self, database: Any, password: str, done: Done) -> None:
        """Record the password."""
        done()

    def reboot(self, database: Any, fails_over: bool) -> None:
        """Leave the record as it is, because the database is available again at once."""

    def stop(self, database: Any) -> None:
        """Record that a database is off."""
        database.status = 'stopped'

    def start(self, database: Any) -> None:
        """Record that a database is available again."""
        database.status = 'available'

    def delete(self, database: Any, snapshot: str | None, done: Done) -> None:
        """Record that a database is gone."""
        done()

    def take_snapshot(self, database: Any, snapshot: Any, place: str) -> None:
        """Leave the record as it is, because the snapshot is available at once."""

    def has_snapshot(self, snapshot: str) -> bool:
        """Return that there is each copy that has a record."""
        return True

    def forget_snapshot(self, snapshot: str) -> None:
        """Keep nothing that could be deleted."""

    def is_pending(self, database: Any) -> bool:
        """Return that no parameter waits for a reboot."""
        return False
