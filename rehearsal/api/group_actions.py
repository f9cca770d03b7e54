"""The API's actions on groups.

https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_Operations.html has a page for each.
"""

from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.models import FakeAutoScalingGroup, InstanceState
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from rehearsal.api.group_members import check_size, member_of, named
from rehearsal.api.groups import activities
from rehearsal.api.groups.hooks import (
    ABANDON, CONTINUE, DEFAULT_SECONDS, LAUNCHING, LONGEST, longest_wait, SHORTEST, TERMINATING)
from rehearsal.api.groups.records import in_grace
from rehearsal.api.patching import Extension

# Attributes of a group that moto drops, by the parameter of a request and the name under which moto shows them.
DROPPED = {'CapacityRebalance': 'capacity_rebalance', 'DefaultCooldown': 'default_cooldown',
           'DefaultInstanceWarmup': 'default_instance_warmup',
           'InstanceMaintenancePolicy': 'instance_maintenance_policy', 'MaxInstanceLifetime': 'max_instance_lifetime',
           'TerminationPolicies': 'termination_policies'}
HOOK_PARAMETERS = ('LifecycleHookName', 'LifecycleTransition', 'HeartbeatTimeout', 'DefaultResult', 'RoleARN',
                   'NotificationTargetARN', 'NotificationMetadata')


class GroupActions(Extension, extends=AutoScalingResponse):
    """Actions on groups and their lifecycle hooks."""

    def call_action(self) -> Any:
        """Perform an action, and wake the controller because the action may have changed a group."""
        answer = self.moto_call_action()
        self.rehearsal.groups.changed.set()
        return answer

    def create_auto_scaling_group(self) -> Any:
        """Create a group with its hooks."""
        name = self._get_param('AutoScalingGroupName')
        check_policy(self._get_param('InstanceMaintenancePolicy'))
        answer = self.moto_create_auto_scaling_group()
        # https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_CreateAutoScalingGroup.html: the default is 0.
        keep_dropped(self, name).health_check_grace_period = self._get_int_param('HealthCheckGracePeriod', 0)
        for hook in self._get_param('LifecycleHookSpecificationList', []):
            put_hook(self.autoscaling_backend, name, hook)
        return answer

    def update_auto_scaling_group(self) -> Any:
        """Update a group, whose desired capacity follows its bounds.

        https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_UpdateAutoScalingGroup.html
        """
        check_policy(self._get_param('InstanceMaintenancePolicy'))
        answer = self.moto_update_auto_scaling_group()
        group = keep_dropped(self, self._get_param('AutoScalingGroupName'))
        group.set_desired_capacity(max(group.min_size, min(group.max_size, group.desired_capacity)))
        return answer

    def set_desired_capacity(self) -> Any:
        """Set a capacity within the group's bounds."""
        check_size(group_of(self), self._get_int_param('DesiredCapacity'))
        return self.moto_set_desired_capacity()

    def delete_auto_scaling_group(self) -> Any:
        """Delete a group; one with instances only by force.

        https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DeleteAutoScalingGroup.html
        """
        group = group_of(self)
        if group.instance_states and not self._get_bool_param('ForceDelete', False):
            raise AutoscalingClientError('ResourceInUse', 'You cannot delete an AutoScalingGroup while there are '
                                                          'instances or pending Spot instance request(s) still in '
                                                          'the group.')
        for member in group.instance_states:
            member.instance.terminate()
        hooks = self.autoscaling_backend.lifecycle_hooks
        for key in [key for key, hook in hooks.items() if hook.auto_scaling_group_name == group.name]:
            del hooks[key]
        return self.moto_delete_auto_scaling_group()

    def set_instance_health(self) -> EmptyResult:
        """Set the health of an instance; by default not in the grace period of its group.

        https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SetInstanceHealth.html
        """
        status = self._get_param('HealthStatus')
        if status not in ('Healthy', 'Unhealthy'):
            raise ValidationError('Valid instance health states are: [Healthy, Unhealthy]')
        group, member = member_of(self.autoscaling_backend, self._get_param('InstanceId'))
        respects = self._get_bool_param('ShouldRespectGracePeriod', True)
        if not (respects and in_grace(group, member, self.rehearsal.groups.now())):
            member.health_status = status
        return EmptyResult()

    def describe_scaling_activities(self) -> ActionResult:
        """List activities, the newest first."""
        name = self._get_param('AutoScalingGroupName')
        groups = [group_of(self)] if name else self.autoscaling_backend.autoscaling_groups.values()
        listed = [activity for group in groups for activity in activities.activities_of(group)]
        return ActionResult({'Activities': listed[:self._get_int_param('MaxRecords', 100)]})

    def put_lifecycle_hook(self) -> EmptyResult:
        """Create a hook, or change one."""
        put_hook(self.autoscaling_backend, group_of(self).name,
                 {name: self._get_param(name) for name in HOOK_PARAMETERS})
        return EmptyResult()

    def complete_lifecycle_action(self) -> EmptyResult:
        """End the wait of an instance."""
        wait = wait_of(self)
        result = self._get_param('LifecycleActionResult')
        if result not in (CONTINUE, ABANDON):
            raise ValidationError(f'LifecycleActionResult {result}: must be CONTINUE or ABANDON')
        wait.result = result
        return EmptyResult()

    def record_lifecycle_action_heartbeat(self) -> EmptyResult:
        """Prolong the wait of an instance."""
        wait_of(self).beat(self.rehearsal.groups.now())
        return EmptyResult()


