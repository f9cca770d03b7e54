"""The networks of VPCs: one bridge each, on which machines reach each other and this machine, and nothing beyond."""

from collections.abc import Iterator
from hashlib import sha256
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
from rehearsal.naming import Names

# Where default VPCs lie. On AWS each is 172.31.0.0/16; here several rehearsals have to live side by side, and Docker's
# own networks are there too: https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc-components.html
BLOCKS = [IPv4Network(f'10.{number}.0.0/16') for number in range(64, 128)]
FORWARDING = '/proc/sys/net/ipv4/conf/{bridge}/forwarding'


class Networks:
    def __init__(self, client: docker.DockerClient, names: Names) -> None:
        """Make the networks of one rehearsal, each when it is first asked for."""
        self._client = client
        self._names = names
        self._lock = Lock()
        self._made: dict[IPv4Network, str] = {}

    def claim_default(self, wanted: IPv4Network | None = None) -> IPv4Network:
        """Return the block of the default VPC, which no other network of this machine has."""
        for block in [wanted] if wanted else free_blocks(self._names.rehearsal, routed_blocks()):
            try:
                self.of(block)
            except APIError as error:
                # Another rehearsal may have taken it since the routes were read.
                if wanted or 'overlap' not in str(error):
                    raise RehearsalError(f'no network of {block} can be made: {error}') from error
            else:
                return block
        raise RehearsalError(f'no free block from {BLOCKS[0]} to {BLOCKS[-1]} for a network; name one by --vpc-cidr')

    def of(self, block: IPv4Network) -> str:
        """Return the name of the network of a VPC."""
        with self._lock:
            if block not in self._made:
                self._made[block] = self._make(block)
            return self._made[block]

    def check_is_closed(self, block: IPv4Network) -> None:
        """Refuse a network whose machines could send something beyond this machine."""
        path = Path(FORWARDING.format(bridge=self._names.bridge(block)))
        if path.read_text(encoding='ascii').strip() != '0':
            raise Leak(f'what comes from the machines of {block} would be forwarded: {path} is not 0')

    def _make(self, block: IPv4Network) -> str:
        name, bridge = self._names.network(block), self._names.bridge(block)
        addresses = IPAMConfig(pool_configs=[IPAMPool(subnet=str(block), gateway=str(gateway(block)))])
        self._client.networks.create(name, driver='bridge', internal=True, ipam=addresses, labels=self._names.labels,
                                     options={'com.docker.network.bridge.name': bridge})
        # Docker's own rules against forwarding are missing where an engine leaves the firewall alone.
        Path(FORWARDING.format(bridge=bridge)).write_text('0', encoding='ascii')
        return name


def gateway(block: IPv4Network) -> IPv4Address:
    """Return the address that this machine has in a VPC, which is the one of AWS's router.

    https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html
    """
    return block[1]


def free_blocks(name: str, taken: list[IPv4Network]) -> Iterator[IPv4Network]:
    """Yield the blocks that overlap none of those taken, from a place that depends on the name."""
    start = sha256(name.encode()).digest()[0] % len(BLOCKS)
    for block in BLOCKS[start:] + BLOCKS[:start]:
        if not any(block.overlaps(other) for other in taken):
            yield block


def routed_blocks() -> list[IPv4Network]:
    """Return the networks that this machine has a route to."""
    listed = subprocess.run(['ip', '-json', '-4', 'route', 'show', 'table', 'all'], capture_output=True, text=True,
                            check=True).stdout
    routes: list[dict[str, Any]] = json.loads(listed)
    return [IPv4Network(route['dst']) for route in routes if route['dst'] != 'default']
