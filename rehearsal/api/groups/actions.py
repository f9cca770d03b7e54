"""The API's actions on groups.

https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_Operations.html has a page for each.
"""

from typing import Any

from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup, InstanceState, TerminateInstanceActivity
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from rehearsal.api.groups import activities
from rehearsal.api.groups.controller import Groups
from rehearsal.api.groups.hooks import (
    ABANDON, CONTINUE, LAUNCHING, LONGEST, longest_wait, SHORTEST, TERMINATING, USUAL)
from rehearsal.api.patching import adding, wrapping

# What moto does not keep of a group, and where its answers look for it.
KEPT = {'CapacityRebalance': 'capacity_rebalance', 'DefaultCooldown': 'default_cooldown',
        'DefaultInstanceWarmup': 'default_instance_warmup', 'InstanceMaintenancePolicy': 'instance_maintenance_policy',
        'MaxInstanceLifetime': 'max_instance_lifetime', 'TerminationPolicies': 'termination_policies'}


def install(groups: Groups) -> None:
    """Let what the API is asked to do with groups happen to them."""
    let_groups_launch_by_themselves(groups)
    complete_groups(groups)
    complete_hooks(groups)


def let_groups_launch_by_themselves(groups: Groups) -> None:
    """Take launching and terminating out of moto's hands."""
    @wrapping(AutoScalingResponse, 'call_action')
    def call_action(original: Any, response: Any) -> Any:
        with groups.lock:
            answer = original(response)
        groups.changed.set()
        return answer

    @wrapping(FakeAutoScalingGroup, 'set_desired_capacity')
    def set_desired_capacity(original: Any, group: Any, capacity: int | None) -> None:
        group.desired_capacity = group.min_size if capacity is None else capacity
        groups.changed.set()

    @wrapping(FakeAutoScalingGroup, 'replace_autoscaling_group_instances')
    def replace_instances(original: Any, group: Any, count: int, tags: Any) -> None:
        groups.changed.set()

    @wrapping(AutoScalingBackend, 'notify_terminate_instances')
    def notify_terminate_instances(original: Any, backend: Any, instances: list[str]) -> None:
        groups.changed.set()

    @wrapping(AutoScalingBackend, 'terminate_instance')
    def terminate_instance(original: Any, backend: Any, instance: str, should_decrement: bool) -> Any:
        group, member = member_of(backend, instance)
        before = group.desired_capacity
        if should_decrement:
            check_size(group, before - 1)
            group.desired_capacity = before - 1
        told = TerminateInstanceActivity(member.instance, before)
        groups.leave(group, member, 'an instance was taken out of service in response to a user request')
        return told

    @wrapping(AutoScalingBackend, 'update_attached_target_groups')
    def update_attached_target_groups(original: Any, backend: Any, name: str) -> None:
        group = backend.autoscaling_groups[name]
        for arn in group.target_group_arns:
            target_group = backend.elbv2_backend.target_groups[arn]
            targets = [{'Id': member.instance.id, 'Port': target_group.port} for member in group.active_instances()]
            backend.elbv2_backend.register_targets(arn, targets)


def complete_groups(groups: Groups) -> None:
    """Add what moto leaves out of groups."""
    moto_template = InstanceState.launch_template

    def launch_template(member: Any) -> Any:
        told = moto_template.fget(member)  # type: ignore[attr-defined]
        version = getattr(member.instance, 'rehearsal_template', None)
        return {**told, 'Version': version} if told and version else told
    InstanceState.launch_template = property(launch_template)  # type: ignore[method-assign,assignment]

    @wrapping(AutoScalingResponse, 'create_auto_scaling_group')
    def create_auto_scaling_group(original: Any, response: Any) -> Any:
        name = response._get_param('AutoScalingGroupName')
        answer = original(response)
        # https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_CreateAutoScalingGroup.html: the default is 0.
        keep(response, name).health_check_grace_period = response._get_int_param('HealthCheckGracePeriod', 0)
        for hook in response._get_param('LifecycleHookSpecificationList', []):
            put_hook(response.autoscaling_backend, name, hook)
        return answer

    @wrapping(AutoScalingResponse, 'update_auto_scaling_group')
    def update_auto_scaling_group(original: Any, response: Any) -> Any:
        answer = original(response)
        name = response._get_param('AutoScalingGroupName')
        group = keep(response, name)
        # https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_UpdateAutoScalingGroup.html
        group.set_desired_capacity(max(group.min_size, min(group.max_size, group.desired_capacity)))
        return answer

    @wrapping(AutoScalingResponse, 'set_desired_capacity')
    def set_desired_capacity(original: Any, response: Any) -> Any:
        check_size(group_of(response), response._get_int_param('DesiredCapacity'))
        return original(response)

    @wrapping(AutoScalingResponse, 'delete_auto_scaling_group')
    def delete_auto_scaling_group(original: Any, response: Any) -> Any:
        # https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DeleteAutoScalingGroup.html
        group = group_of(response)
        if group.instance_states and not response._get_bool_param('ForceDelete', False):
            raise AutoscalingClientError('ResourceInUse', 'You cannot delete an AutoScalingGroup while there are '
                                                          'instances or pending Spot instance request(s) still in '
                                                          'the group.')
        for member in group.instance_states:
            member.instance.terminate()
        hooks = response.autoscaling_backend.lifecycle_hooks
        for key in [key for key, hook in hooks.items() if hook.auto_scaling_group_name == group.name]:
            del hooks[key]
        return original(response)

    @adding(AutoScalingResponse)
    def describe_scaling_activities(response: Any) -> ActionResult:
        name = response._get_param('AutoScalingGroupName')
        wanted = [group_of(response)] if name else response.autoscaling_backend.autoscaling_groups.values()
        found = [activity for group in wanted for activity in activities.activities_of(group)]
        return ActionResult({'Activities': found[:response._get_int_param('MaxRecords', 100)]})

    # None can be started here, so a group has none.
    @adding(AutoScalingResponse)
    def describe_instance_refreshes(response: Any) -> ActionResult:
        group_of(response)
        return ActionResult({'InstanceRefreshes': []})


