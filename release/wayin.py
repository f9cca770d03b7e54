"""The way to the instance that is baked: from which addresses its SSH may be reached, settled before it is started."""

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
# Private addresses, of which a builder within the VPC, or in a network that is joined to it, has one.
PRIVATE_CIDRS = ('10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16')
# AWS's own service, which answers with the address that a request comes from.
ADDRESS_SERVICE = 'https://checkip.amazonaws.com'
ADDRESS_SECONDS = 10
LONGEST_ANSWER = 100
ADVICE = (f"""set {CIDRS}='["ADDRESS/32"]', or reach the instance otherwise: {INTERFACE}=private_ip from within the """
          f'VPC, {INTERFACE}=session_manager without a port')


def ssh_variables(aws: Aws, environ: Mapping[str, str], subnet: str) -> dict[str, list[str]]:
    """Return the template's variables that let this machine reach the instance; none that the environment sets."""
    interface = environ.get(INTERFACE) or DEFAULT
    if interface in PUBLIC and subnet:
        _check_gives_public_addresses(aws, subnet)
    if environ.get(CIDRS):
        return {}
    return {'ssh_source_cidrs': [f'{own_address()}/32'] if interface in PUBLIC else list(PRIVATE_CIDRS)}


def own_address() -> IPv4Address:
    """Return the address by which others on the Internet see this machine."""
    try:
        with urlopen(Request(ADDRESS_SERVICE), timeout=ADDRESS_SECONDS) as answer:
            text = answer.read(LONGEST_ANSWER).decode(errors='replace').strip()
        address = IPv4Address(text)
    except AddressValueError:
        raise NotReady(f'{ADDRESS_SERVICE} answers {text!r} instead of an IPv4 address; {ADVICE}') from None
    except (URLError, OSError) as error:
        reason = getattr(error, 'reason', error)
        raise NotReady(f'the address of this machine on the Internet is unknown: {ADDRESS_SERVICE} does not answer '
                       f'({reason}); {ADVICE}') from None
    if not address.is_global:
        raise NotReady(f'{ADDRESS_SERVICE} answers {address}, which is no address of the Internet; {ADVICE}')
    return address


def _check_gives_public_addresses(aws: Aws, subnet: str) -> None:
    (described,) = aws.call('ec2', 'describe_subnets', SubnetIds=[subnet])['Subnets']
    if not described.get('MapPublicIpOnLaunch'):
        raise NotReady(f'the subnet {subnet} gives its instances no public address (MapPublicIpOnLaunch is off), so '
                       f'SSH could not reach the one that is baked; use another subnet, or {INTERFACE}=private_ip '
                       f'from within the VPC, or {INTERFACE}=session_manager without a port')
