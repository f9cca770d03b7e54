"""The visitor of a request: the address behind the proxies, and the keyed hash that stands for it."""

from hashlib import blake2b
from ipaddress import ip_address, IPv4Address, IPv6Address
import re

HASH_BYTES = 16
# Of IPv6, because a household or a host gets a /64 and changes its address within it; IPv4 has four bytes.
VISITOR_BYTES = 8
BRACKETED = re.compile(r'\[([^\]]*)\](?::[0-9]*)?')
IPV4_WITH_PORT = re.compile(r'([0-9.]+):[0-9]*')


def visitor_id(key: bytes, network: bytes) -> bytes:
    """Return the 16 bytes that stand for a visitor; without the key they cannot be traced to an address."""
    return blake2b(network, digest_size=HASH_BYTES, key=key).digest()


def client_network(peer: str, forwarded_for: str, trusted_proxies: int) -> bytes | None:
    """Return the visitor's IPv4 address or IPv6 /64 as bytes, or None if not even the peer has an address.

    Only an entry that the trusted proxies vouch for becomes a visitor. With too few entries, or with an entry that is
    no address, the peer counts.
    """
    entry = _entry_of_outermost_proxy(forwarded_for, trusted_proxies)
    address = parse_address(entry) or parse_address(peer)
    return network_of(address) if address else None


def _entry_of_outermost_proxy(forwarded_for: str, trusted_proxies: int) -> str:
    # Split at every comma, quoted or not. A parser that honours quotes, such as werkzeug's ProxyFix, reads
    # `"x, 192.0.2.1` as one entry, so a client could hide the entry that the balancer appends.
    if not trusted_proxies:
        return ''

    entries = forwarded_for.split(',')
    return entries[-trusted_proxies] if len(entries) >= trusted_proxies else ''


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address as a proxy writes it, without port, brackets, quotes or zone; None for any other text."""
    text = text.strip().strip('"').strip()
    if not text:
        return None

    bracketed = BRACKETED.fullmatch(text)
    with_port = IPV4_WITH_PORT.fullmatch(text)
    if bracketed:
        text = bracketed[1]
    elif with_port:
        text = with_port[1]

    try:
        address = ip_address(text.partition('%')[0])
    except ValueError:
        return None
    return getattr(address, 'ipv4_mapped', None) or address


def network_of(address: IPv4Address | IPv6Address) -> bytes:
    """Return the part of an address that stands for one visitor: all of IPv4, the first 64 bits of IPv6."""
    return address.packed[:VISITOR_BYTES]
