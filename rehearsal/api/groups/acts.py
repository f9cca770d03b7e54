"""Acts on the instances of a group, and the attributes of an instance and a group that decide about them."""

from dataclasses import dataclass
from datetime import datetime

# Instances in standby do not count, nor do those that are leaving.
COUNTED = ('Pending', 'Pending:Wait', 'Pending:Proceed', 'InService')
LEAVING = ('Terminating', 'Terminating:Wait', 'Terminating:Proceed')
IN_SERVICE, STANDBY = 'InService', 'Standby'
# Its load balancers end its requests before it is in standby, or out of the group.
ENTERING_STANDBY, DETACHING = 'EnteringStandby', 'Detaching'


@dataclass(frozen=True)
class Version:
    """A version of a launch template; both texts are empty for an instance that no template made."""

    template: str = ''
    number: str = ''


@dataclass(frozen=True)
class Launch:
    """The launch of one instance from a version of a template."""

    version: Version
    cause: str


@dataclass(frozen=True)
class Leave:
    """The end of an instance: it is deregistered and drained, waits for its hooks, and is terminated."""

    instance: str
    cause: str


Act = Launch | Leave


@dataclass(frozen=True)
class Member:
    """An instance of a group, with the attributes that decide about it."""

    instance: str
    state: str
    zone: str
    version: Version
    launched: datetime
    is_protected: bool = False
    # The time of AWS's pace since which it is in service and healthy in its target groups; None before.
    healthy_since: float | None = None
    # The cause of its replacement, if it fails a health check.
    failure: str = ''
    runs: bool = True

    @property
    def counts(self) -> bool:
        """Whether it is part of the group's capacity."""
        return self.state in COUNTED

    @property
    def is_standby(self) -> bool:
        """Whether it is in standby."""
        return self.state in (STANDBY, ENTERING_STANDBY)

    @property
    def is_leaving(self) -> bool:
        """Whether it is on its way out of the group."""
        return self.state in LEAVING

    def warms_until(self, warmup: float) -> float | None:
        """Return the end of its warm-up; None before it is healthy."""
        if self.state != IN_SERVICE or self.failure or self.healthy_since is None:
            return None
        return self.healthy_since + warmup

    def is_healthy(self, now: float, warmup: float = 0) -> bool:
        """Return whether it serves: in service, passing its health checks, and warmed up."""
        end = self.warms_until(warmup)
        return end is not None and now >= end


@dataclass(frozen=True)
class Rules:
    """The attributes of a group that decide about its instances."""

    desired: int
    version: Version = Version()
    termination_policies: tuple[str, ...] = ('Default',)
    # The instance maintenance policy, in percent of the desired capacity; None without one.
    min_healthy: int | None = None
    max_healthy: int | None = None
    # The default instance warm-up, in seconds.
    warmup: float = 0
    # False while the process is suspended.
    launches: bool = True
    terminates: bool = True
    replaces: bool = True


@dataclass(frozen=True)
class Replacements:
    """The part of a running instance refresh in the acts on its group.

    While it runs, the group launches `version`, also when it scales out. `acts` are the refresh's own. `most` is the
    number of instances that the group may have now: more than its desired capacity while the refresh launches before
    it terminates.
    """

    version: Version
    most: int
    acts: tuple[Act, ...] = ()
