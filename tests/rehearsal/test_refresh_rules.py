"""Each rule of an instance refresh, decided without an API; docs/rehearsal.md names AWS's document for it."""

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from rehearsal.api.groups.acts import Launch, Leave, Member, Version
from rehearsal.api.groups.refresh import (
    active, BAKING, bounds, cancel, CANCELLED, CANCELLING, CHECKPOINT, decide, events, FAILED, HOUR, IN_PROGRESS,
    LONGEST, note_failed_launch, PENDING, Preferences, Refresh, roll_back, ROLLBACK_FAILED, ROLLED_BACK, ROLLING_BACK,
    SUCCESSFUL)

OLD, NEW = Version('lt-1', '1'), Version('lt-1', '2')
NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)
# A number that no test of a rule depends on.
START = 1_000.0


def members(old: int = 0, new: int = 0, state: str = 'InService', since: float | None = 0,
            **options: Any) -> list[Member]:
    """Return instances of the old and the new version in the same state."""
    healthy_since = since if state == 'InService' else None
    return [Member(f'{prefix}-{state}-{index}', state, 'a', version, NOON, healthy_since=healthy_since, **options)
            for prefix, version, number in (('old', OLD, old), ('new', NEW, new)) for index in range(number)]


def refresh(status: str = PENDING, **preferences: Any) -> Refresh:
    return Refresh(NEW, OLD, Preferences(**{'skips_matching': True, **preferences}), status=status, began=START)


def numbers(acts: list[Any]) -> tuple[int, int]:
    """Return the numbers of ends and launches."""
    return sum(isinstance(act, Leave) for act in acts), sum(isinstance(act, Launch) for act in acts)


def status_after(before: Refresh, group: list[Member], now: float = START, alarms: tuple[str, ...] = ()) -> str:
    after, _acts = decide(before, group, len(group), alarms, now)
    return after.status


@pytest.mark.parametrize(('least', 'most', 'desired', 'expected'), [
    (90, None, 10, (1, 1)), (50, None, 10, (5, 5)), (0, None, 10, (10, 10)), (100, None, 10, (1, 1)),
    (100, 100, 10, (0, 1)), (100, 150, 10, (0, 5)), (90, 110, 10, (1, 2)), (90, None, 1, (1, 1)),
    (90, 100, 1, (0, 1)), (90, 110, 1, (0, 1)), (66, None, 3, (1, 1)), (50, None, 3, (1, 1))])
def test_the_percentages_pace_the_replacements(least: int, most: int | None, desired: int,
                                               expected: tuple[int, int]) -> None:
    after, acts = decide(refresh(min_healthy=least, max_healthy=most), members(desired), desired, (), START)
    assert after.status == IN_PROGRESS
    assert numbers(acts) == expected


def test_an_explicit_maximum_of_100_launches_first_and_an_omitted_one_does_not() -> None:
    assert bounds(Preferences(100, 100), 10) == (10, 11)
    assert bounds(Preferences(100), 10) == (9, 10)
    assert bounds(Preferences(90, 110), 1) == (1, 2)


def test_an_instance_leaves_when_its_replacement_is_warm() -> None:
    running = replace(refresh(IN_PROGRESS, min_healthy=100, max_healthy=110, warmup=300), desired=10)
    group = members(10) + members(new=1, since=START)
    assert numbers(decide(running, group, 10, (), START + 299)[1]) == (0, 0)
    assert numbers(decide(running, group, 10, (), START + 300)[1]) == (1, 1)


def test_an_instance_that_waits_for_its_hook_is_not_counted_as_healthy() -> None:
    running = refresh(IN_PROGRESS, min_healthy=100, max_healthy=110)
    group = members(10) + members(new=1, state='Pending:Wait')
    assert numbers(decide(running, group, 10, (), START)[1]) == (0, 0)


def test_a_refresh_ends_after_the_draining_of_the_last_instance() -> None:
    running = refresh(IN_PROGRESS)
    assert status_after(running, [*members(new=1), *members(1, state='Terminating')]) == IN_PROGRESS
    assert decide(running, members(new=1), 1, (), START)[0].status == SUCCESSFUL


def test_matching_instances_stay_and_nothing_to_do_is_success_at_once() -> None:
    assert status_after(refresh(bake=600), members(new=3)) == SUCCESSFUL
    _after, acts = decide(refresh(min_healthy=0), members(1, 2), 3, (), START)
    assert [act.instance for act in acts if isinstance(act, Leave)] == ['old-InService-0']


def test_without_skip_matching_matching_instances_are_replaced() -> None:
    after, acts = decide(refresh(skips_matching=False, min_healthy=0), members(new=3), 3, (), START)
    assert (after.status, numbers(acts)) == (IN_PROGRESS, (3, 3))


@pytest.mark.parametrize(('choice', 'leaves', 'status'), [('Refresh', 1, IN_PROGRESS), ('Wait', 0, IN_PROGRESS),
                                                          ('Ignore', 0, SUCCESSFUL)])
