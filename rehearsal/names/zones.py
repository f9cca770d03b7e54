"""The addresses behind the names of a rehearsal: records of its hosted zones, and names that AWS gives."""

from collections.abc import Iterable, Mapping
from typing import Any

MOST_ALIASES = 8  # ends a circle of aliases, which Route 53 refuses to make


def address_in(name: str, records: Iterable[Any], own: Mapping[str, str]) -> str | None:
    """Return the IPv4 address of a name after its aliases and CNAME records; None for a name without one.

    `own` holds the names that AWS gives to load balancers and databases. A record has `name`, `type`, `alias_target`
    and `records`, as moto keeps them.
    """
    by_name = {(record.name.lower().rstrip('.'), record.type): record for record in records}
    for _ in range(MOST_ALIASES):
        if name in own:
            return own[name]
        record = by_name.get((name, 'A')) or by_name.get((name, 'CNAME'))
        if record is None:
            return None
        if record.alias_target:
            name = str(record.alias_target['DNSName']).lower().rstrip('.')
        elif record.type == 'CNAME':
            name = str(record.records[0]).lower().rstrip('.')
        else:
            return str(record.records[0])
    return None
