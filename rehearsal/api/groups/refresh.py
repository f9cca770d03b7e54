"""An instance refresh: which instances it replaces when, and how it ends. Pure decisions.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-overview.html; docs/rehearsal.md names AWS's
document for each rule. All times are of AWS's pace.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from rehearsal.api.groups.acts import Act, IN_SERVICE, Launch, Leave, Member, Version

PENDING, IN_PROGRESS, BAKING, CANCELLING = 'Pending', 'InProgress', 'Baking', 'Cancelling'
ROLLING_BACK = 'RollbackInProgress'
SUCCESSFUL, FAILED, CANCELLED = 'Successful', 'Failed', 'Cancelled'
ROLLED_BACK, ROLLBACK_FAILED = 'RollbackSuccessful', 'RollbackFailed'
ENDED = (SUCCESSFUL, FAILED, CANCELLED, ROLLED_BACK, ROLLBACK_FAILED)
# The statuses in which a new instance gets the desired configuration.
FORWARD = (PENDING, IN_PROGRESS, BAKING)

IGNORE, WAIT, REFRESH, TERMINATE = 'Ignore', 'Wait', 'Refresh', 'Terminate'
# The longest time of failing replacements, and of waiting for protected and standby instances.
HOUR = 3600.0
LONGEST = 14 * 24 * HOUR

CAUSE = 'an instance was {} in response to an instance refresh'
LAUNCHES, LEAVES = CAUSE.format('launched'), CAUSE.format('taken out of service')
EVENT = 'EC2 Auto Scaling Instance Refresh '
CHECKPOINT = f'{EVENT}Checkpoint Reached'
EVENTS = {IN_PROGRESS: f'{EVENT}Started', SUCCESSFUL: f'{EVENT}Succeeded', FAILED: f'{EVENT}Failed',
          CANCELLED: f'{EVENT}Cancelled', ROLLING_BACK: f'{EVENT}Rollback Started',
          ROLLED_BACK: f'{EVENT}Rollback Succeeded', ROLLBACK_FAILED: f'{EVENT}Rollback Failed'}


@dataclass(frozen=True)
class Preferences:
    """The preferences of a refresh, with the defaults of AWS's API."""

    min_healthy: int = 90
    # None is not the same as 100: see `bounds`.
    max_healthy: int | None = None
    warmup: float = 0
    checkpoints: tuple[int, ...] = ()
    checkpoint_delay: float = HOUR
    bake: float = 0
    skips_matching: bool = False
    rolls_back: bool = False
    protected: str = WAIT
    standby: str = WAIT
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rollback:
    """The progress of a refresh at the start of its rollback."""

    reason: str
    began: float
    percentage: int
    remaining: int
    # The instances that the rollback replaces; None before its first look.
    replaced: int | None = None


@dataclass(frozen=True)
class Refresh:
    """An instance refresh."""

    # The desired configuration, and the one that the group had before.
    target: Version
    saved: Version
    preferences: Preferences = field(default_factory=Preferences)
    status: str = PENDING
    reason: str = ''
    began: float = 0
    # The instances of the beginning that are replaced even if they have the desired configuration.
    old: frozenset[str] = frozenset()
    # The new instances at the last look, and the largest number of them that were healthy.
    new: frozenset[str] = frozenset()
    best: int = 0
    failing_since: float | None = None
    waiting_since: float | None = None
    # The desired capacity at the last look, the number of reached checkpoints, and their notifications.
    desired: int = 0
    reached: int = 0
    notified: tuple[int, ...] = ()
    paused_until: float = 0
    bakes_until: float | None = None
    # Whether a cancellation waits for the launches and terminations of its beginning, and these.
    waits: bool = True
    moving: frozenset[str] | None = None
    # PercentageComplete and InstancesToUpdate.
    percentage: int = 0
    remaining: int = 0
    rollback: Rollback | None = None

    @property
    def wanted(self) -> Version:
        """The version that its replacements get."""
        return self.target if self.status in FORWARD else self.saved

    @property
    def configuration(self) -> Version:
        """The version that the group has, which a refresh writes only when it succeeds."""
        return self.target if self.status == SUCCESSFUL else self.saved

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        return self.status in ENDED