def test_protected_instances_are_replaced_awaited_or_ignored(choice: str, leaves: int, status: str) -> None:
    after, acts = decide(refresh(protected=choice), members(1, is_protected=True), 1, (), START)
    assert (after.status, numbers(acts)[0]) == (status, leaves)


@pytest.mark.parametrize(('choice', 'leaves', 'status'), [('Terminate', 1, IN_PROGRESS), ('Wait', 0, IN_PROGRESS),
                                                          ('Ignore', 0, SUCCESSFUL)])
def test_instances_in_standby_are_terminated_awaited_or_ignored(choice: str, leaves: int, status: str) -> None:
    group = members(new=1) + members(1, state='Standby')
    after, acts = decide(refresh(standby=choice), group, 1, (), START)
    assert (after.status, numbers(acts)) == (status, (leaves, 0))


def test_a_wait_for_protected_instances_ends_after_an_hour() -> None:
    group = members(1, is_protected=True)
    waiting, _acts = decide(refresh(), group, 1, (), START)
    assert status_after(waiting, group, START + HOUR - 1) == IN_PROGRESS
    after, _acts = decide(waiting, group, 1, (), START + HOUR)
    assert after.status == FAILED and 'protected' in after.reason
    free, acts = decide(waiting, members(1), 1, (), START + HOUR)
    assert (free.status, numbers(acts)) == (IN_PROGRESS, (1, 1))


def test_failing_replacements_are_retried_for_an_hour() -> None:
    running, _acts = decide(refresh(), members(1, 1, state='Pending'), 2, (), START)
    failing, _acts = decide(running, members(1), 2, (), START + 10)
    assert failing.failing_since == START + 10
    assert status_after(failing, members(1), START + 9 + HOUR) == IN_PROGRESS
    assert status_after(failing, members(1), START + 10 + HOUR) == FAILED


def test_a_healthy_replacement_ends_the_hour_of_retries() -> None:
    failing = note_failed_launch(refresh(IN_PROGRESS), START)
    after, _acts = decide(failing, members(1, 1), 2, (), START + HOUR)
    assert (after.status, after.failing_since) == (IN_PROGRESS, None)


def test_a_refresh_takes_14_days_at_most() -> None:
    group = members(1, 1, state='Pending')
    assert status_after(refresh(IN_PROGRESS), group, START + LONGEST - 1) == IN_PROGRESS
    assert status_after(refresh(IN_PROGRESS), group, START + LONGEST) == FAILED


@pytest.mark.parametrize('status', [PENDING, IN_PROGRESS, BAKING])
@pytest.mark.parametrize(('rolls_back', 'end'), [(False, FAILED), (True, ROLLING_BACK)])
def test_an_alarm_ends_a_refresh_also_while_it_bakes(status: str, rolls_back: bool, end: str) -> None:
    running = refresh(status, alarms=('errors',), rolls_back=rolls_back, bake=60)
    assert status_after(running, members(1, 1), alarms=('others',)) != end
    assert status_after(running, members(1, 1), alarms=('errors',)) == end


def test_a_rollback_returns_to_the_version_that_the_group_had() -> None:
    running = replace(refresh(IN_PROGRESS, min_healthy=0, max_healthy=100), percentage=50, remaining=1)
    back = roll_back(running, 'a reason', START)
    assert back.rollback and (back.rollback.percentage, back.rollback.remaining) == (50, 1)
    after, acts = decide(back, members(1, 1), 2, (), START)
    assert acts == [Leave('new-InService-0', acts[0].cause), Launch(OLD, acts[1].cause)]
    assert (after.percentage, decide(after, members(2), 2, (), START)[0].percentage) == (50, 0)
    ended, _acts = decide(after, members(2), 2, (), START)
    assert (ended.status, ended.configuration) == (ROLLED_BACK, OLD)


def test_a_rollback_whose_replacements_fail_for_an_hour_has_failed() -> None:
    back = note_failed_launch(roll_back(refresh(IN_PROGRESS), 'a reason', START), START)
    assert status_after(back, members(1, 1), START + HOUR - 1) == ROLLING_BACK
    failing = replace(back, best=1)
    assert status_after(failing, members(1, 1), START + HOUR) == ROLLBACK_FAILED


def test_only_success_writes_the_version_of_the_group() -> None:
    for status in (PENDING, IN_PROGRESS, BAKING, FAILED, CANCELLED, CANCELLING, ROLLING_BACK, ROLLED_BACK):
        assert refresh(status).configuration == OLD
    assert refresh(SUCCESSFUL).configuration == NEW


def test_new_instances_get_the_desired_configuration_until_a_refresh_fails() -> None:
    assert [refresh(status).wanted for status in (PENDING, IN_PROGRESS, BAKING)] == [NEW] * 3
    assert [refresh(status).wanted for status in (ROLLING_BACK, CANCELLING, CANCELLED)] == [OLD] * 3


