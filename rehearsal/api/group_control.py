"""The control of groups, as the API's actions need it."""

from threading import Event
from typing import Any, Protocol


class Control(Protocol):
    """The control of all groups."""

    # Set whenever a group may need an act.
    changed: Event

    def now(self) -> float:
        """Return the time of the real clock, which measures waits and grace periods."""

    def leave(self, group: Any, member: Any, cause: str, with_hooks: bool = True) -> dict[str, Any]:
        """Begin the end of an instance, and return the activity."""

    def drain(self, group: Any, member: Any, state: str, activity: dict[str, Any]) -> None:
        """Take an instance out of the load balancers of its group; `state` says why."""

    def enter(self, group: Any, member: Any, activity: dict[str, Any], with_hooks: bool = True) -> None:
        """Begin the way of an instance into service."""

    def waiting(self, group: Any, instance: str | None, token: str | None, hook: str) -> Any:
        """Return the wait for a hook, found by the instance's id or the wait's token."""
