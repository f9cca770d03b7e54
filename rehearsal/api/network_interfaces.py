"""Network interfaces: those of a launch, their end with the instance, and the dependencies of subnets."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from moto.ec2.exceptions import DependencyViolationError, EC2ClientError
from moto.ec2.models.nat_gateways import NatGatewayBackend
from moto.ec2.models.subnets import SubnetBackend
from moto.elbv2.models import elbv2_backends
from moto.rds.models import rds_backends

from rehearsal.api.patching import Extension

# https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html
RESERVED = 4


class NatGateways(Extension, extends=NatGatewayBackend):
    """The ends of NAT gateways."""

    def delete_nat_gateway(self, gateway: str) -> Any:
        """Delete a NAT gateway with its network interface."""
        deleted = self.moto_delete_nat_gateway(gateway)
        self.enis.pop(deleted._eni.id, None)
        return deleted


class SubnetEnds(Extension, extends=SubnetBackend):
    """The ends of subnets."""

    def delete_subnet(self, subnet: str) -> Any:
        """Delete a subnet that nothing is in.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSubnet.html
        """
        if is_in_use(self, subnet):
            raise DependencyViolationError(f"The subnet '{subnet}' has dependencies and cannot be deleted.")
        return self.moto_delete_subnet(subnet)


def is_in_use(backend: Any, subnet: str) -> bool:
    """Return whether a network interface, a load balancer or a database is in a subnet."""
    balancers = elbv2_backends[backend.account_id][backend.region_name].load_balancers.values()
    databases = rds_backends[backend.account_id][backend.region_name].databases.values()
    groups = [group for database in databases if (group := getattr(database, 'db_subnet_group', None))]
    return subnet in {*(interface.subnet.id for interface in backend.enis.values()),
                      *(each.id for balancer in balancers for each in balancer.subnets),
                      *(each['SubnetIdentifier'] for group in groups for each in group.subnets)}


def check_addresses(backend: Any, options: Mapping[str, Any]) -> None:
    """Refuse a private address that the subnet of a launch does not have, or that another interface has.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
    """
    wanted = [(options.get('subnet_id'), options.get('private_ip'))]
    wanted += [(card.get('SubnetId') or options.get('subnet_id'), card.get('PrivateIpAddress'))
               for card in options.get('nics') or []]
    for subnet, address in wanted:
        if subnet and address:
            check_address(backend.get_subnet(subnet), address)


def check_address(subnet: Any, address: str) -> None:
    """Refuse an address that cannot be given to an interface in a subnet."""
    block = ip_network(subnet.cidr_block)
    if ip_address(address) not in block:
        raise EC2ClientError('InvalidParameterValue', f"Address {address} does not fall within the subnet's address "
                                                      'range')
    position = int(ip_address(address)) - int(block.network_address)
    if position < RESERVED or position == block.num_addresses - 1:
        raise EC2ClientError('InvalidParameterValue', f"Address {address} is in subnet's reserved address range")
    if address in subnet._subnet_ips:
        raise EC2ClientError('InvalidIPAddress.InUse', f'Address {address} is in use.')


def subnet_of_interfaces(backend: Any, options: Mapping[str, Any]) -> str | None:
    """Return the subnet of the existing network interface that a launch names, if it names one."""
    for card in options.get('nics') or []:
        if card.get('NetworkInterfaceId'):
            return str(backend.get_network_interface(card['NetworkInterfaceId']).subnet.id)
    return None


def complete(instance: Any, options: Mapping[str, Any]) -> None:
    """Tag the new network interfaces of an instance, and let them end with it by default.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceNetworkInterfaceSpecification.html
    """
    cards = {int(card.get('DeviceIndex') or 0): card for card in options.get('nics') or []}
    for index, interface in instance.nics.items():
        card = cards.get(index, {})
        if not card.get('NetworkInterfaceId'):
            interface.add_tags(options['tags'].get('network-interface', {}))
            interface.delete_on_termination = str(card.get('DeleteOnTermination', True)).lower() != 'false'
