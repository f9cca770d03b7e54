"""The instances of groups: standby, detachment, attachment, and termination by a call.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html
"""

from collections.abc import Sequence
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import ASG_NAME_TAG, AutoScalingBackend, InstanceState, TerminateInstanceActivity

from rehearsal.api.groups import activities
from rehearsal.api.groups.acts import DETACHING, ENTERING_STANDBY, IN_SERVICE, STANDBY, Version
from rehearsal.api.groups.records import is_suspended, places_of
from rehearsal.api.patching import Extension

ON_REQUEST = 'instance {} was {} in response to a user request'


class GroupInstances(Extension, extends=AutoScalingBackend):
    """The instances of groups."""

    def notify_terminate_instances(self, instances: list[str]) -> None:
        """Wake the controller."""
        self.rehearsal.groups.changed.set()

    def terminate_instance(self, instance: str, should_decrement: bool) -> Any:
        """Take an instance out of its group, and return the activity."""
        group, member = member_of(self, instance)
        capacity = group.desired_capacity
        if should_decrement:
            check_size(group, capacity - 1)
            group.desired_capacity = capacity - 1
        activity = TerminateInstanceActivity(member.instance, capacity)
        self.rehearsal.groups.leave(group, member,
                                    'an instance was taken out of service in response to a user request')
        return activity

    def enter_standby_instances(self, name: str, instances: list[str], should_decrement: bool) -> list[dict[str, Any]]:
        """Take instances out of service, but not out of their group; without a decrement, others are launched.

        https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-enter-exit-standby.html
        """
        group, members = members_in(self, name, instances, IN_SERVICE)
        shrink(group, len(members) if should_decrement else 0, 'place into standby')
        return [self._set_aside(group, member, ENTERING_STANDBY, activities.STANDBY_BEGINS, 'moved to standby')
                for member in members]

    def exit_standby_instances(self, name: str, instances: list[str]) -> list[dict[str, Any]]:
        """Put instances into service again, which raises the desired capacity.

        https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_ExitStandby.html
        """
        group, members = members_in(self, name, instances, STANDBY)
        group.desired_capacity += len(members)
        return [self._take_in(group, member, activities.STANDBY_ENDS, 'moved out of standby', with_hooks=False)
                for member in members]

    def detach_instances(self, name: str, instances: list[str], should_decrement: bool) -> list[dict[str, Any]]:
        """Take instances out of their group; they keep running.

        https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-detach-attach-instances.html
        """
        group, members = members_in(self, name, instances, IN_SERVICE, STANDBY)
        shrink(group, len(members) if should_decrement else 0, 'detach')
        return [self._set_aside(group, member, DETACHING, activities.DETACHING, 'detached') for member in members]

    def attach_instances(self, name: str, instances: list[str]) -> None:
        """Take running instances into a group, which raises the desired capacity.

        https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AttachInstances.html
        """
        group = named(self, name)
        if group.desired_capacity + len(instances) > group.max_size:
            raise ValidationError(f'AutoScalingGroup {name} has min-size={group.min_size}, max-size={group.max_size}, '
                                  f'and desired-size={group.desired_capacity}. To attach {counted(instances)}, please '
                                  'update the AutoScalingGroup sizes appropriately.')
        attached = [self.ec2_backend.get_instance(instance) for instance in instances]
        for instance in attached:
            check_attachable(self, group, instance)
        group.desired_capacity += len(attached)
        for instance in attached:
            instance.autoscaling_group, instance.rehearsal_version = group, Version()
            member = InstanceState(instance, 'Pending', 'Healthy', group.new_instances_protected_from_scale_in)
            self.ec2_backend.create_tags([instance.id], {ASG_NAME_TAG: name})
            group.instance_states.append(member)
            self._take_in(group, member, activities.ATTACHING, 'attached')

    def update_attached_target_groups(self, name: str) -> None:
        """Register the instances in service with the group's target groups."""
        group = self.autoscaling_groups[name]
        if is_suspended(group, 'AddToLoadBalancer'):
            return
        for arn in group.target_group_arns:
            target_group = self.elbv2_backend.target_groups[arn]
            targets = [{'Id': member.instance.id, 'Port': target_group.port} for member in group.active_instances()]
            self.elbv2_backend.register_targets(arn, targets)

    def _set_aside(self, group: Any, member: Any, state: str, description: str, verb: str) -> dict[str, Any]:
        activity = activities.begin(group, description.format(member.instance.id),
                                    ON_REQUEST.format(member.instance.id, verb), activities.IN_PROGRESS)
        shown = dict(activity)
        self.rehearsal.groups.drain(group, member, state, activity)
        return shown

    def _take_in(self, group: Any, member: Any, description: str, verb: str,
                 with_hooks: bool = True) -> dict[str, Any]:
        activity = activities.begin(group, description.format(member.instance.id),
                                    ON_REQUEST.format(member.instance.id, verb), activities.PRE_IN_SERVICE)
        self.rehearsal.groups.enter(group, member, activity, with_hooks)
        return dict(activity)


