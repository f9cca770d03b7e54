"""The controller of groups, which launches and terminates instances until each group meets its rules.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html and, for health,
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-health-checks.html
"""

from collections.abc import Callable, Iterable
import logging
from threading import Event, RLock, Thread
import time
from typing import Any

from moto.autoscaling.models import ASG_NAME_TAG, InstanceState

from rehearsal.api.groups import activities
from rehearsal.api.groups.capacity import emptiest, Member, missing, superfluous
from rehearsal.api.groups.hooks import ABANDON, LAUNCHING, outcome_of_all, TERMINATING, Wait

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.5
# AWS retries at growing intervals; here a fixed one is enough.
SECONDS_AFTER_FAILED_LAUNCH = 5
LEAVING = ('Terminating', 'Terminating:Wait', 'Terminating:Proceed')
# https://docs.aws.amazon.com/autoscaling/ec2/userguide/health-checks-overview.html: any state but running.
NOT_RUNNING = ('stopping', 'stopped', 'shutting-down', 'terminated')


class Controller:
    """The controller of all groups; it changes them while it holds the lock of the records."""

    def __init__(self, groups: Callable[[], Iterable[Any]], lock: RLock,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """Control groups, which `groups` lists before each look at them."""
        self._groups = groups
        self._lock = lock
        self._clock = clock
        self._ended = Event()
        self.changed = Event()

    def start(self) -> None:
        """Start the thread that controls the groups."""
        Thread(target=self._run, name='groups', daemon=True).start()

    def stop(self) -> None:
        """End that thread after its present look."""
        self._ended.set()
        self.changed.set()

    def look(self, group: Any) -> None:
        """Take a group one step further towards its rules."""
        with self._lock:
            for member in list(group.instance_states):
                self._step(group, member)
            if group.name in group.autoscaling_backend.autoscaling_groups:
                self._fit(group)

    def leave(self, group: Any, member: Any, cause: str, with_hooks: bool = True) -> dict[str, Any]:
        """Take an instance out of its group, and return the activity."""
        backend = group.autoscaling_backend
        member.lifecycle_state = 'Terminating'
        for arn in group.target_group_arns:
            target_group = backend.elbv2_backend.target_groups.get(arn)
            # An instance that its launch hook keeps waiting was never registered, which AWS does not mind:
            # https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DeregisterTargets.html
            if target_group and member.instance.id in target_group.targets:
                backend.elbv2_backend.deregister_targets(arn, [{'Id': member.instance.id}])
        backend.update_attached_elbs(group.name)
        member.activity = activities.begin(group, activities.TERMINATING.format(member.instance.id), cause,
                                           activities.IN_PROGRESS)
        self._wait(group, member, TERMINATING if with_hooks else None, 'Terminating:Wait')
        if not member.waits:
            member.instance.terminate()
        self.changed.set()
        return dict(member.activity)

    def waiting(self, group: Any, instance: str | None, token: str | None, hook: str) -> Wait | None:
        """Return the wait for a hook, found by the instance's id or the wait's token."""
        for member in group.instance_states:
            for wait in getattr(member, 'waits', []):
                if wait.hook == hook and (wait.token == token or member.instance.id == instance):
                    is_active = member.lifecycle_state.endswith(':Wait') and not wait.result
                    return wait if is_active else None
        return None

    def now(self) -> float:
        """Return the time of the clock that measures waits."""
        return self._clock()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.changed.wait(SECONDS_BETWEEN_LOOKS)
            self.changed.clear()
            with self._lock:
                groups = list(self._groups())
            for group in groups:
                try:
                    self.look(group)
                except Exception:
                    logger.exception('group %s cannot be controlled', group.name)

    def _step(self, group: Any, member: Any) -> None:
        state, power = member.lifecycle_state, member.instance.state
        if state in LEAVING:
            self._step_out(group, member, power)
        elif power in NOT_RUNNING and state != 'Standby':
            self._replace(group, member, f'instance {member.instance.id} was taken out of service in response to an '
                                         f'EC2 health check: it is {power}')
        elif member.health_status == 'Unhealthy' and state == 'InService':
            self._replace(group, member, f'instance {member.instance.id} was taken out of service in response to a '
                                         f'user health-check')
        elif state == 'Pending' and power == 'running':
            self._wait(group, member, LAUNCHING, 'Pending:Wait')
            if not member.waits:
                self._enter_service(group, member)
        elif state == 'Pending:Wait':
            self._step_in(group, member)

    def _step_in(self, group: Any, member: Any) -> None:
        outcome = outcome_of_all(member.waits, self._clock())
        if outcome == ABANDON:
            abandoned = next(wait for wait in member.waits if wait.outcome(self._clock()) == ABANDON)
            activities.end(member.activity, activities.CANCELLED, abandoned.reason())
            self.leave(group, member, f'instance {member.instance.id} was taken out of service in response to its '
                                      'abandoned lifecycle action', with_hooks=False)
        elif outcome:
            self._enter_service(group, member)

    def _step_out(self, group: Any, member: Any, power: str) -> None:
        if member.lifecycle_state == 'Terminating:Wait':
            if outcome_of_all(member.waits, self._clock()) is None and power not in NOT_RUNNING:
                return
            member.lifecycle_state = 'Terminating:Proceed'
            member.instance.terminate()
        if power == 'terminated':
            activities.end(member.activity, activities.SUCCESSFUL)
            group.instance_states.remove(member)

    def _replace(self, group: Any, member: Any, cause: str) -> None:
        if is_suspended(group, 'HealthCheck', 'ReplaceUnhealthy'):
            return
        member.health_status = 'Unhealthy'
        if member.lifecycle_state != 'InService':
            activities.end(member.activity, activities.FAILED, cause)
        # A machine that does not run has nothing left to do for a hook.
        self.leave(group, member, cause, with_hooks=member.instance.state == 'running')

    def _enter_service(self, group: Any, member: Any) -> None:
        member.lifecycle_state = 'InService'
        activities.end(member.activity, activities.SUCCESSFUL)
        group.autoscaling_backend.update_attached_elbs(group.name)
        group.autoscaling_backend.update_attached_target_groups(group.name)

    def _wait(self, group: Any, member: Any, transition: str | None, state: str) -> None:
        hooks = group.autoscaling_backend.describe_lifecycle_hooks(group.name)
        member.waits = [Wait(hook.name, hook.default_result, hook.heartbeat_timeout, self._clock())
                        for hook in hooks if hook.lifecycle_transition == transition]
        if member.waits:
            member.lifecycle_state = state
            member.activity['StatusCode'] = activities.MID_ACTION

    def _fit(self, group: Any) -> None:
        members = [as_member(member) for member in group.instance_states]
        desired = group.desired_capacity or 0
        for instance in superfluous(members, desired, template_version(group)):
            if not is_suspended(group, 'Terminate'):
                member = next(each for each in group.instance_states if each.instance.id == instance)
                self.leave(group, member, f'instance {instance} was selected for termination: a difference between '
                                          'desired and actual capacity, shrinking the group')
        may_launch = self._clock() >= group.__dict__.get('rehearsal_next_launch', 0)
        for _ in range(missing(members, desired) if may_launch and not is_suspended(group, 'Launch') else 0):
            self._launch(group)

    def _launch(self, group: Any) -> None:
        cause = 'an instance was started in response to a difference between desired and actual capacity'
        activity = activities.begin(group, activities.LAUNCHING.format('pending'), cause, activities.PRE_IN_SERVICE)
        try:
            instance = launch(group)
        except Exception as error:
            logger.warning('group %s cannot launch: %s', group.name, error)
            activities.end(activity, activities.FAILED, f'{error} Launching EC2 instance failed.')
            group.rehearsal_next_launch = self._clock() + SECONDS_AFTER_FAILED_LAUNCH
            return
        activity['Description'] = activities.LAUNCHING.format(instance.id)
        instance.autoscaling_group = group
        member: Any = InstanceState(instance, 'Pending', 'Healthy', group.new_instances_protected_from_scale_in)
        member.activity, member.waits = activity, []
        group.instance_states.append(member)


def launch(group: Any) -> Any:
    """Return a new instance of a group, in its emptiest zone."""
    template, options = group.ec2_launch_template, {}
    if template:
        options = {'launch_template': {'LaunchTemplateId': template.id, 'Version': template_version(group)}}
    subnets = (group.vpc_zone_identifier or '').split(',') if group.vpc_zone_identifier else []
    members = [as_member(member) for member in group.instance_states]
    index = emptiest(group.availability_zones, members)
    reservation = group.ec2_backend.run_instances(
        group.image_id, 1, group.user_data, group.security_groups, instance_type=group.instance_type,
        is_instance_type_default=False, placement=group.availability_zones[index],
        subnet_id=subnets[index] if subnets else None, region_name=group.region,
        tags={'instance': {**group.get_propagated_tags(), **group.instance_tags, ASG_NAME_TAG: group.name}},
        launch_config=group.launch_config, **options)
    instance = reservation.instances[0]
    instance.rehearsal_template = template_version(group)
    return instance


def as_member(member: Any) -> Member:
    """Return an instance of a group with the attributes that decide about it."""
    instance = member.instance
    return Member(instance.id, member.lifecycle_state, instance.placement.zone,
                  getattr(instance, 'rehearsal_template', ''), instance.launch_time,
                  bool(member.protected_from_scale_in))


def template_version(group: Any) -> str:
    """Return the number of the launch template's version that a group launches now; empty without a template."""
    template = group.ec2_launch_template
    return str(template.get_version(group.launch_template_version).number) if template else ''


def is_suspended(group: Any, *processes: str) -> bool:
    """Return whether one of these processes of a group is suspended.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html
    """
    return any(process['ProcessName'] in processes for process in group.suspended_processes)
