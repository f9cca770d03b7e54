"""Simulated releases keep AWS's rules and end; they find planted defects, and a failing one is shrunk and replayed."""

from collections import Counter
import inspect
from itertools import count
from types import ModuleType

from hypothesis import settings, strategies
from hypothesis.stateful import initialize, invariant, precondition, rule, RuleBasedStateMachine
import pytest

from rehearsal.api.groups import refresh
from tests.support.simulated_group import (
    HOUR, Incident, NEW, NEXT_ENDED, OLD, Scenario, SimulatedGroup, STEP, Violation)
from tests.tools import simulate

RELEASES, MOST_SEEDS = 1_000, 2_000
# Each defect: a text of the module of the decisions, and another one in its place.
DEFECTS = {
    'the warm-up is ignored': ('warm = now - preferences.warmup', 'warm = now'),
    'one healthy instance too few': (
        'spared = max(0, view.healthy - least)', 'spared = max(0, view.healthy - least + 1)'),
    'the minimum is rounded down': ('least = -(-desired * preferences.min_healthy // 100)',
                                    'least = desired * preferences.min_healthy // 100'),
    'an omitted maximum launches first': ('if preferences.max_healthy is not None else (max(0, least - 1), most)',
                                          'if True else (max(0, least - 1), most)'),
    'one instance too many': ('room = most - max(desired, view.counted)',
                              'room = most + 1 - max(desired, view.counted)'),
    'an alarm does not end the bake time': ('if ringing and refresh.status != ROLLING_BACK:',
                                            'if ringing and refresh.status == IN_PROGRESS:'),
    'the bake time is skipped': ('now >= refresh.bakes_until\n', 'True\n'),
    'a failure writes the version': ('return self.target if self.status == SUCCESSFUL else self.saved',
                                     'return self.target if self.has_ended else self.saved'),
    'the hour of retries never ends': (
        'now - refresh.failing_since >= HOUR', 'now - refresh.failing_since >= LONGEST'),
    'the first failure ends the refresh': ('now - refresh.failing_since >= HOUR', 'now > refresh.failing_since'),
    'a protected instance is replaced': ('preferences.protected if member.is_protected else REFRESH', 'REFRESH'),
    'a checkpoint does not pause': ('paused_until=now + refresh.preferences.checkpoint_delay', 'paused_until=now'),
    'a checkpoint is overrun': ('points[refresh.reached] if refresh.reached < len(points) else 100)', '100)'),
    'a rollback launches the new version': ('return self.target if self.status in FORWARD else self.saved',
                                            'return self.target'),
    'matching instances are replaced': ('is_old = not refresh.preferences.skips_matching', 'is_old = True'),
    'matching instances are never replaced': ('is_old = not refresh.preferences.skips_matching', 'is_old = False'),
    'success before the new instances are healthy': (
        'return view.new_healthy >= goal_of', 'return len(view.new) >= goal_of'),
    'the end comes before the last replacement': ('not (view.replaceable or view.blocked)', 'not view.blocked'),
}


def defective(change: tuple[str, str]) -> ModuleType:
    """Return the decisions with a defect."""
    source = inspect.getsource(refresh)
    assert source.count(change[0]) == 1, change[0]
    module = ModuleType('defective')
    exec(compile(source.replace(*change), 'defective', 'exec'), vars(module))
    return module


def test_simulated_releases_keep_the_rules_and_end() -> None:
    outcomes = [simulate.outcome_of(seed) for seed in range(RELEASES)]
    broken = [outcome for outcome in outcomes if outcome.broken]
    assert not broken, simulate.report(simulate.scenario_of(broken[0].seed), broken[0].broken)
    # The scenarios reach each end of a refresh, so that its rules are really judged.
    ends = Counter(outcome.status for outcome in outcomes)
    assert set(ends) == set(NEXT_ENDED) and min(ends.values()) >= 10, ends


def test_the_scenarios_reach_from_one_instance_to_a_large_group() -> None:
    sizes = [simulate.scenario_of(seed).size for seed in range(RELEASES)]
    assert min(sizes) == 1 and max(sizes) > 0.9 * simulate.LARGEST


