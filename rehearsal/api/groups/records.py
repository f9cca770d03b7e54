"""Moto's records of groups and their instances, as the decisions about them need them."""

from typing import Any

from moto.autoscaling.models import ASG_NAME_TAG

from rehearsal.api.groups.acts import IN_SERVICE, Member, Rules, Version
from rehearsal.api.groups.capacity import emptiest
from rehearsal.api.groups.health import Checks, failure
from rehearsal.api.target_health import DRAINING, HEALTHY, target_state


def rules_of(group: Any) -> Rules:
    """Return the attributes of a group that decide about its instances."""
    policy = group.__dict__.get('instance_maintenance_policy') or {}
    return Rules(group.desired_capacity or 0, version_of(group), tuple(group.termination_policies),
                 policy.get('MinHealthyPercentage'), policy.get('MaxHealthyPercentage'), warmup_of(group),
                 not is_suspended(group, 'Launch'), not is_suspended(group, 'Terminate'),
                 not is_suspended(group, 'HealthCheck', 'ReplaceUnhealthy'))


def as_member(group: Any, member: Any, now: float) -> Member:
    """Return an instance of a group with the attributes that decide about it, at a time of the real clock."""
    instance = member.instance
    checks = Checks(instance.state, member.health_status == 'Unhealthy', group.health_check_type,
                    target_states(group, instance.id) if member.lifecycle_state == IN_SERVICE else (),
                    in_grace(group, member, now))
    return Member(instance.id, member.lifecycle_state, instance.placement.zone,
                  getattr(instance, 'rehearsal_version', Version()), instance.launch_time,
                  bool(member.protected_from_scale_in), getattr(member, 'healthy_since', None), failure(checks),
                  checks.runs)


def in_grace(group: Any, member: Any, now: float) -> bool:
    """Return whether an instance is within the grace period of its health checks, at a time of the real clock.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/health-check-grace-period.html
    """
    began = getattr(member, 'in_service_at', None)
    return began is None or now < began + (group.health_check_grace_period or 0)


def is_healthy_target(group: Any, member: Any) -> bool:
    """Return whether the load balancers of a group call an instance healthy, if they decide about its health."""
    states = target_states(group, member.instance.id)
    return group.health_check_type != 'ELB' or all(state == HEALTHY for state in states)


def is_draining(group: Any, instance: str) -> bool:
    """Return whether a load balancer of a group still ends the requests of an instance."""
    return DRAINING in target_states(group, instance)


def target_states(group: Any, instance: str) -> tuple[str, ...]:
    """Return the states of an instance in the target groups of its group."""
    balancers = group.autoscaling_backend.elbv2_backend
    return tuple(target_state(balancers, arn, instance) for arn in group.target_group_arns
                 if arn in balancers.target_groups)


def launched(group: Any, version: Version) -> Any:
    """Return a new instance of a group from a version of a template, in the emptiest zone of the group."""
    source, options = group, {}
    if version.template:
        source = group.ec2_backend.get_launch_template(version.template).get_version(version.number)
        options = {'launch_template': {'LaunchTemplateId': version.template, 'Version': version.number}}
    places = places_of(group)
    members = [as_member(group, member, 0) for member in group.instance_states]
    zone, subnet = places[emptiest([zone for zone, _subnet in places], members)]
    reservation = group.ec2_backend.run_instances(
        source.image_id, 1, source.user_data, source.security_groups, instance_type=source.instance_type,
        is_instance_type_default=False, placement=zone, subnet_id=subnet, region_name=group.region,
        tags={'instance': {**group.get_propagated_tags(), **source.instance_tags, ASG_NAME_TAG: group.name}},
        launch_config=group.launch_config, **options)
    instance = reservation.instances[0]
    instance.rehearsal_version = version
    return instance


def places_of(group: Any) -> list[tuple[str, str | None]]:
    """Return the zones of a group, each with its subnet if the group names subnets, in the group's order."""
    subnets = group.vpc_zone_identifier.split(',') if group.vpc_zone_identifier else []
    if not subnets:
        return [(zone, None) for zone in group.availability_zones]
    return [(group.ec2_backend.get_subnet(subnet).availability_zone, subnet) for subnet in subnets]


def version_of(group: Any) -> Version:
    """Return the version that a group launches without a refresh."""
    template = group.ec2_launch_template
    if not template:
        return Version()
    return Version(template.id, str(template.get_version(group.launch_template_version).number))


def warmup_of(group: Any) -> int:
    """Return the default instance warm-up of a group.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-default-instance-warmup.html
    """
    return max(0, group.__dict__.get('default_instance_warmup') or 0)


def is_suspended(group: Any, *processes: str) -> bool:
    """Return whether one of these processes of a group is suspended.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html
    """
    return any(process['ProcessName'] in processes for process in group.suspended_processes)
