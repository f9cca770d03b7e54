"""Loopback addresses for load balancers, one each, also of several rehearsals side by side."""

from ipaddress import IPv4Address
from pathlib import Path
import socket
from threading import Lock

from rehearsal.errors import RehearsalError
from rehearsal.naming import rotated

ADDRESSES = [IPv4Address('127.0.70.0') + place for place in range(1, 255)]
# A socket at this port of an address keeps the address for its load balancer; it takes no packet.
PORT = 49170
SOCKETS = Path('/proc/net/tcp')
LISTENING = '0A'


class Claims:
    """The addresses of the load balancers of one rehearsal."""

    def __init__(self, name: str) -> None:
        """Begin at an address that depends on the name of the rehearsal."""
        self._candidates = rotated(ADDRESSES, name)
        self._lock = Lock()
        self._claims: dict[str, socket.socket] = {}

    def address_of(self, balancer: str) -> str:
        """Return the address of a load balancer, at first a free one."""
        with self._lock:
            if balancer not in self._claims:
                self._claims[balancer] = self._claim()
            return str(self._claims[balancer].getsockname()[0])

    def release(self, balancer: str) -> None:
        """Let others have the address of a load balancer."""
        with self._lock:
            claim = self._claims.pop(balancer, None)
            if claim:
                claim.close()

    def close(self) -> None:
        """Release all addresses."""
        for balancer in list(self._claims):
            self.release(balancer)

    def _claim(self) -> socket.socket:
        # The server of another rehearsal may have been killed, whose load balancers still listen.
        taken = listened_at()
        for address in self._candidates:
            claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                claim.bind((str(address), PORT))
            except OSError:
                claim.close()
                continue
            if address not in taken:
                return claim
            claim.close()
        raise RehearsalError(f'no free address for a load balancer from {ADDRESSES[0]} to {ADDRESSES[-1]}')


def listened_at() -> set[IPv4Address]:
    """Return the addresses of this host at which a program listens."""
    found = set()
    for line in SOCKETS.read_text(encoding='ascii').splitlines()[1:]:
        _, local, _, state = line.split()[:4]
        if state == LISTENING:
            found.add(IPv4Address(int.from_bytes(bytes.fromhex(local.partition(':')[0]), 'little')))
    return found
