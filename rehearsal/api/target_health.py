"""The health of targets: one record for each target group, from which DescribeTargetHealth and all others answer.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from moto.elbv2.exceptions import TargetGroupNotFoundError
from moto.elbv2.models import ELBv2Backend, FakeHealthStatus, FakeTargetGroup

from rehearsal.api.patching import Extension

INITIAL, HEALTHY, UNHEALTHY, DRAINING, UNUSED = 'initial', 'healthy', 'unhealthy', 'draining', 'unused'
DELAY = 'deregistration_delay.timeout_seconds'


@dataclass(frozen=True)
class Health:
    """The health of a target, with AWS's reason and the results of the last checks in a row."""

    state: str
    reason: str | None = None
    description: str | None = None
    passed: int = 0
    failed: int = 0


# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html
NEW = Health(INITIAL, 'Elb.RegistrationInProgress', 'Target registration is in progress')
DRAINS = Health(DRAINING, 'Target.DeregistrationInProgress', 'Target deregistration is in progress')
STOPPED = Health(UNUSED, 'Target.InvalidState', 'Target is in the stopped state')
NOT_IN_USE = Health(UNUSED, 'Target.NotInUse', 'Target group is not configured to receive traffic from the load '
                                               'balancer')
NOT_REGISTERED = Health(UNUSED, 'Target.NotRegistered', 'Target is not registered to the target group')


@dataclass(frozen=True)
class Failure:
    """A failed check, with AWS's reason."""

    reason: str
    description: str


@dataclass
class Targets:
    """The health of the registered targets of a group, and the end of the draining of the others."""

    checked: dict[str, Health] = field(default_factory=dict)
    draining_until: dict[str, float] = field(default_factory=dict)


def step(health: Health, failure: Failure | None, healthy_threshold: int, unhealthy_threshold: int) -> Health:
    """Return the health after one more check, which failed or, without a failure, passed.

    One passed check is enough for a new target; another one needs as many in a row as the threshold says.
    """
    if failure is None:
        is_healthy = health.state in (INITIAL, HEALTHY) or health.passed + 1 >= healthy_threshold
        next_health = Health(HEALTHY) if is_healthy else health
        return replace(next_health, passed=health.passed + 1, failed=0)
    failed = health.failed + 1
    if failed >= unhealthy_threshold or health.state == UNHEALTHY:
        return Health(UNHEALTHY, failure.reason, failure.description, failed=failed)
    if health.state == INITIAL:
        health = Health(INITIAL, 'Elb.InitialHealthChecking', 'Initial health checks in progress')
    return replace(health, passed=0, failed=failed)


def receiving(states: Mapping[str, str]) -> set[str]:
    """Return the targets that get requests: the healthy ones, or each registered one if none is healthy (fail open).

    `states` holds the states of the targets by their ids.
    """
    registered = {target for target, state in states.items() if state in (INITIAL, HEALTHY, UNHEALTHY)}
    return {target for target in registered if states[target] == HEALTHY} or registered


def target_state(backend: Any, target_group_arn: str, instance_id: str) -> str:
    """Return the state of a target in a target group of a moto backend; `unused` for one that is not registered."""
    return health_of(backend, backend.target_groups[target_group_arn], instance_id).state


def health_of(backend: Any, target_group: Any, target: str) -> Health:
    """Return the health of a target."""
    targets = targets_of(target_group)
    if target not in target_group.targets:
        until = targets.draining_until.get(target)
        return NOT_REGISTERED if until is None or backend.rehearsal.clocks.real() >= until else DRAINS
    instance = backend.ec2_backend.get_instance_by_id(target)
    if instance and instance.state in ('stopping', 'stopped'):
        return STOPPED
    if not backend.rehearsal.load_balancers.has_programs:
        return Health(HEALTHY)
    if not backend._any_listener_using(target_group.arn):
        return NOT_IN_USE
    return targets.checked.get(target, NEW)


def targets_of(target_group: Any) -> Targets:
    """Return the record of the targets of a group."""
    targets: Targets = target_group.__dict__.setdefault('rehearsal_targets', Targets())
    return targets


class TargetHealthDescriptions(Extension, extends=ELBv2Backend):
    """Descriptions of the health of targets."""

    def describe_target_health(self, target_group_arn: str, targets: list[dict[str, Any]]) -> list[FakeHealthStatus]:
        """Describe the named targets, or all that are registered or draining.

        https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetHealth.html
        """
        target_group = self.target_groups.get(target_group_arn)
        if target_group is None:
            raise TargetGroupNotFoundError()
        known = {**target_group.deregistered_targets, **target_group.targets}
        draining = [known[target] for target in targets_of(target_group).draining_until
                    if health_of(self, target_group, target) == DRAINS]
        return [describe(self, target_group, {**known.get(target['Id'], {}), **target})
                for target in targets or [*target_group.targets.values(), *draining]]


class Registrations(Extension, extends=FakeTargetGroup):
    """Registrations of targets."""

    def register(self, targets: list[dict[str, Any]]) -> None:
        """Register targets; one that drains is new again, one that is registered already keeps its health."""
        self.moto_register(targets)
        for target in targets:
            targets_of(self).draining_until.pop(target['Id'], None)
        self.rehearsal.load_balancers.changed()

    def deregister(self, targets: list[dict[str, Any]]) -> None:
        """Deregister targets, which drain for the time of the group's deregistration delay.

        Targets that are not registered are accepted:
        https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DeregisterTargets.html
        """
        until = self.rehearsal.clocks.real() + int(self.attributes[DELAY])
        for target in targets:
            registered = self.targets.pop(target['Id'], None)
            if registered:
                self.deregistered_targets[target['Id']] = registered
                targets_of(self).draining_until[target['Id']] = until
                targets_of(self).checked.pop(target['Id'], None)
        self.rehearsal.load_balancers.changed()

    def deregister_terminated_instances(self, instance_ids: list[str]) -> None:
        """Deregister terminated instances, as AWS does by itself.

        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-register-targets.html
        """
        self.deregister([{'Id': instance} for instance in instance_ids])


def describe(backend: Any, target_group: Any, target: dict[str, Any]) -> FakeHealthStatus:
    """Return the description of a target as moto serialises it."""
    health = health_of(backend, target_group, target['Id'])
    return FakeHealthStatus(target['Id'], target.get('Port', target_group.port), target_group.health_check_port,
                            health.state, health.reason, health.description)
