"""The names that AWS gives to load balancers and databases, from moto's records."""

from collections.abc import Iterator

from moto.elbv2.models import elbv2_backends
from moto.rds.models import rds_backends


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
