"""Subnets and security group rules, where moto answers otherwise than EC2."""

from typing import Any

from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.models.subnets import Subnet

from rehearsal.api.patching import wrapping

IPV6_FILTERS = {'ipv6-cidr-block-association.association-id': 'associationId',
                'ipv6-cidr-block-association.ipv6-cidr-block': 'ipv6CidrBlock'}


def install() -> None:
    """Add filters of subnets by their IPv6 block, and descriptions of rules that refer to a group."""
    @wrapping(Subnet, 'get_filter_value')
    def get_filter_value(original: Any, subnet: Any, name: str, *arguments: Any) -> Any:
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSubnets.html
        if name in IPV6_FILTERS:
            return [association[IPV6_FILTERS[name]] for association in subnet.ipv6_cidr_block_associations.values()]
        return original(subnet, name, *arguments)

    def ipv6_blocks(subnet: Any) -> list[dict[str, Any]]:
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SubnetIpv6CidrBlockAssociation.html
        return [{'Ipv6CidrBlock': association['ipv6CidrBlock'],
                 'AssociationId': association['associationId'],
                 'Ipv6CidrBlockState': association['ipv6CidrBlockState']}
                for association in subnet.ipv6_cidr_block_associations.values()
                if association['ipv6CidrBlockState']['State'] == 'associated']
    Subnet.ipv6_cidr_block_association_set = property(ipv6_blocks)  # type: ignore[method-assign,assignment]

    def description(rule: Any) -> str | None:
        # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SecurityGroupRule.html
        text = rule.ip_range.get('Description') or rule.source_group.get('Description')
        return str(text) if text else None
    SecurityGroupRule.description = property(description)  # type: ignore[method-assign,assignment]
