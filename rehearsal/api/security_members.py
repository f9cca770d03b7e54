"""The members of security groups: everything with an address that a rule can refer to by its group.

https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html#security-group-referencing
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from moto.elbv2.models import elbv2_backends
from moto.rds.models import rds_backends

GONE = ('shutting-down', 'terminated')


@dataclass(frozen=True)
class Member:
    """An instance, database, load balancer or VPC endpoint: its security groups, and the address of its packets."""

    groups: frozenset[str]
    address: str
    kind: str
    # The only port at which it accepts connections; None for any.
    port: int | None = None


def instances(backend: Any) -> Iterator[Member]:
    """Yield the instances of a region, one member for each network interface."""
    for reservation in list(backend.reservations.values()):
        for instance in reservation.instances:
            if instance.state not in GONE:
                for card in instance.nics.values():
                    groups = frozenset(group.id for group in card.group_set)
                    yield Member(groups, str(card.private_ip_address), 'instance')


def databases(backend: Any) -> Iterator[Member]:
    """Yield the databases of a region that have an address."""
    for database in list(rds_backends[backend.account_id][backend.region_name].databases.values()):
        address = getattr(database, 'rehearsal_address', None)
        if address:
            yield Member(frozenset(database.vpc_security_group_ids), address, 'database', int(database.port or 0))


def load_balancers(backend: Any) -> Iterator[Member]:
    """Yield the load balancers of a region; their packets come from this host's address in their VPC."""
    for balancer in list(elbv2_backends[backend.account_id][backend.region_name].load_balancers.values()):
        block = IPv4Network(backend.get_vpc(balancer.vpc_id).cidr_block)
        yield Member(frozenset(balancer.security_groups), str(block[1]), 'load balancer')


def endpoints(backend: Any) -> Iterator[Member]:
    """Yield the interface endpoints of a region, one member for each network interface."""
    for endpoint in list(backend.vpc_end_points.values()):
        if endpoint.state == 'available':
            for card in endpoint.network_interface_ids:
                address = backend.get_network_interface(card).private_ip_address
                yield Member(frozenset(endpoint.security_group_ids), str(address), 'endpoint', 443)


# A new kind of resource with security groups adds a function.
SOURCES: tuple[Callable[[Any], Iterable[Member]], ...] = (instances, databases, load_balancers, endpoints)


def members(backend: Any) -> list[Member]:
    """Return all members of the security groups of a region, from moto's records of EC2 there."""
    return [member for source in SOURCES for member in source(backend)]


def members_of(everything: Iterable[Member], group: str) -> list[Member]:
    """Return the members of one security group."""
    return [member for member in everything if group in member.groups]