class Groups(Extension, extends=FakeAutoScalingGroup):
    """A group, whose instances the controller launches and terminates instead of moto."""

    def set_desired_capacity(self, capacity: int | None) -> None:
        """Set the capacity and wake the controller."""
        self.desired_capacity = self.min_size if capacity is None else capacity
        self.rehearsal.groups.changed.set()

    def replace_autoscaling_group_instances(self, count: int, tags: Any) -> None:
        """Wake the controller."""
        self.rehearsal.groups.changed.set()


class Members(Extension, extends=InstanceState):
    """An instance as its group knows it."""

    @property
    def launch_template(self) -> Any:
        """The template with the version that the instance was launched from; moto shows the group's present one."""
        template = self.moto_launch_template
        version = getattr(self.instance, 'rehearsal_version', None)
        if not template or version is None:
            return template
        if not version.template:
            return None
        name = self.instance.ec2_backend.launch_templates[version.template].name
        return {'LaunchTemplateId': version.template, 'LaunchTemplateName': name, 'Version': version.number}


def put_hook(backend: Any, group: str, parameters: dict[str, Any]) -> None:
    """Create a lifecycle hook, or change one; it is read back as it was put.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutLifecycleHook.html
    """
    name, transition = parameters['LifecycleHookName'], parameters.get('LifecycleTransition')
    present = backend.lifecycle_hooks.get(f'{group}_{name}')
    transition = transition or (present and present.lifecycle_transition)
    heartbeat = int(parameters.get('HeartbeatTimeout') or (present and present.heartbeat_timeout) or DEFAULT_SECONDS)
    if transition not in (LAUNCHING, TERMINATING):
        raise ValidationError(f'LifecycleTransition {transition}: must be {LAUNCHING} or {TERMINATING}')
    if not SHORTEST <= heartbeat <= LONGEST:
        raise ValidationError(f'HeartbeatTimeout {heartbeat}: must be between {SHORTEST} and {LONGEST} seconds')
    default = parameters.get('DefaultResult') or (present and present.default_result) or ABANDON
    hook = backend.create_lifecycle_hook(name, group, transition, heartbeat, default)
    hook.global_timeout = int(longest_wait(heartbeat))
    hook.role_arn, hook.notification_target_arn = parameters.get('RoleARN'), parameters.get('NotificationTargetARN')
    hook.notification_metadata = parameters.get('NotificationMetadata')


def keep_dropped(response: Any, name: str) -> Any:
    """Keep the attributes in a request that moto drops, and return the group."""
    group = response.autoscaling_backend.autoscaling_groups[name]
    for parameter, attribute in DROPPED.items():
        value = response._get_param(parameter)
        if value is not None:
            setattr(group, attribute, value)
    policy = response._get_param('InstanceMaintenancePolicy')
    if policy and -1 in policy.values():
        group.instance_maintenance_policy = None
    return group


def check_policy(policy: dict[str, int] | None) -> None:
    """Refuse an instance maintenance policy that AWS refuses; -1 clears one.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstanceMaintenancePolicy.html
    """
    least, most = (policy or {}).get('MinHealthyPercentage'), (policy or {}).get('MaxHealthyPercentage')
    if policy is None or least == most == -1:
        return
    if least is None or most is None:
        raise ValidationError('You must specify both MinHealthyPercentage and MaxHealthyPercentage.')
    if not 0 <= least <= 100 <= most <= 200 or most - least > 100:
        raise ValidationError(f'MinHealthyPercentage {least} must be from 0 to 100, MaxHealthyPercentage {most} from '
                              '100 to 200, and their difference at most 100.')


def group_of(response: Any) -> Any:
    """Return the group that a request names."""
    return named(response.autoscaling_backend, response._get_param('AutoScalingGroupName'))


def wait_of(response: Any) -> Any:
    """Return the wait that a request names."""
    instance, token = response._get_param('InstanceId'), response._get_param('LifecycleActionToken')
    controller = response.rehearsal.groups
    wait = controller.waiting(group_of(response), instance, token, response._get_param('LifecycleHookName'))
    if not wait:
        name = f'token {token}' if token else f'instance ID {instance}'
        raise ValidationError(f'No active Lifecycle Action found with {name}')
    return wait
