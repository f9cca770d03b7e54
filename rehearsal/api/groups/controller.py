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
from rehearsal.api.groups.acts import (
    DETACHING, ENTERING_STANDBY, Launch, Leave, LEAVING, Member, Replacements, STANDBY)
from rehearsal.api.groups.announcements import announce, announce_wait, LAUNCH, TERMINATION
from rehearsal.api.groups.capacity import plan
from rehearsal.api.groups.health import NOT_RUNNING
from rehearsal.api.groups.hooks import ABANDON, LAUNCHING, outcome_of_all, TERMINATING, Wait
from rehearsal.api.groups.records import as_member, is_draining, is_healthy_target, launched, rules_of

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.5
# AWS retries at growing intervals; here a fixed one is enough.
SECONDS_AFTER_FAILED_LAUNCH = 5


class Controller:
    """The controller of all groups; it changes them while it holds the lock of the records."""

    def __init__(self, groups: Callable[[], Iterable[Any]], lock: RLock,
                 clock: Callable[[], float] = time.monotonic, pace: Callable[[], float] = time.monotonic) -> None:
        """Control groups, which `groups` lists before each look at them, by a real clock and AWS's pace."""
        self._groups = groups
        self._lock = lock
        self._clock = clock
        self._pace = pace
        self._ended = Event()
        self.changed = Event()
        # They get each group before each look at it, under the lock.
        self.observers: list[Callable[[Any], None]] = []
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
            for observe in self.observers:
                observe(group)
            for member in list(group.instance_states):
                self._step(group, member)
            if group.name in group.autoscaling_backend.autoscaling_groups:
                self._fit(group)

    def leave(self, group: Any, member: Any, cause: str, with_hooks: bool = True) -> dict[str, Any]:
        """Begin the end of an instance, and return the activity: draining, its hooks, its termination."""
        activity = activities.begin(group, activities.TERMINATING.format(member.instance.id), cause,
                                    activities.IN_PROGRESS)
        member.hooked = with_hooks
        self.drain(group, member, 'Terminating', activity)
        return dict(activity)

    def drain(self, group: Any, member: Any, state: str, activity: dict[str, Any]) -> None:
        """Take an instance out of the load balancers of its group; `state` says why.

        An instance that its launch hook keeps waiting was never registered, which AWS does not mind:
        https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DeregisterTargets.html
        """
        backend = group.autoscaling_backend
        member.lifecycle_state, member.activity = state, activity
        for arn in group.target_group_arns:
            if arn in backend.elbv2_backend.target_groups:
                backend.elbv2_backend.deregister_targets(arn, [{'Id': member.instance.id}])
        backend.update_attached_elbs(group.name)
        if is_draining(group, member.instance.id):
            activity['StatusCode'] = activities.DRAINING
        self._step(group, member)
        self.changed.set()

    def enter(self, group: Any, member: Any, activity: dict[str, Any], with_hooks: bool = True) -> None:
        """Begin the way of an instance into service."""
        member.lifecycle_state, member.activity, member.waits = 'Pending', activity, []
        member.hooked, member.healthy_since, member.in_service_at = with_hooks, None, None
        self.changed.set()

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
        state, runs = member.lifecycle_state, member.instance.state not in NOT_RUNNING
        if state in LEAVING:
            self._step_out(group, member, runs)
        elif state in (ENTERING_STANDBY, DETACHING):
            if not is_draining(group, member.instance.id):
                self._step_aside(group, member)
        elif state == 'Pending' and member.instance.state == 'running':
            self._wait(group, member, LAUNCHING, 'Pending:Wait')
            if not member.waits:
                self._enter_service(group, member)
        elif state == 'Pending:Wait' and runs:
            self._step_in(group, member)
        elif state == 'InService':
            is_healthy = runs and is_healthy_target(group, member)
            member.healthy_since = (member.healthy_since or self._pace()) if is_healthy else None

    def _step_in(self, group: Any, member: Any) -> None:
        outcome = outcome_of_all(member.waits, self._clock())
        if outcome == ABANDON:
            abandoned = next(wait for wait in member.waits if wait.outcome(self._clock()) == ABANDON)
            activities.end(member.activity, activities.CANCELLED, abandoned.reason())
            announce(group, LAUNCH, member.activity, member.instance)
            self.leave(group, member, f'instance {member.instance.id} was taken out of service in response to its '
                                      'abandoned lifecycle action', with_hooks=False)
        elif outcome:
            self._enter_service(group, member)

    def _step_out(self, group: Any, member: Any, runs: bool) -> None:
        # A machine that does not run has no requests to end, and nothing left to do for a hook.
        if member.lifecycle_state == 'Terminating' and runs:
            if is_draining(group, member.instance.id):
                return
            member.activity['StatusCode'] = activities.IN_PROGRESS
            self._wait(group, member, TERMINATING, 'Terminating:Wait')
        if member.lifecycle_state == 'Terminating:Wait' and runs:
            if outcome_of_all(member.waits, self._clock()) is None:
                return
            member.lifecycle_state = 'Terminating:Proceed'
        if runs:
            member.instance.terminate()
        if member.instance.state == 'terminated':
            activities.end(member.activity, activities.SUCCESSFUL)
            group.instance_states.remove(member)
            announce(group, TERMINATION, member.activity, member.instance)
        elif member.instance.state == 'stopped':
            member.instance.terminate()

    def _step_aside(self, group: Any, member: Any) -> None:
        activities.end(member.activity, activities.SUCCESSFUL)
        if member.lifecycle_state == ENTERING_STANDBY:
            member.lifecycle_state = STANDBY
            return
        group.ec2_backend.delete_tags([member.instance.id], {ASG_NAME_TAG: group.name})
        group.instance_states.remove(member)

    def _enter_service(self, group: Any, member: Any) -> None:
        member.lifecycle_state, member.in_service_at = 'InService', self._clock()
        activities.end(member.activity, activities.SUCCESSFUL)
        announce(group, LAUNCH, member.activity, member.instance)
        group.autoscaling_backend.update_attached_elbs(group.name)
        group.autoscaling_backend.update_attached_target_groups(group.name)

    def _wait(self, group: Any, member: Any, transition: str, state: str) -> None:
        hooks = group.autoscaling_backend.describe_lifecycle_hooks(group.name) if member.hooked else []
        member.waits = []
        for hook in (each for each in hooks if each.lifecycle_transition == transition):
            wait = Wait(hook.name, hook.default_result, hook.heartbeat_timeout, self._clock())
            member.waits.append(wait)
            announce_wait(group, member.instance, hook, wait)
        if member.waits:
            member.lifecycle_state = state
            member.activity['StatusCode'] = activities.MID_ACTION

    def _fit(self, group: Any) -> None:
        members = [as_member(group, member, self._clock()) for member in group.instance_states]
        for member, facts in zip(group.instance_states, members):
            if facts.failure and facts.counts:
                member.health_status = 'Unhealthy'
        refresh = self.replacements(group, members, self._pace())
        for act in plan(rules_of(group), members, refresh, self._pace()):
            if isinstance(act, Leave):
                member = next(each for each in group.instance_states if each.instance.id == act.instance)
                if member.lifecycle_state != 'InService':
                    activities.end(member.activity, activities.CANCELLED, act.cause)
                    announce(group, LAUNCH, member.activity, member.instance)
                # A machine that boots has nothing to do for a hook yet.
                self.leave(group, member, act.cause, with_hooks=member.instance.state == 'running')
            elif self._pace() >= group.__dict__.get('rehearsal_next_launch', 0):
                self._launch(group, act)

    def _launch(self, group: Any, act: Launch) -> None:
        activity = activities.begin(group, activities.LAUNCHING.format('pending'), act.cause,
                                    activities.PRE_IN_SERVICE)
        try:
            instance = launched(group, act.version)
        except Exception as error:
            logger.warning('group %s cannot launch: %s', group.name, error)
            activities.end(activity, activities.FAILED, f'{error} Launching EC2 instance failed.')
            announce(group, LAUNCH, activity)
            group.rehearsal_next_launch = self._pace() + SECONDS_AFTER_FAILED_LAUNCH
            return
        activity['Description'] = activities.LAUNCHING.format(instance.id)
        instance.autoscaling_group = group
        member = InstanceState(instance, 'Pending', 'Healthy', group.new_instances_protected_from_scale_in)
        group.instance_states.append(member)
        self.enter(group, member, activity)