def complete_hooks(groups: Groups) -> None:
    """Add what moto leaves out of lifecycle hooks."""
    @adding(AutoScalingResponse)
    def put_lifecycle_hook(response: Any) -> EmptyResult:
        names = ('LifecycleHookName', 'LifecycleTransition', 'HeartbeatTimeout', 'DefaultResult', 'RoleARN',
                 'NotificationTargetARN', 'NotificationMetadata')
        put_hook(response.autoscaling_backend, group_of(response).name,
                 {name: response._get_param(name) for name in names})
        return EmptyResult()

    @adding(AutoScalingResponse)
    def complete_lifecycle_action(response: Any) -> EmptyResult:
        wait = wait_of(groups, response)
        result = response._get_param('LifecycleActionResult')
        if result not in (CONTINUE, ABANDON):
            raise ValidationError(f'LifecycleActionResult {result}: must be CONTINUE or ABANDON')
        wait.result = result
        return EmptyResult()

    @adding(AutoScalingResponse)
    def record_lifecycle_action_heartbeat(response: Any) -> EmptyResult:
        wait_of(groups, response).beat(groups.now())
        return EmptyResult()


def put_hook(backend: Any, group: str, wanted: dict[str, Any]) -> None:
    """Put a lifecycle hook, which is read back as it was put.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutLifecycleHook.html
    """
    name, transition = wanted['LifecycleHookName'], wanted.get('LifecycleTransition')
    known = backend.lifecycle_hooks.get(f'{group}_{name}')
    transition = transition or (known and known.lifecycle_transition)
    heartbeat = int(wanted.get('HeartbeatTimeout') or (known and known.heartbeat_timeout) or USUAL)
    if transition not in (LAUNCHING, TERMINATING):
        raise ValidationError(f'LifecycleTransition {transition}: must be {LAUNCHING} or {TERMINATING}')
    if not SHORTEST <= heartbeat <= LONGEST:
        raise ValidationError(f'HeartbeatTimeout {heartbeat}: must be between {SHORTEST} and {LONGEST} seconds')
    default = wanted.get('DefaultResult') or (known and known.default_result) or ABANDON
    hook = backend.create_lifecycle_hook(name, group, transition, heartbeat, default)
    hook.global_timeout = int(longest_wait(heartbeat))
    hook.role_arn, hook.notification_target_arn = wanted.get('RoleARN'), wanted.get('NotificationTargetARN')
    hook.notification_metadata = wanted.get('NotificationMetadata')


def keep(response: Any, name: str) -> Any:
    """Keep what a request says of a group and moto does not, and return the group."""
    group = response.autoscaling_backend.autoscaling_groups[name]
    for parameter, attribute in KEPT.items():
        value = response._get_param(parameter)
        if value is not None:
            setattr(group, attribute, value)
    return group


def check_size(group: Any, wanted: int) -> None:
    """Refuse a capacity beyond a group's bounds."""
    if not group.min_size <= wanted <= group.max_size:
        bound, name = (group.min_size, 'min') if wanted < group.min_size else (group.max_size, 'max')
        side = 'below' if name == 'min' else 'above'
        raise ValidationError(f'New SetDesiredCapacity value {wanted} is {side} {name} value {bound} for the '
                              'AutoScalingGroup.')


def group_of(response: Any) -> Any:
    """Return the group that a request names."""
    name = response._get_param('AutoScalingGroupName')
    group = response.autoscaling_backend.autoscaling_groups.get(name)
    if not group:
        raise ValidationError(f'AutoScalingGroup name not found - AutoScalingGroup {name} not found')
    return group


def member_of(backend: Any, instance: str) -> tuple[Any, Any]:
    """Return the group that an instance is in, and what that knows of it."""
    for group in backend.autoscaling_groups.values():
        for member in group.instance_states:
            if member.instance.id == instance:
                return group, member
    raise ValidationError(f'Instance Id not found - No managed instance found for instance ID: {instance}')


def wait_of(groups: Groups, response: Any) -> Any:
    """Return the wait that a request speaks of."""
    instance, token = response._get_param('InstanceId'), response._get_param('LifecycleActionToken')
    wait = groups.waiting(group_of(response), instance, token, response._get_param('LifecycleHookName'))
    if not wait:
        named = f'token {token}' if token else f'instance ID {instance}'
        raise ValidationError(f'No active Lifecycle Action found with {named}')
    return wait
