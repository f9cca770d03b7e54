"""The networks of VPCs: one bridge each, on which machines reach each other and this host, and nothing beyond."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
import json
from pathlib import Path
import subprocess
from threading import Lock
from typing import Any

import docker
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from rehearsal.errors import RehearsalError
from rehearsal.machines.namespace import Leak
from rehearsal.naming import Names, rotated

# The blocks of default VPCs. On AWS each is 172.31.0.0/16; here several rehearsals run side by side, and Docker's own
# networks are in that range too: https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc-components.html
BLOCKS = [IPv4Network(f'10.{number}.0.0/16') for number in range(64, 128)]
FORWARDING = '/proc/sys/net/ipv4/conf/{bridge}/forwarding'


class Networks:
    """The networks of one rehearsal, each made at its first use."""

    def __init__(self, client: docker.DockerClient, names: Names) -> None:
        """Make networks with these names."""
        self._client = client
        self._names = names
        self._lock = Lock()
        self._networks: dict[IPv4Network, str] = {}

    def claim_default(self, block: IPv4Network | None = None) -> IPv4Network:
        """Return the block of the default VPC, by default one that no other network of this host has."""
        for candidate in [block] if block else free_blocks(self._names.rehearsal, routed_blocks()):
            try:
                self.of(candidate)
            except APIError as error:
                # Another rehearsal may have taken it since this one read the routes.
                if block or 'overlap' not in str(error):
                    raise RehearsalError(f'cannot make a network of {candidate}: {error}') from error
            else:
                return candidate
        raise RehearsalError(f'no block from {BLOCKS[0]} to {BLOCKS[-1]} is free; choose another with --vpc-cidr')

    def of(self, block: IPv4Network) -> str:
        """Return the name of the network of a VPC."""
        with self._lock:
            if block not in self._networks:
                self._networks[block] = self._make(block)
            return self._networks[block]

    def gateway_of(self, block: IPv4Network) -> str:
        """Return the address of this host in a VPC, and make the network of the VPC if it is missing."""
        self.of(block)
        return str(gateway(block))

    def forget(self, block: IPv4Network) -> None:
        """Remove the network of a VPC, if there is one."""
        with self._lock:
            name = self._networks.pop(block, None)
            if name:
                self._client.networks.get(name).remove()

    def check_is_closed(self, block: IPv4Network) -> None:
        """Refuse a network whose machines could send packets beyond this host."""
        path = Path(FORWARDING.format(bridge=self._names.bridge(block)))
        if path.read_text(encoding='ascii').strip() != '0':
            raise Leak(f'packets of the machines of {block} would be forwarded: {path} is not 0')

    def _make(self, block: IPv4Network) -> str:
        name, bridge = self._names.network(block), self._names.bridge(block)
        addresses = IPAMConfig(pool_configs=[IPAMPool(subnet=str(block), gateway=str(gateway(block)))])
        self._client.networks.create(name, driver='bridge', internal=True, ipam=addresses, labels=self._names.labels,
                                     options={'com.docker.network.bridge.name': bridge})
        # An engine that leaves the firewall alone has no rules against forwarding.
        Path(FORWARDING.format(bridge=bridge)).write_text('0', encoding='ascii')
        return name


def gateway(block: IPv4Network) -> IPv4Address:
    """Return the address of this host in a VPC, which is that of AWS's router.

    https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html
    """
    return block[1]


def free_blocks(name: str, taken: list[IPv4Network]) -> Iterator[IPv4Network]:
    """Yield the blocks that overlap none of those taken, beginning at one that depends on the name."""
    for block in rotated(BLOCKS, name):
        if not any(block.overlaps(other) for other in taken):
            yield block


def routed_blocks() -> list[IPv4Network]:
    """Return the networks that this host has a route to."""
    output = subprocess.run(['ip', '-json', '-4', 'route', 'show', 'table', 'all'], capture_output=True, text=True,
                            check=True).stdout
    routes: list[dict[str, Any]] = json.loads(output)
    return [IPv4Network(route['dst']) for route in routes if route['dst'] != 'default']
