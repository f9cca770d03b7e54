"""Rules of security groups, where moto answers otherwise than EC2.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RevokeSecurityGroupIngress.html
"""

from collections.abc import Iterable
from typing import Any

from moto.ec2.exceptions import InvalidSecurityGroupRuleIdNotFoundError
from moto.ec2.models.security_groups import SecurityGroupBackend, SecurityGroupRule
from moto.ec2.responses.security_groups import SecurityGroups

from rehearsal.api.patching import Extension


class Rules(Extension, extends=SecurityGroupRule):
    """A rule of a security group."""

    @property
    def description(self) -> str | None:
        """The description of a block's rule, and of one that refers to a group.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SecurityGroupRule.html
        """
        text = self.ip_range.get('Description') or self.source_group.get('Description')
        return str(text) if text else None


class DefaultGroups(Extension, extends=SecurityGroupBackend):
    """The default security group of a VPC, whose members reach each other.

    https://docs.aws.amazon.com/vpc/latest/userguide/default-security-group.html
    """

    def create_security_group(self, *arguments: Any, **options: Any) -> Any:
        """Make a group; the default one has its rule from the beginning."""
        group = self.moto_create_security_group(*arguments, **options)
        if group.is_default:
            itself = {'GroupId': group.id, 'OwnerId': self.account_id, 'UserId': self.account_id}
            group.ingress_rules.append(
                SecurityGroupRule(self, '-1', group.id, None, None, None, itself, is_egress=False))
        return group


class Revocations(Extension, extends=SecurityGroups):
    """Revocations of rules.

    An unknown id is InvalidSecurityGroupRuleId.NotFound on AWS. moto answers InvalidPermission.NotFound, which is
    AWS's answer to unknown properties of a rule. A client that repeats a revocation because its answer was lost, such
    as Terraform, ignores the first code only.
    """

    def revoke_security_group_ingress(self) -> Any:
        """Revoke rules for incoming packets."""
        refuse_unknown_rules(self, lambda group: group.ingress_rules)
        return self.moto_revoke_security_group_ingress()

    def revoke_security_group_egress(self) -> Any:
        """Revoke rules for outgoing packets."""
        refuse_unknown_rules(self, lambda group: group.egress_rules)
        return self.moto_revoke_security_group_egress()


def refuse_unknown_rules(response: Any, rules_of: Any) -> None:
    """Refuse a request that names a rule by an id which its group does not have."""
    ids: Iterable[str] = response._get_param('SecurityGroupRuleIds', [])
    group = response.ec2_backend.get_security_group_from_id(response._get_param('GroupId'))
    present = {rule.id for rule in rules_of(group)} if group else set()
    for rule in ids if group else ():
        if rule not in present:
            raise InvalidSecurityGroupRuleIdNotFoundError(rule)
