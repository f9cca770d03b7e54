"""The names of a rehearsal, and those that AWS gives to load balancers and databases, from moto's records."""

from collections.abc import Iterator

from moto.elbv2.models import elbv2_backends
from moto.rds.models import rds_backends
from moto.route53.models import route53_backends

from rehearsal.names.resolver import local_address
from rehearsal.names.zones import address_in


def address_of(name: str) -> str | None:
    """Return the address of a name in this rehearsal; None for a name without one."""
    zones = [zone for account in list(route53_backends.values()) for zone in account['global'].zones.values()]
    return local_address(name) or address_in(name, [record for zone in zones for record in list(zone.rrsets)],
                                             own_names())


def own_names() -> dict[str, str]:
    """Return the addresses of all load balancers and databases by name.

    A record without a server of its own has no `rehearsal_address`, and its name does not exist.
    """
    return {name.lower(): address for name, address in _named() if address}


def _named() -> Iterator[tuple[str, str | None]]:
    for balancers in [region for account in list(elbv2_backends.values()) for region in list(account.values())]:
        for balancer in list(balancers.load_balancers.values()):
            yield balancer.dns_name, getattr(balancer, 'rehearsal_address', None)
    for databases in [region for account in list(rds_backends.values()) for region in list(account.values())]:
        for database in list(databases.databases.values()):
            yield database.address, getattr(database, 'rehearsal_address', None)