@dataclass
class View:
    """The instances of a group as one look of a refresh finds them."""

    counted: int = 0
    healthy: int = 0
    # New instances, and those of them that are healthy and warmed up.
    new: list[str] = field(default_factory=list)
    new_healthy: int = 0
    # New instances in standby.
    aside: list[str] = field(default_factory=list)
    # Replaceable instances: in standby, not healthy, healthy.
    standby: list[str] = field(default_factory=list)
    unhealthy: list[str] = field(default_factory=list)
    serving: list[str] = field(default_factory=list)
    # Instances that must be replaced but may not be yet, and those in service that are ignored.
    blocked: int = 0
    ignored: int = 0
    # New instances in service that fail their health checks, or have not passed them yet.
    failing: int = 0
    # Instances that launch or leave, and the number of the latter.
    moving: list[str] = field(default_factory=list)
    leaving: int = 0

    @property
    def replaceable(self) -> int:
        """The number of instances to replace."""
        return len(self.standby) + len(self.unhealthy) + len(self.serving)


def decide(refresh: Refresh, members: Sequence[Member], desired: int, alarms: Collection[str],
           now: float) -> tuple[Refresh, list[Act]]:
    """Return the refresh a moment later, and its acts on the group; `alarms` are those in ALARM state."""
    if refresh.status == PENDING:
        refresh = begin(refresh, members, desired, now)
    if refresh.has_ended:
        return refresh, []
    view = look(refresh, members, now)
    if refresh.status == CANCELLING:
        moving = refresh.moving.intersection(view.moving) if refresh.moving is not None else frozenset(view.moving)
        is_over = not refresh.waits or not moving
        return replace(refresh, moving=moving, status=CANCELLED if is_over else CANCELLING), []
    ringing = [alarm for alarm in refresh.preferences.alarms if alarm in alarms]
    if ringing and refresh.status != ROLLING_BACK:
        return fail(refresh, f'the alarm {ringing[0]} is in the ALARM state', now), []
    if refresh.status == BAKING:
        is_done = refresh.bakes_until is not None and now >= refresh.bakes_until
        return (replace(refresh, status=SUCCESSFUL) if is_done else refresh), []
    refresh = measure(check(refresh, view, desired, now), view, desired, now)
    if is_complete(refresh, view, desired):
        return finish(refresh, now), []
    overdue = overdue_reason(refresh, now)
    return (fail(refresh, overdue, now), []) if overdue else (refresh, steps(refresh, view, desired, now))


def begin(refresh: Refresh, members: Sequence[Member], desired: int, now: float) -> Refresh:
    """Return a refresh that has started: nothing to replace is success at once, without a bake time."""
    is_old = not refresh.preferences.skips_matching
    old = frozenset(member.instance for member in members if is_old and not member.is_leaving)
    refresh = replace(refresh, status=IN_PROGRESS, began=now, old=old, desired=desired)
    view = look(refresh, members, now)
    has_work = view.replaceable or view.blocked
    return refresh if has_work else replace(refresh, status=SUCCESSFUL, percentage=100)


def look(refresh: Refresh, members: Sequence[Member], now: float) -> View:
    """Return the instances of a group by their part in a refresh."""
    view, wanted, preferences = View(), refresh.wanted, refresh.preferences
    old = refresh.old if refresh.status in FORWARD else frozenset()
    warm = now - preferences.warmup
    for member in members:
        state, name, since = member.state, member.instance, member.healthy_since
        if not (member.counts or member.is_standby):
            view.leaving += 1
            view.moving.append(name)
            continue
        is_healthy = state == IN_SERVICE and not member.failure and since is not None and since <= warm
        if member.counts:
            view.counted += 1
            view.healthy += is_healthy
            if state != IN_SERVICE:
                view.moving.append(name)
        if member.version == wanted and name not in old:
            if member.counts:
                view.new.append(name)
                view.new_healthy += is_healthy
                view.failing += state == IN_SERVICE and (since is None or bool(member.failure))
            else:
                view.aside.append(name)
            continue
        choice = preferences.protected if member.is_protected else REFRESH
        choice = preferences.standby if member.is_standby else choice
        if choice == IGNORE:
            view.ignored += member.counts
        elif choice == WAIT:
            view.blocked += 1
        else:
            part = view.standby if member.is_standby else view.serving if is_healthy else view.unhealthy
            part.append(name)
    return view


