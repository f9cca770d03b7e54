"""The controller of groups, which launches and terminates instances until each group meets its rules.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html and, for health,
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-health-checks.html
"""

from collections.abc import Callable, Iterable, Sequence
import logging
from threading import Event, RLock, Thread
import time
from typing import Any

from moto.autoscaling.models import ASG_NAME_TAG, InstanceState

from rehearsal.api.groups import activities
from rehearsal.api.groups.acts import Launch, Leave, LEAVING, Member, Replacements, Rules, Version
from rehearsal.api.groups.capacity import emptiest, plan
from rehearsal.api.groups.hooks import ABANDON, LAUNCHING, outcome_of_all, TERMINATING, Wait

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.5
# AWS retries at growing intervals; here a fixed one is enough.
SECONDS_AFTER_FAILED_LAUNCH = 5
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
        # The part of a running instance refresh in the acts on a group; no refresh runs by default.
        self.replacements: Callable[[Any, Sequence[Member], float], Replacements | None] = (
            lambda _group, _members, _now: None)

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
        elif state == 'Pending' and power == 'running':
            self._wait(group, member, LAUNCHING, 'Pending:Wait')
            if not member.waits:
                self._enter_service(group, member)
        elif state == 'Pending:Wait' and power == 'running':
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

    def _enter_service(self, group: Any, member: Any) -> None:
        member.lifecycle_state, member.in_service_at = 'InService', self._clock()
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
        rules, members, now = rules_of(group), [as_member(each) for each in group.instance_states], self._clock()
        for act in plan(rules, members, self.replacements(group, members, now), now):
            if isinstance(act, Leave):
                member = next(each for each in group.instance_states if each.instance.id == act.instance)
                if failure_of(member):
                    member.health_status = 'Unhealthy'
                if member.lifecycle_state != 'InService':
                    activities.end(member.activity, activities.CANCELLED, act.cause)
                # A machine that does not run has nothing left to do for a hook.
                self.leave(group, member, act.cause, with_hooks=member.instance.state == 'running')
            elif self._clock() >= group.__dict__.get('rehearsal_next_launch', 0):
                self._launch(group, act)

    def _launch(self, group: Any, act: Launch) -> None:
        activity = activities.begin(group, activities.LAUNCHING.format('pending'), act.cause,
                                    activities.PRE_IN_SERVICE)
        try:
            instance = launched(group, act.version)
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


def launched(group: Any, version: Version) -> Any:
    """Return a new instance of a group from a version of a template, in the emptiest zone of the group."""
    source, options = group, {}
    if version.template:
        source = group.ec2_backend.get_launch_template(version.template).get_version(version.number)
        options = {'launch_template': {'LaunchTemplateId': version.template, 'Version': version.number}}
    places = places_of(group)
    zones = [zone for zone, _subnet in places]
    zone, subnet = places[emptiest(zones, [as_member(member) for member in group.instance_states])]
    tags = group.instance_tags if source is group else source.instance_tags
    reservation = group.ec2_backend.run_instances(
        source.image_id, 1, source.user_data, source.security_groups, instance_type=source.instance_type,
        is_instance_type_default=False, placement=zone, subnet_id=subnet, region_name=group.region,
        tags={'instance': {**group.get_propagated_tags(), **tags, ASG_NAME_TAG: group.name}},
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


def rules_of(group: Any) -> Rules:
    """Return the attributes of a group that decide about its instances."""
    policy = group.__dict__.get('instance_maintenance_policy') or {}
    return Rules(group.desired_capacity or 0, version_of(group), tuple(group.termination_policies),
                 policy.get('MinHealthyPercentage'), policy.get('MaxHealthyPercentage'),
                 group.__dict__.get('default_instance_warmup') or 0,
                 not is_suspended(group, 'Launch'), not is_suspended(group, 'Terminate'),
                 not is_suspended(group, 'HealthCheck', 'ReplaceUnhealthy'))


def as_member(member: Any) -> Member:
    """Return an instance of a group with the attributes that decide about it."""
    instance = member.instance
    return Member(instance.id, member.lifecycle_state, instance.placement.zone,
                  getattr(instance, 'rehearsal_version', Version()), instance.launch_time,
                  bool(member.protected_from_scale_in), getattr(member, 'in_service_at', None),
                  failure_of(member))


def failure_of(member: Any) -> str:
    """Return the cause to replace an instance; empty while it passes its health checks."""
    gone = f'instance {member.instance.id} was taken out of service in response to'
    if member.instance.state in NOT_RUNNING:
        return f'{gone} an EC2 health check: it is {member.instance.state}'
    is_unhealthy = member.health_status == 'Unhealthy' and member.lifecycle_state == 'InService'
    return f'{gone} a user health-check' if is_unhealthy else ''


def version_of(group: Any) -> Version:
    """Return the version that a group launches without a refresh."""
    template = group.ec2_launch_template
    if not template:
        return Version()
    return Version(template.id, str(template.get_version(group.launch_template_version).number))


def is_suspended(group: Any, *processes: str) -> bool:
    """Return whether one of these processes of a group is suspended.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html
    """
    return any(process['ProcessName'] in processes for process in group.suspended_processes)