def test_a_cancellation_waits_for_launches_and_terminations_and_undoes_nothing() -> None:
    cancelled = cancel(refresh(IN_PROGRESS))
    moving = members(1, 1) + members(new=1, state='Pending')
    waiting, acts = decide(cancelled, moving, 2, (), START)
    assert (waiting.status, acts) == (CANCELLING, [])
    # A launch that begins later is not the refresh's.
    later = [*members(1, 2), replace(moving[2], instance='later')]
    after, acts = decide(waiting, later, 2, (), START)
    assert (after.status, acts, after.configuration) == (CANCELLED, [], OLD)
    assert decide(cancel(refresh(IN_PROGRESS), waits=False), moving, 2, (), START)[0].status == CANCELLED


def test_a_checkpoint_pauses_a_refresh_and_no_replacement_overruns_it() -> None:
    begun = refresh(min_healthy=0, checkpoints=(20, 100), checkpoint_delay=600)
    started, acts = decide(begun, members(10), 10, (), START)
    assert numbers(acts) == (2, 2)
    paused, acts = decide(started, members(8, 2), 10, (), START + 60)
    assert (paused.notified, numbers(acts)) == ((20,), (0, 0))
    assert numbers(decide(paused, members(8, 2), 10, (), START + 659)[1]) == (0, 0)
    assert numbers(decide(paused, members(8, 2), 10, (), START + 660)[1]) == (8, 8)


def test_of_several_checkpoints_at_once_the_last_one_is_notified() -> None:
    running = refresh(IN_PROGRESS, checkpoints=(10, 40, 100))
    assert decide(running, members(1, 1), 2, (), START)[0].notified == (40,)


def test_a_checkpoint_is_reached_once_more_after_the_group_has_grown() -> None:
    running = refresh(IN_PROGRESS, checkpoints=(50, 100), checkpoint_delay=0)
    first, _acts = decide(running, members(2, 2), 4, (), START)
    grown, _acts = decide(first, members(2, 2), 8, (), START)
    again, _acts = decide(grown, members(4, 4), 8, (), START)
    assert (first.notified, grown.notified, again.notified) == ((50,), (50,), (50, 50))


def test_a_last_checkpoint_below_100_ends_a_refresh_there() -> None:
    assert status_after(refresh(IN_PROGRESS, checkpoints=(50,)), members(2, 2)) == SUCCESSFUL


def test_a_refresh_bakes_before_it_succeeds() -> None:
    baking, _acts = decide(refresh(IN_PROGRESS, bake=600), members(new=2), 2, (), START)
    assert baking.status == BAKING
    assert status_after(baking, members(new=2), START + 599) == BAKING
    assert status_after(baking, members(new=2), START + 600) == SUCCESSFUL


def test_scaling_goes_on_during_a_refresh() -> None:
    """A shortage is the group's: the refresh leaves the room, and replaces fewer."""
    running = refresh(IN_PROGRESS, min_healthy=50)
    assert numbers(decide(running, members(4), 4, (), START)[1]) == (2, 2)
    assert numbers(decide(running, members(4), 8, (), START)[1]) == (0, 0)
    # After a scale-in, surplus old instances leave without a replacement.
    assert numbers(decide(running, members(4), 2, (), START)[1]) == (3, 1)


def test_a_group_has_one_running_refresh() -> None:
    running = refresh(IN_PROGRESS)
    assert active([refresh(SUCCESSFUL), running, refresh(FAILED)]) is running
    assert active([refresh(SUCCESSFUL)]) is None


def test_each_status_has_its_event() -> None:
    names = {status: [name.removeprefix('EC2 Auto Scaling Instance Refresh ') for name, _detail in
                      events(refresh(before), refresh(status))]
             for before, status in [(PENDING, IN_PROGRESS), (IN_PROGRESS, BAKING), (BAKING, SUCCESSFUL),
                                    (IN_PROGRESS, FAILED), (CANCELLING, CANCELLED), (IN_PROGRESS, ROLLING_BACK),
                                    (ROLLING_BACK, ROLLED_BACK), (ROLLING_BACK, ROLLBACK_FAILED)]}
    assert names == {IN_PROGRESS: ['Started'], BAKING: [], SUCCESSFUL: ['Succeeded'], FAILED: ['Failed'],
                     CANCELLED: ['Cancelled'], ROLLING_BACK: ['Rollback Started'],
                     ROLLED_BACK: ['Rollback Succeeded'], ROLLBACK_FAILED: ['Rollback Failed']}
    assert [len(events(refresh(), refresh(status))) for status in (SUCCESSFUL, CANCELLING)] == [2, 0]
    reached = replace(refresh(IN_PROGRESS, checkpoints=(50, 100), checkpoint_delay=300), notified=(50,))
    assert events(refresh(IN_PROGRESS), reached) == [
        (CHECKPOINT, {'CheckpointPercentage': '50', 'CheckpointDelay': '300'})]
