"""The settings of one rehearsal: options of the command line, or arguments in a program."""

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from botocore.config import Config

from rehearsal.errors import RehearsalError
from rehearsal.naming import Names

ACCOUNT = '123456789012'
DEFAULT_NAME = 'default'
# A minute of AWS's is then a second: shorter ones would be missed on a busy machine.
FASTEST = 60
CREDENTIALS = {'AWS_ACCESS_KEY_ID': 'testing', 'AWS_SECRET_ACCESS_KEY': 'testing'}  # pragma: allowlist secret
# The temporary credentials of the role of an instance.
# Of the role of an instance, beside the id of a key that each instance has for itself.
ROLE_CREDENTIALS = {'SecretAccessKey': 'testing', 'Token': 'testing'}  # pragma: allowlist secret


@dataclass(frozen=True)
class Settings:
    """The settings of one rehearsal."""

    name: str = DEFAULT_NAME
    region: str = 'us-east-1'
    port: int = 0
    vpc_cidr: str = ''
    shutdown_seconds: int = 60
    machines: bool = True
    pace: float = 1
    database_address: str = ''

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        Names(self.name)
        if not 0 <= self.port < 65536:
            raise RehearsalError(f'port {self.port}: take one below 65536, or 0 for any that is free')
        if self.shutdown_seconds < 1:
            raise RehearsalError(f'shutdown seconds {self.shutdown_seconds}: take at least 1')
        if not 1 <= self.pace <= FASTEST:
            raise RehearsalError(f'pace {self.pace:g}: take one from 1 to {FASTEST}')
        if self.machines and self.database_address:
            raise RehearsalError(f'database address {self.database_address}: it is for a rehearsal without machines; '
                                 'with machines a database has an address of its VPC')
        self.block  # noqa: B018

    @property
    def names(self) -> Names:
        """The names of everything that it makes."""
        return Names(self.name)

    @property
    def block(self) -> IPv4Network | None:
        """The block of the default VPC; None leaves the choice to the rehearsal."""
        if not self.vpc_cidr:
            return None
        try:
            block = IPv4Network(self.vpc_cidr)
        except ValueError as error:
            raise RehearsalError(f'VPC CIDR {self.vpc_cidr!r}: {error}') from None
        # Six default subnets of 20 bits each must fit in.
        if block.prefixlen > 17 or block.prefixlen < 16:
            raise RehearsalError(f'VPC CIDR {self.vpc_cidr!r}: take a block of 16 or 17 bits, such as 10.90.0.0/16')
        return block


def sdk_environment(endpoint: str, region: str) -> dict[str, str]:
    """Return the environment variables that point AWS's libraries to an endpoint, and keep them from AWS itself."""
    return {'AWS_ENDPOINT_URL': endpoint, **CREDENTIALS, 'AWS_REGION': region, 'AWS_DEFAULT_REGION': region,
            'AWS_EC2_METADATA_DISABLED': 'true'}


def client_options(endpoint: str, region: str) -> dict[str, Any]:
    """Return the options of boto3's clients, which try each call once, because a retry would hide a fault."""
    return {'endpoint_url': endpoint, 'region_name': region, 'config': Config(retries={'total_max_attempts': 1}),
            **{name.lower(): value for name, value in CREDENTIALS.items()}}
