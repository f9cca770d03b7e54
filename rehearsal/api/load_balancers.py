"""The programs behind load balancers, as the API knows them; without machines, records alone."""

from collections.abc import Sequence
from typing import Protocol

from rehearsal.api.traffic import Request


class LoadBalancers(Protocol):
    """The programs behind load balancers."""

    # Whether they exist; the alternative is records, whose registered targets are healthy while they run.
    has_programs: bool

    @property
    def requests(self) -> Sequence[Request]:
        """All requests so far, the oldest first."""

    def changed(self) -> None:
        """Order that the programs follow the records."""

    def address_of(self, balancer: str) -> str | None:
        """Return the address of a load balancer, by its ARN; None for one without a program."""


class Records:
    """The load balancers of a rehearsal without programs, whose registered targets are healthy while they run."""

    has_programs = False
    requests: Sequence[Request] = ()

    def changed(self) -> None:
        """Do nothing, because no program follows the records."""

    def address_of(self, balancer: str) -> str | None:
        """Return no address."""
        return None
