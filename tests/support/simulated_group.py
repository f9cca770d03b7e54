"""A group in simulated time: its instances boot, fail and end at random while a refresh replaces them.

It judges each act by AWS's rules with its own arithmetic. The decisions are a module, so that tests can plant
defects in them.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta, timezone
import heapq
import json
from math import ceil, floor
from random import Random
from types import ModuleType
from typing import Any

from rehearsal.api.groups import refresh as refresh_module
from rehearsal.api.groups.acts import IN_SERVICE, Launch, Leave, Member, Replacements, Rules, STANDBY, Version
from rehearsal.api.groups.capacity import plan

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
OLD, NEW = Version('lt-1', '1'), Version('lt-1', '2')
ZONES = 'abc'
HOUR = 3600.0
# Looks happen at multiples of these seconds, so that many instances of a large group change between two of them.
SMALL, STEP, LONG_STEP = 60, 15.0, 60.0
NEXT_STATUSES = {
    'Pending': {'InProgress', 'Successful', 'Failed', 'Cancelling', 'RollbackInProgress'},
    'InProgress': {'Baking', 'Successful', 'Failed', 'Cancelling', 'RollbackInProgress'},
    'Baking': {'Successful', 'Failed', 'Cancelling', 'RollbackInProgress'},
    'RollbackInProgress': {'RollbackSuccessful', 'RollbackFailed', 'Cancelling'}, 'Cancelling': {'Cancelled'}}


class Violation(AssertionError):
    """A rule of AWS that the decisions break."""


@dataclass(frozen=True)
class Incident:
    """An incident at a time: its kind, and a number from which its instance or value follows."""

    at: float
    kind: str
    value: int = 0


@dataclass(frozen=True)
class Scenario:
    """A release of a group: everything that decides about it."""

    seed: int
    size: int
    preferences: dict[str, Any] = field(default_factory=dict)
    # The instances that have the new version, and those that are protected or in standby, at the start.
    updated: int = 0
    protected: int = 0
    standby: int = 0
    # The longest boot and end of an instance in seconds, and the percentage of boots that fail.
    boot: int = 120
    ending: int = 60
    failures: int = 0
    failures_of_old: int = 0
    incidents: tuple[Incident, ...] = ()

    def text(self) -> str:
        """Return the scenario as JSON."""
        return json.dumps(asdict(self), separators=(',', ':'))

    @classmethod
    def parse(cls, text: str) -> 'Scenario':
        """Return a scenario from its text."""
        fields = json.loads(text)
        preferences = {name: tuple(value) if isinstance(value, list) else value
                       for name, value in fields['preferences'].items()}
        return cls(**{**fields, 'preferences': preferences,
                      'incidents': tuple(Incident(**each) for each in fields['incidents'])})


class SimulatedGroup:
    """A group, and the refresh that runs on it."""

    def __init__(self, scenario: Scenario, module: ModuleType = refresh_module) -> None:
        """Begin with instances of the old version in service."""
        self.scenario, self.module = scenario, module
        self.random = Random(scenario.seed)
        self.step = STEP if scenario.size <= SMALL else LONG_STEP
        self.now, self.desired = 0.0, scenario.size
        self.version = OLD
        self.members: dict[str, Member] = {}
        self.refresh: Any = None
        self.launched = 0
        self.ringing: set[str] = set()
        self.launches_fail_until = -1.0
        self.log: list[str] = []
        self._changes: list[tuple[float, int, str, str]] = []
        self._order = 0
        # Facts of the present refresh that the rules need.
        self.first_failure: float | None = None
        self.grown_at = -1.0
        self.baking_since: float | None = None
        self.first_members: frozenset[str] = frozenset()
        self.checkpoint_at = -1.0
        self.sent = 0
        for index in range(scenario.size + scenario.standby):
            self._add(NEW if index < scenario.updated else OLD, IN_SERVICE, healthy_since=-HOUR)
        names = list(self.members)
        for name in names[len(names) - scenario.standby:]:
            self._set(name, state=STANDBY)
        for name in names[:scenario.protected]:
            self._set(name, is_protected=True)

    def say(self, text: str) -> None:
        """Note an event for the report of a failing seed."""
        self.log.append(f'{self.now:8.0f} {text}')

    def require(self, is_kept: object, rule: str) -> None:
        """Fail with the rule if the decisions break it."""
        if not is_kept:
            self.say(f'BROKEN: {rule}')
            raise Violation(rule)

    # The acts of people and of AWS.

    def start(self) -> None:
        """Start a refresh to the new version."""
        preferences = self.module.Preferences(**self.scenario.preferences)
        self.refresh = self.module.Refresh(NEW, self.version, preferences)
        self.first_members = frozenset(name for name, member in self.members.items() if not member.is_leaving)
        self.say(f'start {self.scenario.preferences}')

    def apply(self, incident: Incident) -> None:
        """Let an incident happen."""
        self.say(f'{incident.kind} {incident.value}')
        getattr(self, f'_on_{incident.kind}')(incident.value)

    def _on_capacity(self, value: int) -> None:
        if value > self.desired:
            self.grown_at = self.now
        self.desired = value

    def _on_alarm(self, value: int) -> None:
        self.ringing = {'errors'} if value else set()

    def _on_kill(self, value: int) -> None:
        member = self._pick(value, IN_SERVICE)
        if member:
            self._set(member.instance, failure='an EC2 health check')
            self._note_failure()

    def _on_protect(self, value: int) -> None:
        member = self._pick(value, IN_SERVICE)
        if member:
            self._set(member.instance, is_protected=True)

    def _on_unprotect(self, _value: int) -> None:
        for name in list(self.members):
            self._set(name, is_protected=False)

    def _on_standby(self, value: int) -> None:
        member = self._pick(value, IN_SERVICE)
        if member:
            self._set(member.instance, state=STANDBY, healthy_since=None)

    def _on_service(self, _value: int) -> None:
        for member in list(self.members.values()):
            if member.is_standby:
                self._serve(member.instance)

    def _on_cancel(self, value: int) -> None:
        if self.refresh and self.refresh.status in ('Pending', 'InProgress', 'Baking', 'RollbackInProgress'):
            self._move(self.module.cancel(self.refresh, bool(value)))

    def _on_rollback(self, _value: int) -> None:
        if self.refresh and self.refresh.status in ('Pending', 'InProgress', 'Baking'):
            self._move(self.module.roll_back(self.refresh, 'a call', self.now))

    def _on_outage(self, value: int) -> None:
        self.launches_fail_until = self.now + value

    def _on_second(self, _value: int) -> None:
        """Try to start a second refresh."""
        refused = self.module.active([self.refresh] if self.refresh else []) is not None
        is_active = self.refresh is not None and self.refresh.status not in NEXT_ENDED
        self.require(refused == is_active, 'one refresh at a time')

    # Time.

    def next_change(self) -> float | None:
        """Return the time of the next change that this group expects; None without one."""
        times = [self._changes[0][0]] if self._changes else []
        refresh = self.refresh
        if refresh and refresh.status not in NEXT_ENDED:
            deadlines = [refresh.paused_until, refresh.bakes_until, self.launches_fail_until,
                         *(since + HOUR for since in (refresh.failing_since, refresh.waiting_since)
                           if since is not None)]
            times += [each for each in deadlines if each is not None and each > self.now]
        return min(times, default=None)

    def advance(self, now: float) -> None:
        """Let time pass until a moment, and the group take one look."""
        self.now = now
        while self._changes and self._changes[0][0] <= now:
            _at, _order, kind, name = heapq.heappop(self._changes)
            if name in self.members:
                getattr(self, f'_after_{kind}')(self.members[name])
        self.look()

    def look(self) -> None:
        """Let the decisions act once, and judge them."""
        members, replacements, acts = list(self.members.values()), None, []
        if self.refresh and self.refresh.status not in NEXT_ENDED:
            before = self.refresh
            after, acts = self.module.decide(before, members, self.desired, self.ringing, self.now)
            self._judge_status(before, after)
            self._judge_acts(before, after, acts)
            self._move(after)
            if after.status not in NEXT_ENDED:
                most = self.module.most_of(after, self.desired)
                replacements = Replacements(after.wanted, most, tuple(acts))
        own = {act.instance for act in acts if isinstance(act, Leave)}
        launches = 0
        for act in plan(Rules(self.desired, self.version), members, replacements, self.now):
            if isinstance(act, Leave):
                self._leave(act, 'refresh' if act.instance in own else 'group')
            else:
                launches += self._launch(act)
        if launches:
            self._judge_launches(launches)

    def _move(self, refresh: Any) -> None:
        if refresh.status != self.refresh.status:
            self.say(f'{refresh.status} {refresh.reason}')
            if refresh.status == 'RollbackInProgress':
                self.first_failure = None
            if refresh.status == 'Baking':
                self.baking_since = self.now
        if len(refresh.notified) > len(self.refresh.notified):
            self.say(f'checkpoint {refresh.notified[-1]}')
        self.refresh = refresh
        if refresh.configuration != self.version:
            self.version = refresh.configuration
            self.say(f'version {self.version.number}')

    # Instances.

    def _add(self, version: Version, state: str, healthy_since: float | None = None) -> str:
        self.launched += 1
        name = f'i-{self.launched}'
        self.members[name] = Member(name, state, ZONES[self.launched % 3], version,
                                    NOON + timedelta(seconds=self.now), healthy_since=healthy_since)
        return name

    def _set(self, name: str, **values: Any) -> None:
        self.members[name] = replace(self.members[name], **values)

    def _pick(self, value: int, state: str) -> Member | None:
        found = [member for member in self.members.values() if member.state == state]
        return found[value % len(found)] if found else None

    def _later(self, longest: int, kind: str, name: str) -> None:
        self._at(self.now + self.random.uniform(1, max(1, longest)), kind, name)

    def _at(self, time: float, kind: str, name: str) -> None:
        self._order += 1
        heapq.heappush(self._changes, (ceil(time / self.step) * self.step, self._order, kind, name))

    def _serve(self, name: str) -> None:
        self._set(name, state=IN_SERVICE, healthy_since=self.now)
        self._at(self.now + self.scenario.preferences.get('warmup', 0), 'warmup', name)

    def _launch(self, act: Launch) -> bool:
        wanted = self.refresh.wanted if self.refresh and self.refresh.status not in NEXT_ENDED else self.version
        self.require(act.version == wanted, 'a new instance has the version of the refresh, or of the group')
        if self.now < self.launches_fail_until:
            self._note_failure()
            if self.refresh and self.refresh.status not in NEXT_ENDED:
                self.refresh = self.module.note_failed_launch(self.refresh, self.now)
            return False
        name = self._add(act.version, 'Pending')
        failures = self.scenario.failures if act.version == NEW else self.scenario.failures_of_old
        fails = self.random.randrange(100) < failures
        self._later(self.scenario.boot, 'failed_boot' if fails else 'boot', name)
        return True

    def _leave(self, act: Leave, who: str) -> None:
        member = self.members[act.instance]
        self.require(not member.is_leaving, f'the {who} ends an instance once')
        if who == 'group':
            self._note_failure()
        self._end(member)

    def _end(self, member: Member) -> None:
        self._set(member.instance, state='Terminating', healthy_since=None)
        self._later(self.scenario.ending, 'end', member.instance)

    def _after_boot(self, member: Member) -> None:
        if member.state == 'Pending':
            self._serve(member.instance)

    def _after_warmup(self, member: Member) -> None:
        """Change nothing: the instance is warm, and the group looks."""

    def _after_failed_boot(self, member: Member) -> None:
        """Abandon the launch hook, or fail the health check of the load balancer."""
        if member.state != 'Pending':
            return
        self._note_failure()
        if self.random.randrange(2):
            self._end(member)
        else:
            self._set(member.instance, state=IN_SERVICE, failure='a health check of the load balancer')

    def _after_end(self, member: Member) -> None:
        del self.members[member.instance]

    def _note_failure(self) -> None:
        if self.first_failure is None:
            self.first_failure = self.now

    # The rules.

    def is_healthy(self, member: Member) -> bool:
        """Return whether an instance serves and is warmed up."""
        warmup = self.scenario.preferences.get('warmup', 0)
        since = member.healthy_since
        return member.state == IN_SERVICE and not member.failure and since is not None and self.now - since >= warmup

    def fewest(self) -> int:
        """Return the fewest healthy instances that a refresh may leave."""
        least, explicit = self.scenario.preferences.get('min_healthy', 90), self._explicit_most()
        fewest = ceil(self.desired * least / 100 - 1e-9)
        is_stuck = fewest >= self.desired and explicit is None
        return max(0, self.desired - 1) if is_stuck else fewest

    def most(self) -> int:
        """Return the most instances that a refresh may have."""
        least, explicit = self.scenario.preferences.get('min_healthy', 90), self._explicit_most()
        most = floor(self.desired * (explicit or 100) / 100 + 1e-9)
        is_stuck = ceil(self.desired * least / 100 - 1e-9) >= self.desired and most <= self.desired
        return most + 1 if explicit is not None and is_stuck else max(most, self.desired)

    def _explicit_most(self) -> int | None:
        most: int | None = self.scenario.preferences.get('max_healthy')
        return most

    def _judge_status(self, before: Any, after: Any) -> None:
        old, new = before.status, after.status
        path = [old, 'InProgress', new] if old == 'Pending' and new not in ('Cancelling', 'Pending') else [old, new]
        for one, other in zip(path, path[1:]):
            self.require(one == other or other in NEXT_STATUSES[one], f'a refresh goes from {one} to {other}')
        preferences = self.scenario.preferences
        is_forward = old in ('Pending', 'InProgress', 'Baking')
        if is_forward and self.ringing & set(preferences.get('alarms', ())) and new != 'Successful':
            self.require(new in ('Failed', 'RollbackInProgress'), 'an alarm ends a refresh at once')
        if new == 'Failed' and old != new:
            self.require(not preferences.get('rolls_back'), 'a failing refresh rolls back if it shall')
        if new in ('Failed', 'RollbackInProgress', 'RollbackFailed') and new != old:
            self._judge_failure(after.reason, is_forward)
        if new == 'Successful' and preferences.get('bake') and old == 'Baking':
            self.require(self.baking_since is not None and self.now - self.baking_since >= preferences['bake'],
                         'a refresh bakes before it succeeds')
        if new == 'Successful' and preferences.get('bake') and old == 'InProgress':
            self.require(False, 'a refresh with a bake time bakes')
        if new != old and new in ('Successful', 'Baking', 'RollbackSuccessful'):
            self._judge_end(before, after)
        self._judge_checkpoints(before, after)

    def _judge_failure(self, reason: str, is_forward: bool) -> None:
        has_alarm = is_forward and self.ringing & set(self.scenario.preferences.get('alarms', ()))
        if not has_alarm and 'protected' not in reason:
            self.require(self.first_failure is not None and self.now - self.first_failure >= HOUR,
                         'replacements are retried for an hour')

    def _judge_end(self, before: Any, after: Any) -> None:
        preferences = self.scenario.preferences
        wanted = OLD if after.status == 'RollbackSuccessful' else NEW
        counted = [member for member in self.members.values() if member.counts]
        points = preferences.get('checkpoints', ()) if wanted == NEW else ()
        if after.status == 'Successful' and before.status != 'InProgress':
            return
        ignored = [member for member in counted if member.version != wanted and member.is_protected]
        ignored = ignored if preferences.get('protected') == 'Ignore' else []
        share = points[-1] if points else 100
        healthy = sum(self.is_healthy(member) and member.version == wanted for member in counted)
        goal = min(ceil(self.desired * share / 100 - 1e-9), self.desired - len(ignored))
        self.require(healthy >= goal, 'a refresh ends when its new instances are healthy')
        if share == 100:
            rest = [member for member in self.members.values() if member.version != wanted]
            in_standby = [member for member in rest if member.is_standby]
            may_stay = ignored + (in_standby if preferences.get('standby') == 'Ignore' else [])
            self.require(len(rest) == len(may_stay), f'no instance of another version is left at {after.status}')
            if wanted == NEW and not preferences.get('skips_matching') and after.status != 'RollbackSuccessful':
                ignores = preferences.get('protected') == 'Ignore'
                first = [member for member in counted if member.instance in self.first_members]
                self.require(all(ignores and member.is_protected for member in first),
                             'without skip matching all instances are replaced')

    def _judge_checkpoints(self, before: Any, after: Any) -> None:
        points = self.scenario.preferences.get('checkpoints', ())
        if not points or before.status not in ('Pending', 'InProgress'):
            return
        new = sum(self.is_healthy(member) and self._is_new(member) for member in self.members.values())
        if len(after.notified) > len(before.notified):
            self.require(new * 100 >= after.notified[-1] * self.desired, 'a checkpoint is reached by new instances')
            self.checkpoint_at = self.now
        if after.status == 'InProgress' and new < self.desired:
            due = [point for point in points if point < 100 and new * 100 >= point * self.desired]
            self.require(not due or max(after.notified, default=0) >= due[-1], 'each checkpoint is notified')

    def _is_new(self, member: Member) -> bool:
        is_first = member.instance in self.first_members and not self.scenario.preferences.get('skips_matching')
        return member.version == NEW and not is_first

    def _judge_acts(self, before: Any, after: Any, acts: Iterable[Any]) -> None:
        acts = list(acts)
        if not acts:
            return
        preferences = self.scenario.preferences
        self.require(after.status in ('InProgress', 'RollbackInProgress'), f'a refresh does not act in {after.status}')
        leaving = [self.members[act.instance] for act in acts if isinstance(act, Leave)]
        for member in leaving:
            self.require(not member.is_protected or member.is_standby or preferences.get('protected') == 'Refresh',
                         'a protected instance is replaced only by Refresh')
            self.require(not member.is_standby or preferences.get('standby') == 'Terminate',
                         'an instance in standby is terminated only by Terminate')
            if after.status == 'RollbackInProgress' or preferences.get('skips_matching'):
                self.require(member.version != after.wanted, 'an instance of the wanted version stays')
        gone = {member.instance for member in leaving}
        if any(self.is_healthy(member) for member in leaving):
            healthy = sum(self.is_healthy(member) for member in self.members.values() if member.instance not in gone)
            self.require(healthy >= self.fewest(), f'{healthy} healthy of {self.desired}, fewest {self.fewest()}')
        counted = sum(member.counts for member in self.members.values())
        replaced = sum(member.counts for member in leaving)
        delay = preferences.get('checkpoint_delay', HOUR)
        is_paused = after.status == 'InProgress' and 0 <= self.now - self.checkpoint_at < delay
        if is_paused and self.checkpoint_at >= 0:
            self.require(replaced <= max(0, counted - self.desired), 'a checkpoint stops replacements')
        points = [point for point in preferences.get('checkpoints', ()) if point > max(after.notified, default=0)]
        launches = len(acts) - len(leaving)
        # The group itself ends an instance beyond the maximum, which would hide one launch too many.
        after_acts = counted - replaced + launches
        self.require(not launches or after_acts <= self.most(), f'{after_acts} instances, most {self.most()}')
        if launches and points and after.status == 'InProgress' and self.grown_at < 0:
            new = sum(self._is_new(member) and member.counts for member in self.members.values())
            cap = ceil(self.desired * points[0] / 100 - 1e-9)
            self.require(new + launches <= cap, f'{new} + {launches} replacements before the checkpoint {points[0]}')

    def _judge_launches(self, launches: int) -> None:
        counted = sum(member.counts for member in self.members.values())
        is_active = self.refresh and self.refresh.status not in NEXT_ENDED
        most = self.most() if is_active else self.desired
        self.require(counted <= most, f'{counted} instances after {launches} launches, most {most}')


NEXT_ENDED = ('Successful', 'Failed', 'Cancelled', 'RollbackSuccessful', 'RollbackFailed')
