"""SSH access to the instance of a bake: the addresses that may connect, determined before the instance starts."""

from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address
from urllib.error import URLError
from urllib.request import Request, urlopen

from release.aws import Aws
from release.errors import NotReady
from release.inputs import VARIABLE

INTERFACE, CIDRS = f'{VARIABLE}ssh_interface', f'{VARIABLE}ssh_source_cidrs'
# packer/ami.pkr.hcl has the same default.
DEFAULT = 'public_ip'
PUBLIC = ('public_ip', 'public_dns')
# Private addresses; a machine in the VPC, or in a network connected to it, has one of them.
PRIVATE_CIDRS = ('10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16')
# AWS's service that answers with the public address of its caller.
ADDRESS_SERVICE = 'https://checkip.amazonaws.com'
ADDRESS_SECONDS = 10
LONGEST_ANSWER = 100
OTHER_WAYS = f'{INTERFACE}=private_ip from within the VPC, or {INTERFACE}=session_manager, which needs no open port'
ADVICE = f"""set {CIDRS}='["ADDRESS/32"]', or connect by {OTHER_WAYS}"""


def variables(aws: Aws, environ: Mapping[str, str], subnet: str) -> dict[str, list[str]]:
    """Return the template's variables that let this machine connect, except those that the environment sets."""
    interface = environ.get(INTERFACE) or DEFAULT
    if interface in PUBLIC and subnet:
        _check_gives_public_addresses(aws, subnet)
    if environ.get(CIDRS):
        return {}
    return {'ssh_source_cidrs': [f'{own_address()}/32'] if interface in PUBLIC else list(PRIVATE_CIDRS)}


def own_address() -> IPv4Address:
    """Return this machine's public address."""
    try:
        with urlopen(Request(ADDRESS_SERVICE), timeout=ADDRESS_SECONDS) as answer:
            text = answer.read(LONGEST_ANSWER).decode(errors='replace').strip()
        address = IPv4Address(text)
    except AddressValueError:
        raise NotReady(f'{ADDRESS_SERVICE} answers {text!r} instead of an IPv4 address; {ADVICE}') from None
    except (URLError, OSError) as error:
        reason = getattr(error, 'reason', error)
        raise NotReady(f'the public address of this machine is unknown: {ADDRESS_SERVICE} does not answer ({reason}); '
                       f'{ADVICE}') from None
    if not address.is_global:
        raise NotReady(f'{ADDRESS_SERVICE} answers {address}, which is no public address; {ADVICE}')
    return address


def _check_gives_public_addresses(aws: Aws, subnet: str) -> None:
    (details,) = aws.call('ec2', 'describe_subnets', SubnetIds=[subnet])['Subnets']
    if not details.get('MapPublicIpOnLaunch'):
        raise NotReady(f'the subnet {subnet} gives its instances no public address (MapPublicIpOnLaunch is off), so '
                       f'SSH cannot reach the instance of a bake; use another subnet, or {OTHER_WAYS}')
