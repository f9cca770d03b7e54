"""The API's actions on load balancers: programs follow the records, and features without a model are refused.

https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_Operations.html has a page for each.
"""

from typing import Any

from moto.elbv2.exceptions import ELBClientError
from moto.elbv2.models import ELBv2Backend
from moto.elbv2.responses import ELBV2Response
from moto.s3.exceptions import MissingBucket
from moto.s3.models import s3_backends
from moto.wafv2.models import WAFV2Backend

from rehearsal.api.patching import Extension
from rehearsal.api.routing import (
    action_in, BALANCER_ATTRIBUTES, check_attributes, check_listener_attributes, conditions_in, GROUP_ATTRIBUTES,
    limit_in, oldest_tls_in)
from rehearsal.errors import NotModelled
from rehearsal.settings import ACCOUNT

TEST_FILE = 'ELBAccessLogTestFile'


class LoadBalancerActions(Extension, extends=ELBV2Response):
    """Actions on load balancers, listeners, rules and target groups."""

    def call_action(self) -> Any:
        """Perform an action, and order that the programs follow the records."""
        answer = self.moto_call_action()
        self.rehearsal.load_balancers.changed()
        return answer


class LoadBalancerRecords(Extension, extends=ELBv2Backend):
    """Records of load balancers, listeners, rules and target groups."""

    def create_load_balancer(self, *arguments: Any, **options: Any) -> Any:
        """Create a load balancer with an address of its own."""
        kind = options.get('loadbalancer_type') or 'application'
        if self.rehearsal.load_balancers.has_programs and kind != 'application':
            raise NotModelled(f'load balancer type {kind}: only application is modelled')
        balancer = self.moto_create_load_balancer(*arguments, **options)
        balancer.rehearsal_address = self.rehearsal.load_balancers.address_of(balancer.arn)
        return balancer

    def create_target_group(self, name: str, **options: Any) -> Any:
        """Create a target group."""
        if self.rehearsal.load_balancers.has_programs:
            check_target_group(options)
        return self.moto_create_target_group(name, **options)

    def create_listener(self, load_balancer_arn: str, protocol: str, port: str, ssl_policy: str,
                        certificate: str | None, actions: list[dict[str, Any]], *arguments: Any,
                        **options: Any) -> Any:
        """Create a listener."""
        if self.rehearsal.load_balancers.has_programs:
            action_in(actions)
            if protocol == 'HTTPS':
                oldest_tls_in(ssl_policy)
        return self.moto_create_listener(load_balancer_arn, protocol, port, ssl_policy, certificate, actions,
                                         *arguments, **options)

    def modify_listener(self, arn: str, port: str | None = None, protocol: str | None = None,
                        ssl_policy: str | None = None, certificates: list[dict[str, Any]] | None = None,
                        actions: list[dict[str, Any]] | None = None) -> Any:
        """Change a listener."""
        if self.rehearsal.load_balancers.has_programs:
            if actions:
                action_in(actions)
            if ssl_policy:
                oldest_tls_in(ssl_policy)
        return self.moto_modify_listener(arn, port, protocol, ssl_policy, certificates, actions)

    def create_rule(self, listener_arn: str, conditions: list[dict[str, Any]], priority: int,
                    actions: list[dict[str, Any]], tags: Any = None) -> Any:
        """Create a rule of a listener."""
        self._check_rule(conditions, actions)
        return self.moto_create_rule(listener_arn, conditions, priority, actions, tags)

    def modify_rule(self, rule_arn: str, conditions: list[dict[str, Any]], actions: list[dict[str, Any]]) -> Any:
        """Change a rule of a listener."""
        self._check_rule(conditions, actions)
        return self.moto_modify_rule(rule_arn, conditions, actions)

    def modify_load_balancer_attributes(self, arn: str, attrs: dict[str, Any]) -> Any:
        """Change attributes of a load balancer."""
        if self.rehearsal.load_balancers.has_programs:
            check_attributes(attrs, BALANCER_ATTRIBUTES)
            balancer = self.load_balancers.get(arn)
            if balancer:
                check_access_logs({**balancer.attrs, **attrs})
        return self.moto_modify_load_balancer_attributes(arn, attrs)

    def modify_target_group_attributes(self, target_group_arn: str, attributes: dict[str, Any]) -> None:
        """Change attributes of a target group."""
        if self.rehearsal.load_balancers.has_programs:
            check_attributes(attributes, GROUP_ATTRIBUTES)
        self.moto_modify_target_group_attributes(target_group_arn, attributes)

    def modify_listener_attributes(self, listener_arn: str, attrs: list[dict[str, str]]) -> Any:
        """Change attributes of a listener."""
        if self.rehearsal.load_balancers.has_programs:
            check_listener_attributes(attrs)
        return self.moto_modify_listener_attributes(listener_arn, attrs)

    def _check_rule(self, conditions: list[dict[str, Any]], actions: list[dict[str, Any]]) -> None:
        if self.rehearsal.load_balancers.has_programs:
            conditions_in(conditions)
            if actions:
                action_in(actions)


