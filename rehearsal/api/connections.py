"""The connections that security groups permit to one instance, and from it.

https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from rehearsal.api.security_members import Member, members, members_of

ALL = '-1'
HTTP, HTTPS = 80, 443


@dataclass(frozen=True)
class Traffic:
    """A protocol, and a range of ports; for ICMP, a type and a code. -1 is any."""

    protocol: str
    first: int = -1
    last: int = -1

    def __and__(self, other: 'Traffic') -> 'Traffic | None':
        """Return the traffic that is in both, if any."""
        if self.protocol == ALL or self == other:
            return other
        if other.protocol == ALL:
            return self
        if self.protocol != other.protocol or self.protocol not in ('tcp', 'udp'):
            return None
        first, last = max(self.first, other.first), min(self.last, other.last)
        return Traffic(self.protocol, first, last) if first <= last else None


@dataclass(frozen=True)
class Permission:
    """Packets that a rule permits, and the networks at their other end."""

    traffic: Traffic
    peers: tuple[IPv4Network, ...]

    def admits(self, address: str, traffic: Traffic) -> bool:
        """Return whether it permits some traffic with an address."""
        return bool(self.traffic & traffic) and any(IPv4Address(address) in peer for peer in self.peers)


@dataclass(frozen=True)
class Connections:
    """The connections of an instance."""

    ingress: tuple[Permission, ...]
    egress: tuple[Permission, ...]
    # The databases whose own rules refuse the instance: address and port.
    refused: tuple[tuple[str, int], ...]
    # Whether the instance reaches AWS's APIs, and servers of the internet by plain HTTP.
    has_api: bool
    has_internet: bool


def connections_of(backend: Any, instance: Any) -> Connections:
    """Return the connections that moto's records of EC2 permit to an instance."""
    everything = members(backend)
    own = Member(frozenset(group.id for group in instance.nics[0].group_set), str(instance.private_ip), 'instance')
    rules = Rules(backend, everything)
    ingress, egress = (tuple(rules.permissions(own, is_egress)) for is_egress in (False, True))
    refused = tuple((member.address, member.port) for member in everything
                    if member.kind == 'database' and member.port and not rules.accepts(member, own))
    return Connections(ingress, egress, refused, has_api=reaches_api(rules, own, egress),
                       has_internet=reaches_internet(egress, HTTP))


def reaches_internet(egress: Iterable[Permission], port: int) -> bool:
    """Return whether rules let an instance connect to every address at a port."""
    packets = Traffic('tcp', port, port)
    return any(permission.traffic & packets and any(peer.prefixlen == 0 for peer in permission.peers)
               for permission in egress)


def reaches_api(rules: 'Rules', own: Member, egress: Sequence[Permission]) -> bool:
    """Return whether an instance reaches AWS's APIs: by the internet, or by an interface endpoint.

    https://docs.aws.amazon.com/vpc/latest/privatelink/create-interface-endpoint.html
    """
    if reaches_internet(egress, HTTPS):
        return True
    tls = Traffic('tcp', HTTPS, HTTPS)
    return any(permission.admits(member.address, tls) for member in rules.everything
               if member.kind == 'endpoint' and rules.accepts(member, own) for permission in egress)


class Rules:
    """The rules of a region's security groups, with groups and prefix lists resolved to addresses."""

    def __init__(self, backend: Any, everything: Sequence[Member]) -> None:
        """Read the rules of these records of moto's, for these members."""
        self._backend = backend
        self.everything = everything

    def permissions(self, own: Member, is_egress: bool) -> Iterator[Permission]:
        """Yield the permissions of a member in one direction."""
        for rule in self._rules(own, is_egress):
            traffic = traffic_of(rule)
            networks = tuple(self._networks(rule))
            if networks:
                yield Permission(traffic, networks)
            group = rule.source_group.get('GroupId')
            for peer in members_of(self.everything, group) if group else ():
                for part in self._sent(peer, own, traffic) if not is_egress else [traffic]:
                    yield Permission(part, (IPv4Network(peer.address),))

    def accepts(self, member: Member, sender: Member) -> bool:
        """Return whether the rules of a member with one port permit a connection from a sender."""
        assert member.port
        port = Traffic('tcp', member.port, member.port)
        return any(self._covers(rule, sender) and traffic_of(rule) & port for rule in self._rules(member, False))

    def _sent(self, peer: Member, own: Member, traffic: Traffic) -> list[Traffic]:
        """Return the part of some traffic that a peer's own rules let out; an instance's rules are at the instance."""
        if peer.kind != 'load balancer':
            return [traffic]
        common = [traffic & traffic_of(rule) for rule in self._rules(peer, True) if self._covers(rule, own)]
        return [part for part in common if part]

    def _covers(self, rule: Any, other: Member) -> bool:
        """Return whether a rule is for packets of another member, whatever their kind."""
        if rule.source_group.get('GroupId') in other.groups:
            return True
        return any(IPv4Address(other.address) in network for network in self._networks(rule))

    def _rules(self, member: Member, is_egress: bool) -> Iterator[Any]:
        for group in sorted(member.groups):
            record = self._backend.get_security_group_from_id(group)
            if record:
                yield from list(record.egress_rules if is_egress else record.ingress_rules)

    def _networks(self, rule: Any) -> Iterator[IPv4Network]:
        """Yield the IPv4 networks of a rule's block or prefix list."""
        if rule.cidr_ipv4:
            yield IPv4Network(rule.cidr_ipv4, strict=False)
        if rule.prefix_list_id:
            # https://docs.aws.amazon.com/vpc/latest/userguide/managed-prefix-lists.html
            found = self._backend.managed_prefix_lists.get(rule.prefix_list_id)
            for entry in (found.entries.get(found.version) or []) if found else ():
                if ':' not in entry['Cidr']:
                    yield IPv4Network(entry['Cidr'], strict=False)


def traffic_of(rule: Any) -> Traffic:
    """Return the traffic of a rule of moto's."""
    if rule.ip_protocol == ALL:
        return Traffic(ALL)
    return Traffic(str(rule.ip_protocol), int(rule.from_port), int(rule.to_port))