def check_size(group: Any, capacity: int) -> None:
    """Refuse a capacity beyond a group's bounds."""
    if not group.min_size <= capacity <= group.max_size:
        bound, name = (group.min_size, 'min') if capacity < group.min_size else (group.max_size, 'max')
        side = 'below' if name == 'min' else 'above'
        raise ValidationError(f'New SetDesiredCapacity value {capacity} is {side} {name} value {bound} for the '
                              'AutoScalingGroup.')


def shrink(group: Any, count: int, verb: str) -> None:
    """Lower the desired capacity of a group, or refuse it below the minimum size."""
    if group.desired_capacity - count < group.min_size:
        raise ValidationError(f'AutoScalingGroup {group.name} has min-size={group.min_size}, '
                              f'max-size={group.max_size}, and desired-size={group.desired_capacity}. To {verb} '
                              f'{counted([""] * count)}, please update the AutoScalingGroup sizes appropriately.')
    group.desired_capacity -= count


def counted(instances: Sequence[str]) -> str:
    """Return a number of instances in words."""
    return f'{len(instances)} instance{"" if len(instances) == 1 else "s"}'


def check_attachable(backend: Any, group: Any, instance: Any) -> None:
    """Refuse an instance that a group cannot take in.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-detach-attach-instances.html
    """
    if instance.state != 'running':
        raise ValidationError(f'Instance {instance.id} is not in correct state. Instance(s) must be in running state.')
    if any(member.instance.id == instance.id for each in backend.autoscaling_groups.values()
           for member in each.instance_states):
        raise ValidationError(f'Instance {instance.id} is already part of an AutoScalingGroup.')
    if instance.placement.zone not in [zone for zone, _subnet in places_of(group)]:
        raise ValidationError(f'Instance {instance.id} is not in an availability zone of the AutoScalingGroup.')


def named(backend: Any, name: str) -> Any:
    """Return the group of a name."""
    group = backend.autoscaling_groups.get(name)
    if not group:
        raise ValidationError(f'AutoScalingGroup name not found - AutoScalingGroup {name} not found')
    return group


def members_in(backend: Any, name: str, instances: Sequence[str], *states: str) -> tuple[Any, list[Any]]:
    """Return a group and its records of instances, each of which must be in one of some states."""
    group = named(backend, name)
    by_instance = {member.instance.id: member for member in group.instance_states}
    for instance in instances:
        if instance not in by_instance:
            raise ValidationError(f'The instance {instance} is not part of Auto Scaling group {name}.')
        if by_instance[instance].lifecycle_state not in states:
            raise ValidationError(f'The instance {instance} is not in {" or ".join(states)}.')
    return group, [by_instance[instance] for instance in instances]


def member_of(backend: Any, instance: str) -> tuple[Any, Any]:
    """Return the group of an instance, and the group's record of it."""
    for group in backend.autoscaling_groups.values():
        for member in group.instance_states:
            if member.instance.id == instance:
                return group, member
    raise ValidationError(f'Instance Id not found - No managed instance found for instance ID: {instance}')