class WebAcls(Extension, extends=WAFV2Backend):
    """Web ACLs, of which those of load balancers limit requests."""

    def associate_web_acl(self, web_acl_arn: str, resource_arn: str) -> None:
        """Put a web ACL before a resource, in place of the one before."""
        acl = self.wacls.get(web_acl_arn)
        is_real = self.rehearsal.load_balancers.has_programs and ':loadbalancer/' in resource_arn
        if acl and is_real:
            limit_in(acl.default_action, [rule.to_dict() for rule in acl.rules])
        if self.get_web_acl_for_resource(resource_arn):
            self.disassociate_web_acl(resource_arn)
        self.moto_associate_web_acl(web_acl_arn, resource_arn)
        self.rehearsal.load_balancers.changed()

    def disassociate_web_acl(self, resource_arn: str) -> None:
        """Take a web ACL from a resource."""
        self.moto_disassociate_web_acl(resource_arn)
        self.rehearsal.load_balancers.changed()

    def update_web_acl(self, name: str, _id: str, default_action: Any, rules: Any, *arguments: Any) -> Any:
        """Change a web ACL."""
        acl = self.get_web_acl(None, name, _id)
        is_used = any(':loadbalancer/' in resource for resource in acl.associated_resources)
        if self.rehearsal.load_balancers.has_programs and is_used:
            limit_in(default_action or acl.default_action, rules or [])
        token = self.moto_update_web_acl(name, _id, default_action, rules, *arguments)
        self.rehearsal.load_balancers.changed()
        return token


def check_target_group(options: dict[str, Any]) -> None:
    """Refuse a target group whose kind is not modelled."""
    if options.get('target_type') not in (None, 'instance') or options.get('protocol') != 'HTTP':
        raise NotModelled('target group: only instances that speak HTTP are modelled')
    if options.get('healthcheck_protocol') not in (None, 'HTTP') or options.get('protocol_version') not in (
            None, 'HTTP1'):
        raise NotModelled('target group: only checks by HTTP are modelled')


def check_access_logs(attributes: dict[str, Any]) -> None:
    """Write the test file of an access log to its bucket, and refuse the log if there is no such bucket.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
    """
    if attributes.get('access_logs.s3.enabled') != 'true':
        return
    bucket, prefix = attributes.get('access_logs.s3.bucket', ''), attributes.get('access_logs.s3.prefix', '')
    key = '/'.join(part for part in (prefix, 'AWSLogs', ACCOUNT, TEST_FILE) if part)
    try:
        s3_backends[ACCOUNT]['aws'].put_object(bucket, key, b'')
    except MissingBucket:
        raise ELBClientError('InvalidConfigurationRequest', f'Access Denied for bucket: {bucket}. Please check '
                                                            'S3bucket permission') from None