def bounds(preferences: Preferences, desired: int) -> tuple[int, int]:
    """Return the fewest healthy and the most instances of a group during a refresh.

    Where both percentages allow no replacement, an explicit maximum is exceeded by one instance, which is launched
    first. Without a maximum, one instance is terminated while its replacement launches.
    """
    least = -(-desired * preferences.min_healthy // 100)
    most = max(desired, desired * (preferences.max_healthy or 100) // 100)
    if least < desired or most > desired:
        return least, most
    return (least, most + 1) if preferences.max_healthy is not None else (max(0, least - 1), most)


def most_of(refresh: Refresh, desired: int) -> int:
    """Return the most instances that a group may have now."""
    return desired if refresh.status == BAKING else bounds(refresh.preferences, desired)[1]


def goal_of(refresh: Refresh, view: View, desired: int, percentage: int = 100) -> int:
    """Return the number of new instances for a percentage of the group, which ignored instances never become."""
    return max(0, min(-(-desired * percentage // 100), desired - view.ignored))


def last_checkpoint(refresh: Refresh) -> int:
    """Return the percentage at which a refresh ends; a rollback has no checkpoints."""
    points = refresh.preferences.checkpoints if refresh.status == IN_PROGRESS else ()
    return points[-1] if points else 100


def check(refresh: Refresh, view: View, desired: int, now: float) -> Refresh:
    """Return a refresh that pauses if it reaches a checkpoint, once more if the group grows.

    Of several that it reaches at once, the last counts. The end of the replacements is no checkpoint.
    """
    points = refresh.preferences.checkpoints if refresh.status == IN_PROGRESS else ()
    if not points or view.new_healthy >= desired:
        return replace(refresh, desired=desired)
    reached = sum(view.new_healthy * 100 >= point * desired for point in points)
    before = min(reached, refresh.reached) if desired > refresh.desired else refresh.reached
    refresh = replace(refresh, desired=desired, reached=max(before, reached))
    if reached <= before:
        return refresh
    return replace(refresh, notified=(*refresh.notified, points[reached - 1]),
                   paused_until=now + refresh.preferences.checkpoint_delay)


def measure(refresh: Refresh, view: View, desired: int, now: float) -> Refresh:
    """Return a refresh with its progress, and the beginning of its failures and its wait."""
    new, best = frozenset([*view.new, *view.aside]), min(refresh.best, desired)
    failing_since = refresh.failing_since
    if view.new_healthy > best:
        best, failing_since = view.new_healthy, None
    elif failing_since is None and (view.failing or refresh.new - new):
        failing_since = now
    is_waiting = view.blocked and not view.replaceable
    waiting_since = (now if refresh.waiting_since is None else refresh.waiting_since) if is_waiting else None
    refresh = replace(refresh, new=new, best=best, failing_since=failing_since, waiting_since=waiting_since)
    rollback = refresh.rollback
    if not rollback:
        goal = goal_of(refresh, view, desired)
        done = min(goal, view.new_healthy)
        return replace(refresh, percentage=100 * done // goal if goal else 100, remaining=goal - done)
    replaced = rollback.replaced or view.replaceable
    percentage = rollback.percentage * min(replaced, view.replaceable) // replaced if replaced else 0
    return replace(refresh, rollback=replace(rollback, replaced=replaced), percentage=percentage)


def is_complete(refresh: Refresh, view: View, desired: int) -> bool:
    """Return whether enough new instances are healthy, and the replaced ones are gone."""
    last = last_checkpoint(refresh)
    is_rest_replaced = last < 100 or not (view.replaceable or view.blocked)
    return view.new_healthy >= goal_of(refresh, view, desired, last) and is_rest_replaced and not view.leaving


def overdue_reason(refresh: Refresh, now: float) -> str:
    """Return the reason for which a refresh fails now; empty if it goes on."""
    if refresh.failing_since is not None and now - refresh.failing_since >= HOUR:
        return 'replacements have failed for one hour'
    if refresh.waiting_since is not None and now - refresh.waiting_since >= HOUR:
        return 'instances have been in standby or protected from scale in for one hour'
    return 'the instance refresh has taken 14 days' if now - refresh.began >= LONGEST else ''


def steps(refresh: Refresh, view: View, desired: int, now: float) -> list[Act]:
    """Return as many replacements as the bounds and the next checkpoint leave room for.

    An instance leaves in place of a surplus one, or of one that is launched at the same time. The group itself fills
    a shortage, with new instances.
    """
    least, most = bounds(refresh.preferences, desired)
    surplus, shortage = max(0, view.counted - desired), max(0, desired - view.counted)
    allowed = max(0, cap_of(refresh, view, desired, now) - len(view.new) - shortage)
    unhealthy = view.unhealthy[:surplus + allowed]
    spared = max(0, view.healthy - least)
    serving = view.serving[:min(spared, surplus + allowed - len(unhealthy))]
    leaving = [*unhealthy, *serving]
    started = max(0, len(leaving) - surplus)
    room = most - max(desired, view.counted) + min(surplus, len(leaving))
    ahead = min(room, allowed - started, len(view.unhealthy) + len(view.serving) - len(leaving))
    standby = view.standby if now >= refresh.paused_until else []
    launch = Launch(refresh.wanted, LAUNCHES)
    return [*(Leave(name, LEAVES) for name in [*standby, *leaving]), *[launch] * (started + max(0, ahead))]


def cap_of(refresh: Refresh, view: View, desired: int, now: float) -> int:
    """Return the number of new instances that a refresh may have before its next checkpoint; 0 during a pause."""
    if now < refresh.paused_until:
        return 0
    points = refresh.preferences.checkpoints if refresh.status == IN_PROGRESS else ()
    return goal_of(refresh, view, desired, points[refresh.reached] if refresh.reached < len(points) else 100)


def finish(refresh: Refresh, now: float) -> Refresh:
    """Return a refresh whose replacements are done: it bakes, or ends."""
    if refresh.status == ROLLING_BACK:
        return replace(refresh, status=ROLLED_BACK)
    if not refresh.preferences.bake:
        return replace(refresh, status=SUCCESSFUL)
    return replace(refresh, status=BAKING, bakes_until=now + refresh.preferences.bake)


def fail(refresh: Refresh, reason: str, now: float) -> Refresh:
    """Return a refresh that fails, or rolls back if its preferences say so."""
    if refresh.status == ROLLING_BACK:
        return replace(refresh, status=ROLLBACK_FAILED, reason=reason)
    return roll_back(refresh, reason, now) if refresh.preferences.rolls_back else (
        replace(refresh, status=FAILED, reason=reason))


def roll_back(refresh: Refresh, reason: str, now: float) -> Refresh:
    """Return a refresh that takes the group back to its configuration from before."""
    rollback = Rollback(reason, now, refresh.percentage, refresh.remaining)
    return replace(refresh, status=ROLLING_BACK, reason=reason, rollback=rollback, began=now, new=frozenset(), best=0,
                   failing_since=None, waiting_since=None, paused_until=0)


def cancel(refresh: Refresh, waits: bool = True) -> Refresh:
    """Return a refresh that replaces no further instance, and ends after its launches and terminations."""
    return replace(refresh, status=CANCELLING, waits=waits)


def note_failed_launch(refresh: Refresh, now: float) -> Refresh:
    """Return a refresh that knows of a launch without an instance."""
    return replace(refresh, failing_since=now) if refresh.failing_since is None else refresh


def events(before: Refresh, after: Refresh) -> list[tuple[str, dict[str, str]]]:
    """Return the events between two looks: each its detail type, and its own part of the detail.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-eventbridge-events.html
    """
    found: list[tuple[str, dict[str, str]]] = []
    if before.status == PENDING and after.status not in (PENDING, CANCELLING):
        found.append((EVENTS[IN_PROGRESS], {}))
    delay = f'{after.preferences.checkpoint_delay:g}'
    found += [(CHECKPOINT, {'CheckpointPercentage': str(point), 'CheckpointDelay': delay})
              for point in after.notified[len(before.notified):]]
    if after.status not in (before.status, IN_PROGRESS) and after.status in EVENTS:
        found.append((EVENTS[after.status], {}))
    return found


def active(refreshes: Sequence[Refresh]) -> Refresh | None:
    """Return the refresh that runs, of which a group has one at most."""
    return next((refresh for refresh in refreshes if not refresh.has_ended), None)
