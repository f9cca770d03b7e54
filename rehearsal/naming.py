"""Names and labels of everything that a rehearsal makes, by which it is found and nothing else is touched."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Network
import re
from typing import TypeVar

from rehearsal.errors import RehearsalError

LABEL = 'rehearsal'
FORM = '[a-z][a-z0-9-]{0,23}'
Item = TypeVar('Item')


@dataclass(frozen=True)
class Names:
    """The names of one rehearsal's containers, volumes, networks and images."""

    rehearsal: str

    def __post_init__(self) -> None:
        """Refuse a name that cannot be part of other names."""
        if not re.fullmatch(FORM, self.rehearsal):
            raise RehearsalError(f'name {self.rehearsal!r}: take a letter and up to 23 more of a-z, 0-9 and hyphen')

    @property
    def labels(self) -> dict[str, str]:
        """The labels of each container, volume, network and image."""
        return {LABEL: self.rehearsal}

    @property
    def family(self) -> str:
        """The pattern of the repositories of all rehearsals' AMIs."""
        return 'rehearsal-*'

    @property
    def images(self) -> str:
        """The repository whose tags are the ids of this rehearsal's AMIs."""
        return f'rehearsal-{self.rehearsal}'

    def card(self, instance: str) -> str:
        """Return the name of the container that holds an instance's network namespace."""
        return f'rehearsal-{self.rehearsal}-{instance}-card'

    def machine(self, instance: str) -> str:
        """Return the name of the container that is an instance."""
        return f'rehearsal-{self.rehearsal}-{instance}'

    def volume(self, owner: str) -> str:
        """Return the name of the volume that belongs to an instance or an AMI."""
        return f'rehearsal-{self.rehearsal}-{owner}'

    def network(self, block: IPv4Network) -> str:
        """Return the name of the network of a VPC: from its block, because the ids of VPCs change with each start."""
        return f'rehearsal-{self.rehearsal}-{block.network_address}-{block.prefixlen}'

    def bridge(self, block: IPv4Network) -> str:
        """Return the name of a network's bridge; the kernel allows 15 characters."""
        return f'rh-{short_hash(self.network(block))}'


def short_hash(text: str) -> str:
    """Return twelve hexadecimal digits of a text's hash."""
    return sha256(text.encode()).hexdigest()[:12]


def rotated(items: Sequence[Item], name: str) -> list[Item]:
    """Return items from one that depends on a name, so that rehearsals side by side seldom try the same one first."""
    start = sha256(name.encode()).digest()[0] % len(items)
    return [*items[start:], *items[:start]]
