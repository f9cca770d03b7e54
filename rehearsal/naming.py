"""How all that a rehearsal makes is called and labelled, so that it is found again and nobody else's is touched."""

from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv4Network
import re

from rehearsal.errors import RehearsalError

LABEL = 'rehearsal'
FORM = '[a-z][a-z0-9-]{0,23}'


@dataclass(frozen=True)
class Names:
    """The names of what one rehearsal makes."""

    rehearsal: str

    def __post_init__(self) -> None:
        """Refuse a name that could not be part of other names."""
        if not re.fullmatch(FORM, self.rehearsal):
            raise RehearsalError(f'name {self.rehearsal!r}: take a letter and up to 23 more of a-z, 0-9 and hyphen')

    @property
    def labels(self) -> dict[str, str]:
        """What each container, volume, network and image carries."""
        return {LABEL: self.rehearsal}

    @property
    def family(self) -> str:
        """What the repositories of all rehearsals' AMIs match."""
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
        """Return the name of the network of a VPC, after its block: the ids of VPCs change with each start."""
        return f'rehearsal-{self.rehearsal}-{block.network_address}-{block.prefixlen}'

    def bridge(self, block: IPv4Network) -> str:
        """Return the name of a network's bridge, of which the kernel takes no more than 15 characters."""
        return f'rh-{short_hash(self.network(block))}'


def short_hash(text: str) -> str:
    """Return twelve hexadecimal digits that stand for a text."""
    return sha256(text.encode()).hexdigest()[:12]
