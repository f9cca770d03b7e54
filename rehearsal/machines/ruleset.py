"""The packet filter of an instance, as text of nftables."""

from collections.abc import Iterable

from rehearsal.api.connections import ALL, Connections, Permission, Traffic
from rehearsal.machines.addresses import API, ARCHIVE

# The network card that Docker gives to a container.
CARD = 'eth0'
TABLE = 'inet rehearsal'
ICMP = ('icmp', '1')
TEXT = """\
table {table} {{
    flags owner
}}
flush table {table}
table {table} {{
    flags owner
    chain ingress {{
        # After connection tracking, and before an engine in the machine sends packets for a published port elsewhere.
        type filter hook prerouting priority -150; policy accept;
        iifname != "{card}" accept
        ct state established,related accept
{ingress}
        drop
    }}
    chain egress {{
        # After the engine in the machine gave packets of its containers the address of the machine.
        type filter hook postrouting priority 150; policy accept;
        oifname != "{card}" accept
        ct state established,related accept
{egress}
        drop
    }}
    chain doors {{
        type filter hook input priority 0; policy accept;
{doors}
    }}
}}
"""


def ruleset(connections: Connections, card: str = CARD) -> str:
    """Return the packet filter that permits these connections, and replaces an earlier one at once."""
    refused = [f'ip daddr {address} tcp dport {port} drop' for address, port in connections.refused]
    doors = [f'ip daddr {address} drop'
             for address, is_open in ((API, connections.has_api), (ARCHIVE, connections.has_internet)) if not is_open]
    return TEXT.format(table=TABLE, card=card, ingress=lines(permitted(connections.ingress, 'saddr')),
                       egress=lines([*refused, *permitted(connections.egress, 'daddr')]), doors=lines(doors))


def permitted(permissions: Iterable[Permission], side: str) -> list[str]:
    """Return a statement for each permission, without repetitions."""
    statements = [f'ip {side} {peer} {selector(permission.traffic)}accept'
                  for permission in permissions for peer in permission.peers]
    return list(dict.fromkeys(statements))


def selector(traffic: Traffic) -> str:
    """Return the part of a statement that selects a protocol and its ports."""
    if traffic.protocol == ALL:
        return ''
    if traffic.protocol in ('tcp', 'udp'):
        if traffic.first == -1:
            return f'meta l4proto {traffic.protocol} '
        return f'{traffic.protocol} dport {traffic.first}-{traffic.last} '
    if traffic.protocol in ICMP:
        # The first port of such a rule is the type, the second the code.
        kind = f'icmp type {traffic.first} ' if traffic.first != -1 else 'meta l4proto icmp '
        return kind + (f'icmp code {traffic.last} ' if traffic.last != -1 else '')
    return f'meta l4proto {traffic.protocol} '


def lines(statements: Iterable[str]) -> str:
    """Return statements as lines of a chain."""
    return '\n'.join(f'        {statement}' for statement in statements)