@pytest.mark.parametrize('name', DEFECTS)
def test_the_simulation_finds_a_planted_defect(name: str) -> None:
    module = defective(DEFECTS[name])
    found = next((seed for seed in range(MOST_SEEDS) if simulate.outcome_of(seed, module).broken), None)
    assert found is not None, f'{name}: not found in {MOST_SEEDS} releases'


def test_a_failing_release_is_shrunk_and_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    module = defective(DEFECTS['an alarm does not end the bake time'])
    scenario = next(scenario for scenario in map(simulate.scenario_of, count())
                    if len(scenario.incidents) > 1 and simulate.broken_rule(scenario, module))
    smallest = simulate.shrink(scenario, lambda each: bool(simulate.broken_rule(each, module)))
    assert smallest.size <= scenario.size and [each.kind for each in smallest.incidents] == ['alarm']
    assert {'bake', 'alarms'} <= smallest.preferences.keys() < scenario.preferences.keys()
    assert Scenario.parse(smallest.text()) == smallest
    text = simulate.report(scenario, '', module)
    assert f'seed {scenario.seed} breaks a rule: an alarm ends' in text and smallest.text() in text
    assert simulate.main(['--scenario', smallest.text()]) == 0
    assert 'Baking' in capsys.readouterr().out


def test_the_command_counts_the_ends_of_releases(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(['--releases', '20']) == 0
    printed = capsys.readouterr().out
    assert '0 break a rule' in printed and '20 releases in' in printed


class Releases(RuleBasedStateMachine):
    """A small group whose incidents Hypothesis chooses, one after the other."""

    @initialize(size=strategies.integers(1, 8), least=strategies.sampled_from([0, 50, 90, 100]),
                most=strategies.sampled_from([None, 100, 150]), warmup=strategies.sampled_from([0, 60]),
                points=strategies.sampled_from([(), (50, 100), (30,)]), bake=strategies.sampled_from([0, 120]),
                rolls_back=strategies.booleans(), skips=strategies.booleans(),
                failures=strategies.sampled_from([0, 0, 50, 100]))
    def start(self, size: int, least: int, most: int | None, warmup: int, points: tuple[int, ...], bake: int,
              rolls_back: bool, skips: bool, failures: int) -> None:
        """Start the refresh."""
        most = None if most is not None and most - least > 100 else most
        preferences = {'min_healthy': least, 'max_healthy': most, 'warmup': warmup, 'checkpoints': points,
                       'checkpoint_delay': 300, 'bake': bake, 'rolls_back': rolls_back, 'skips_matching': skips,
                       'alarms': ('errors',)}
        self.group = SimulatedGroup(Scenario(1, size, preferences, failures=failures, boot=60))
        self.group.start()

    @rule(looks=strategies.integers(1, 40))
    def wait(self, looks: int) -> None:
        """Let some looks pass."""
        for _ in range(looks):
            self.group.advance(self.group.now + STEP)

    @rule()
    def wait_an_hour(self) -> None:
        """Let an hour pass."""
        self.wait(int(HOUR / STEP) + 1)

    @rule(kind=strategies.sampled_from(simulate.KINDS), value=strategies.integers(0, 12))
    def meet(self, kind: str, value: int) -> None:
        """Let an incident happen."""
        self.group.apply(Incident(self.group.now, kind, value))

    @precondition(lambda self: hasattr(self, 'group'))
    @invariant()
    def only_success_writes_the_version(self) -> None:
        """Judge the group's version at each moment."""
        group = self.group
        assert group.version == (NEW if group.refresh.status == 'Successful' else OLD)

    def teardown(self) -> None:
        """Let the release end."""
        if not hasattr(self, 'group'):
            return
        group = self.group
        group.apply(Incident(group.now, 'unprotect'))
        group.apply(Incident(group.now, 'service'))
        for _ in range(4 * int(HOUR / STEP)):
            if group.refresh.status in NEXT_ENDED:
                break
            group.advance(group.now + STEP)
        assert group.refresh.status in NEXT_ENDED, 'it ends'


TestReleases = Releases.TestCase
TestReleases.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)


def test_a_second_refresh_is_refused_by_the_judge() -> None:
    group = SimulatedGroup(Scenario(1, 1))
    group.start()
    group.module = defective(('if not refresh.has_ended), None)', 'if refresh.has_ended), None)'))
    with pytest.raises(Violation, match='one refresh at a time'):
        group.apply(Incident(0, 'second'))
