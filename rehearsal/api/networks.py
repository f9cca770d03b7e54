"""VPCs and subnets, where moto answers otherwise than EC2."""

from ipaddress import IPv4Network
from typing import Any

from moto.ec2.exceptions import DependencyViolationError
from moto.ec2.models import ec2_backends
from moto.ec2.models.subnets import Subnet
from moto.ec2.models.vpcs import VPCBackend

from rehearsal.api.patching import Extension

IPV6_FILTERS = {'ipv6-cidr-block-association.association-id': 'associationId',
                'ipv6-cidr-block-association.ipv6-cidr-block': 'ipv6CidrBlock'}


class Subnets(Extension, extends=Subnet):
    """The IPv6 blocks of a subnet."""

    @property
    def ipv6_cidr_block_association_set(self) -> list[dict[str, Any]]:
        """The associated blocks.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SubnetIpv6CidrBlockAssociation.html
        """
        return [{'Ipv6CidrBlock': association['ipv6CidrBlock'],
                 'AssociationId': association['associationId'],
                 'Ipv6CidrBlockState': association['ipv6CidrBlockState']}
                for association in self.ipv6_cidr_block_associations.values()
                if association['ipv6CidrBlockState']['State'] == 'associated']

    def get_filter_value(self, name: str, *arguments: Any) -> Any:
        """Return the values that a filter of subnets compares.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSubnets.html
        """
        if name in IPV6_FILTERS:
            return [association[IPV6_FILTERS[name]] for association in self.ipv6_cidr_block_associations.values()]
        return self.moto_get_filter_value(name, *arguments)


class Vpcs(Extension, extends=VPCBackend):
    """The beginnings and ends of VPCs."""

    def create_vpc(self, cidr_block: str, *arguments: Any, **options: Any) -> Any:
        """Make a VPC; the region's default one has the block of its network."""
        block = self.rehearsal.default_block
        is_ours = block and options.get('is_default') and self.region_name == self.rehearsal.region
        return self.moto_create_vpc(str(block) if is_ours else cidr_block, *arguments, **options)

    def delete_vpc(self, vpc: str) -> Any:
        """Delete a VPC that nothing is in, with its network, unless another VPC has the same block.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteVpc.html
        """
        if has_dependencies(self, vpc):
            raise DependencyViolationError(f"The vpc '{vpc}' has dependencies and cannot be deleted.")
        deleted = self.moto_delete_vpc(vpc)
        block = IPv4Network(deleted.cidr_block)
        blocks = [each.cidr_block for backend in ec2_backends[self.account_id].values() for each in
                  backend.vpcs.values()]
        if str(block) not in blocks and block != self.rehearsal.default_block:
            self.rehearsal.fleet.forget_network(block)
        return deleted


def has_dependencies(backend: Any, vpc: str) -> bool:
    """Return whether a gateway, an endpoint or a security group is in a VPC; moto looks at subnets and routes."""
    gateways = [attached for gateway in backend.internet_gateways.values()
                if (attached := gateway.vpc) and attached.id == vpc]
    endpoints = [each for each in backend.vpc_end_points.values() if each.vpc_id == vpc and each.state != 'deleted']
    groups = [group for group in backend.groups.get(vpc, {}).values() if group.name != 'default']
    return bool(gateways or endpoints or groups)
