"""The plan of a load balancer, from moto's records; features without a model are refused.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-listeners.html
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moto.acm.models import acm_backends
from moto.wafv2.models import wafv2_backends

from rehearsal.api.target_health import DRAINING, health_of, INITIAL, receiving, targets_of, UNHEALTHY
from rehearsal.errors import NotModelled

# The defaults of a redirect are those of the request.
SAME_PROTOCOL, SAME_HOST, SAME_PORT, SAME_PATH, SAME_QUERY = (
    '#{protocol}', '#{host}', '#{port}', '/#{path}', '#{query}')
HOST, PATH = 'host-header', 'path-pattern'
SETTINGS_OF_CONDITIONS = {HOST: 'HostHeaderConfig', PATH: 'PathPatternConfig'}
ROUND_ROBIN, LEAST_OUTSTANDING = 'round_robin', 'least_outstanding_requests'
IDLE_SECONDS = 60
# Targets in these states may still have requests to answer.
ANSWERING = (DRAINING, INITIAL, UNHEALTHY)
TLS12, TLS13 = 'TLSv1.2', 'TLSv1.3'
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html
TLS13_ONLY = 'ELBSecurityPolicy-TLS13-1-3'
TLS12_TOO = ('ELBSecurityPolicy-TLS13-1-2-', 'ELBSecurityPolicy-TLS-1-2-2017-01', 'ELBSecurityPolicy-FS-1-2-')
# Attributes whose effect is modelled here, and the only values that are accepted of others.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html
ANY = None
BALANCER_ATTRIBUTES: Mapping[str, tuple[str, ...] | None] = {
    'access_logs.s3.enabled': ANY, 'access_logs.s3.bucket': ANY, 'access_logs.s3.prefix': ANY,
    'connection_logs.s3.enabled': ('false',), 'connection_logs.s3.bucket': ANY, 'connection_logs.s3.prefix': ANY,
    'health_check_logs.s3.enabled': ('false',), 'client_keep_alive.seconds': ('3600',),
    'deletion_protection.enabled': ANY, 'idle_timeout.timeout_seconds': ANY,
    'ipv6.deny_all_igw_traffic': ('false',), 'load_balancing.cross_zone.enabled': ('true', 'false'),
    'routing.http.desync_mitigation_mode': ('defensive',),
    'routing.http.drop_invalid_header_fields.enabled': ANY, 'routing.http.preserve_host_header.enabled': ANY,
    'routing.http.x_amzn_tls_version_and_cipher_suite.enabled': ('false',),
    'routing.http.xff_client_port.enabled': ('false',), 'routing.http.xff_header_processing.mode': ('append',),
    'routing.http2.enabled': ANY, 'waf.fail_open.enabled': ('false',), 'zonal_shift.config.enabled': ('false',)}
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html
GROUP_ATTRIBUTES: Mapping[str, tuple[str, ...] | None] = {
    'deregistration_delay.timeout_seconds': ANY, 'stickiness.enabled': ('false',), 'stickiness.type': ANY,
    'stickiness.lb_cookie.duration_seconds': ANY, 'stickiness.app_cookie.duration_seconds': ANY,
    'stickiness.app_cookie.cookie_name': ANY, 'load_balancing.algorithm.type': (ROUND_ROBIN, LEAST_OUTSTANDING),
    'load_balancing.algorithm.anomaly_mitigation': ('off',), 'slow_start.duration_seconds': ('0',),
    'load_balancing.cross_zone.enabled': ('use_load_balancer_configuration', 'true'),
    'target_group_health.dns_failover.minimum_healthy_targets.count': ('1',),
    'target_group_health.dns_failover.minimum_healthy_targets.percentage': ('off',),
    'target_group_health.unhealthy_state_routing.minimum_healthy_targets.count': ('1',),
    'target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage': ('off',)}
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/header-modification.html
HSTS, SERVER = ('routing.http.response.strict_transport_security.header_value', 'routing.http.response.server.enabled')


@dataclass(frozen=True)
class Condition:
    """A condition of a rule: a host or a path that matches one of some patterns, with `*` and `?` as wildcards."""

    field: str
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class Forward:
    """The action that sends a request to a target group, by its ARN."""

    target_group: str


@dataclass(frozen=True)
class Redirect:
    """The action that answers by another URL, whose parts may hold those of the request."""

    status: int
    protocol: str
    host: str
    port: str
    path: str
    query: str


@dataclass(frozen=True)
class FixedResponse:
    """The action that answers by a fixed text."""

    status: int
    content_type: str
    body: str


Action = Forward | Redirect | FixedResponse


@dataclass(frozen=True)
class Rule:
    """A rule of a listener; the default rule has the priority 0 and no condition."""

    priority: int
    conditions: tuple[Condition, ...]
    action: Action


@dataclass(frozen=True)
class Certificate:
    """A certificate by its ARN, with its key, as PEM."""

    arn: str
    pem: str


@dataclass(frozen=True)
class Listener:
    """A listener: its port, its rules in their order with the default rule last, and its certificates.

    The first certificate is the default one.
    """

    port: int
    protocol: str
    rules: tuple[Rule, ...]
    certificates: tuple[Certificate, ...] = ()
    oldest_tls: str = TLS12
    hsts: str = ''
    names_server: bool = True


@dataclass(frozen=True)
class RateLimit:
    """The most requests of one address in a time."""

    requests: int
    seconds: int


@dataclass(frozen=True)
class Configuration:
    """All of a load balancer except its targets."""

    listeners: tuple[Listener, ...]
    algorithms: Mapping[str, str]
    idle_seconds: int
    drops_invalid_headers: bool
    speaks_http2: bool
    limit: RateLimit | None


@dataclass(frozen=True)
class Target:
    """A target at its address; one that does not receive requests may still answer those that it has."""

    instance: str
    port: int
    receives: bool


@dataclass(frozen=True)
class Plan:
    """A load balancer: its configuration, and its targets by the ARN of their group."""

    configuration: Configuration
    targets: Mapping[str, tuple[Target, ...]]


def plan_of(backend: Any, balancer: Any) -> Plan:
    """Return the plan of a load balancer of a moto backend."""
    configuration = configuration_of(backend, balancer)
    return Plan(configuration, {arn: targets_in(backend, backend.target_groups[arn])
                                for arn in configuration.algorithms})


def configuration_of(backend: Any, balancer: Any) -> Configuration:
    """Return the configuration of a load balancer."""
    listeners = tuple(listener_of(backend, listener) for listener in balancer.listeners.values())
    groups = [rule.action.target_group for listener in listeners for rule in listener.rules
              if isinstance(rule.action, Forward)]
    attributes = balancer.attrs
    return Configuration(
        listeners,
        {arn: backend.target_groups[arn].attributes['load_balancing.algorithm.type'] for arn in sorted(set(groups))},
        int(attributes.get('idle_timeout.timeout_seconds') or IDLE_SECONDS),
        attributes.get('routing.http.drop_invalid_header_fields.enabled') == 'true',
        attributes.get('routing.http2.enabled', 'true') == 'true', limit_of(backend, balancer))


def listener_of(backend: Any, listener: Any) -> Listener:
    """Return a listener."""
    ordered = sorted(listener._non_default_rules.values(), key=lambda rule: int(rule.priority))
    rules = [Rule(int(rule.priority), conditions_in(rule.conditions), action_in(rule.actions)) for rule in ordered]
    rules.append(Rule(0, (), action_in(listener.default_actions)))
    is_secure = listener.protocol == 'HTTPS'
    attributes = listener.attributes
    return Listener(
        int(listener.port), listener.protocol, tuple(rules),
        tuple(certificate_of(backend, arn) for arn in dict.fromkeys(listener.certificates)) if is_secure else (),
        oldest_tls_in(listener.ssl_policy) if is_secure else TLS12, attributes.get(HSTS, ''),
        attributes.get(SERVER, 'true') != 'false')


def targets_in(backend: Any, group: Any) -> tuple[Target, ...]:
    """Return the targets of a group that receive requests, or may have some to answer."""
    draining = {instance: group.deregistered_targets[instance] for instance in targets_of(group).draining_until}
    targets = {**draining, **group.targets}
    states = {instance: health_of(backend, group, instance).state for instance in targets}
    chosen = receiving(states)
    return tuple(Target(instance, int(target['Port']), instance in chosen)
                 for instance, target in targets.items() if instance in chosen or states[instance] in ANSWERING)


def certificate_of(backend: Any, arn: str) -> Certificate:
    """Return a certificate of ACM."""
    if ':acm:' not in arn:
        raise NotModelled(f'certificate {arn}: only those of ACM are modelled')
    bundle = acm_backends[backend.account_id][backend.region_name].get_certificate(arn)
    return Certificate(arn, b'\n'.join((bundle.cert, bundle.key)).decode())


def oldest_tls_in(policy: str | None) -> str:
    """Return the oldest version of TLS that a security policy allows."""
    if policy and policy.startswith(TLS13_ONLY):
        return TLS13
    if policy and policy.startswith(TLS12_TOO):
        return TLS12
    raise NotModelled(f'SslPolicy {policy}: only policies of TLS 1.2 and 1.3 are modelled')


def conditions_in(conditions: Iterable[Mapping[str, Any]]) -> tuple[Condition, ...]:
    """Return the conditions of a rule.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html
    """
    found = []
    for condition in conditions:
        field = str(condition.get('Field'))
        if field not in SETTINGS_OF_CONDITIONS or condition.get('RegexValues'):
            raise NotModelled(f'condition {field}: only the values of {HOST} and {PATH} are modelled')
        configured = condition.get(SETTINGS_OF_CONDITIONS[field]) or {}
        patterns = condition.get('Values') or configured.get('Values') or ()
        if configured.get('RegexValues') or not patterns:
            raise NotModelled(f'condition {field} without Values: only Values are modelled')
        found.append(Condition(field, tuple(patterns)))
    return tuple(found)


def action_in(actions: Iterable[Any]) -> Action:
    """Return the one action of a rule.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-action-types.html
    """
    given = [getattr(action, 'data', action) for action in actions]
    if len(given) != 1:
        raise NotModelled(f'{len(given)} actions of a rule: only one is modelled')
    (action,) = given
    kind = action.get('Type')
    if kind == 'redirect':
        settings = action['RedirectConfig']
        return Redirect(int(str(settings['StatusCode']).removeprefix('HTTP_')),
                        settings.get('Protocol') or SAME_PROTOCOL, settings.get('Host') or SAME_HOST,
                        settings.get('Port') or SAME_PORT, settings.get('Path') or SAME_PATH,
                        SAME_QUERY if settings.get('Query') is None else settings['Query'])
    if kind == 'fixed-response':
        settings = action['FixedResponseConfig']
        return FixedResponse(int(settings['StatusCode']), settings.get('ContentType') or 'text/plain',
                             settings.get('MessageBody') or '')
    if kind == 'forward':
        return forward_in(action)
    raise NotModelled(f'action {kind}: only forward, redirect and fixed-response are modelled')


def forward_in(action: Mapping[str, Any]) -> Forward:
    """Return the action that forwards requests to one target group."""
    settings = action.get('ForwardConfig') or {}
    groups = [each['TargetGroupArn'] for each in settings.get('TargetGroups') or ()] or [action['TargetGroupArn']]
    sticky = str((settings.get('TargetGroupStickinessConfig') or {}).get('Enabled') or False).lower() == 'true'
    if len(groups) != 1 or sticky:
        raise NotModelled('forward: only one target group without stickiness is modelled')
    return Forward(groups[0])


def limit_of(backend: Any, balancer: Any) -> RateLimit | None:
    """Return the limit of the web ACL of a load balancer."""
    acl = wafv2_backends[backend.account_id][backend.region_name].get_web_acl_for_resource(balancer.arn)
    return limit_in(acl.default_action, [rule.to_dict() for rule in acl.rules]) if acl else None


def limit_in(default_action: Mapping[str, Any], rules: Iterable[Mapping[str, Any]]) -> RateLimit | None:
    """Return the limit of a web ACL, whose only modelled rule is one that blocks addresses beyond a rate.

    https://docs.aws.amazon.com/waf/latest/developerguide/waf-rule-statement-type-rate-based.html
    """
    limits = []
    for rule in rules:
        statement = rule['Statement'].get('RateBasedStatement')
        if not statement or set(rule.get('Action') or {}) != {'Block'}:
            raise NotModelled(f'web ACL rule {rule["Name"]}: only a rate-based rule that blocks is modelled')
        if statement.get('AggregateKeyType') != 'IP' or statement.get('ScopeDownStatement'):
            raise NotModelled(f'web ACL rule {rule["Name"]}: only a rate of each address is modelled')
        limits.append(RateLimit(int(statement['Limit']), int(statement.get('EvaluationWindowSec') or 300)))
    if 'Allow' not in default_action or len(limits) > 1:
        raise NotModelled('web ACL: only the default action Allow and one rule are modelled')
    return limits[0] if limits else None


def check_attributes(attributes: Mapping[str, Any], modelled: Mapping[str, tuple[str, ...] | None]) -> None:
    """Refuse attributes, or values of them, that are not modelled."""
    for name, value in attributes.items():
        if name not in modelled:
            raise NotModelled(f'attribute {name} is not modelled')
        accepted = modelled[name]
        if accepted is not None and str(value) not in accepted:
            raise NotModelled(f'attribute {name}: of its values only {", ".join(accepted)} is modelled, not {value}')


def check_listener_attributes(attributes: Iterable[Mapping[str, str]]) -> None:
    """Refuse attributes of a listener that are not modelled; without a value they have no effect."""
    for attribute in attributes:
        if attribute.get('Value') and attribute['Key'] not in (HSTS, SERVER):
            raise NotModelled(f'listener attribute {attribute["Key"]} is not modelled')
