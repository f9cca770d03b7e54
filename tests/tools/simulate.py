"""Simulates releases: random groups, each with a refresh to a new version, judged by AWS's rules.

`make simulate` runs 10,000 of them. A failing seed is printed with the smallest scenario that breaks the same rule,
and both can be run once more: `python -m tests.tools.simulate --seed 7`, or `--scenario '{...}'`.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from math import ceil
import os
from random import Random
import sys
import time
from types import ModuleType
from typing import Any

from rehearsal.api.groups import refresh as refresh_module
from tests.support.simulated_group import (
    HOUR, Incident, LONG_STEP, NEW, NEXT_ENDED, OLD, Scenario, SimulatedGroup, SMALL, STEP, Violation)

RELEASES, LARGEST = 10_000, 2_000
KINDS = ('capacity', 'alarm', 'kill', 'protect', 'unprotect', 'standby', 'service', 'cancel', 'rollback', 'outage',
         'second')
WEIGHTS = (6, 2, 6, 1, 1, 1, 1, 1, 2, 2, 2)
AT_ONCE = 100


@dataclass(frozen=True)
class Outcome:
    """The end of a simulated release: its status, or the rule that it broke."""

    seed: int
    status: str
    broken: str = ''


def scenario_of(seed: int) -> Scenario:
    """Return the scenario of a seed."""
    random = Random(seed)
    size = max(1, int(LARGEST ** (random.random() ** 3)))
    failures = random.choice([0, 0, 0, 5, 30, 100])
    # A large group whose boots all fail launches thousands of instances in the hour of its retries.
    boots = [600] if size > SMALL and failures > 5 else [30, 120, 600]
    return Scenario(
        seed, size, preferences_of(random, size), updated=random.choice([0, 0, size // 3]),
        protected=random.choice([0, 0, 0, 1, size // 4]), standby=random.choice([0, 0, 0, 1]),
        boot=random.choice(boots), ending=random.choice([15, 60, 300]),
        failures=failures, failures_of_old=random.choice([0, 0, 0, 0, 0, 100]) if size <= SMALL else 0,
        incidents=tuple(sorted((incident_of(random, size) for _ in range(random.randrange(5))),
                               key=lambda incident: incident.at)))


def preferences_of(random: Random, size: int) -> dict[str, Any]:
    """Return random preferences of a refresh, as AWS allows them."""
    least = random.choice([0, 50, 66, 75, 90, 90, 99, 100, 100] if size <= SMALL else [0, 50, 75, 80])
    allowed = [most for most in (100, 101, 110, 150, 200) if most - least <= 100]
    warmup = random.choice([0, 0, 45, 300])
    points = random.choice([(), (), (), (20, 50, 100), (10, 40, 100), (50,), (25, 100)])
    chosen: dict[str, Any] = {
        'min_healthy': least, 'max_healthy': random.choice([None, None, *allowed]), 'warmup': warmup,
        'checkpoints': points, 'checkpoint_delay': random.choice([0, 300, 3600]),
        'bake': random.choice([0, 0, 600]), 'skips_matching': random.random() < 0.6,
        'rolls_back': random.random() < 0.6, 'protected': random.choice(['Wait', 'Ignore', 'Refresh']),
        'standby': random.choice(['Wait', 'Ignore', 'Terminate']),
        'alarms': random.choice([(), ('errors',), ('latency', 'errors')])}
    defaults = vars(refresh_module.Preferences())
    return {name: value for name, value in chosen.items() if value != defaults[name]}


def incident_of(random: Random, size: int) -> Incident:
    """Return a random incident of the first hour."""
    (kind,) = random.choices(KINDS, WEIGHTS)
    grows = random.randrange(0, 2 * size + 1) if size <= SMALL else size + random.randrange(-5, 6)
    values = {'capacity': grows, 'alarm': int(random.random() < 0.7), 'cancel': random.randrange(2),
              'outage': random.choice([60, 1800, 7200])}
    return Incident(ceil(random.random() ** 2 * HOUR / STEP) * STEP, kind,
                    values.get(kind, random.randrange(1_000)))


def bound_of(scenario: Scenario) -> float:
    """Return the seconds in which a release has an end, even if it replaces one instance after the other."""
    preferences = scenario.preferences
    largest = max([scenario.size, *(each.value for each in scenario.incidents if each.kind == 'capacity')])
    replacement = scenario.boot + scenario.ending + preferences.get('warmup', 0) + 4 * LONG_STEP
    fails = scenario.failures or scenario.failures_of_old or scenario.incidents
    one = min(replacement * 4, HOUR + replacement) if fails else replacement
    pauses = len(preferences.get('checkpoints', ())) * preferences.get('checkpoint_delay', HOUR)
    grows = 1 + sum(each.kind == 'capacity' for each in scenario.incidents)
    last = max((each.at + (each.value if each.kind == 'outage' else 0) for each in scenario.incidents), default=0)
    return last + 2 * (one * (largest + scenario.standby) + pauses * grows + preferences.get('bake', 0) + 3 * HOUR)


def run(scenario: Scenario, module: ModuleType = refresh_module) -> SimulatedGroup:
    """Return a group after its release and all incidents."""
    group = SimulatedGroup(scenario, module)
    release(group)
    return group


def release(group: SimulatedGroup) -> None:
    """Let a group refresh its instances, and its incidents happen, until nothing more changes."""
    scenario, incidents, bound = group.scenario, list(group.scenario.incidents), bound_of(group.scenario)
    group.start()
    now = ended = 0.0
    while True:
        before = group.refresh.status
        while incidents and incidents[0].at <= now:
            group.apply(incidents.pop(0))
        group.advance(now)
        is_active = group.refresh.status not in NEXT_ENDED
        ended = now if is_active else ended
        group.require(not is_active or now <= bound, 'a release ends within its bound')
        times = [each for each in (group.next_change(), incidents[0].at if incidents else None) if each is not None]
        if before != group.refresh.status or now < group.launches_fail_until:
            times.append(now + group.step)
        # A group whose boots all fail launches instances for ever.
        if not is_active and (not times or now - ended > HOUR):
            break
        group.require(times, 'a release does not stand still')
        now = max(now + group.step, ceil(min(times) / group.step) * group.step)
    judge_end(group)
    group.say(f'end of {scenario.size} instances')


def judge_end(group: SimulatedGroup) -> None:
    """Judge the group that a release leaves behind."""
    status = group.refresh.status
    group.require(group.version == (NEW if status == 'Successful' else OLD),
                  'only success writes the version of the group')


def outcome_of(seed: int, module: ModuleType = refresh_module) -> Outcome:
    """Return the end of the release of a seed."""
    group = SimulatedGroup(scenario_of(seed), module)
    try:
        release(group)
    except Violation as violation:
        return Outcome(seed, group.refresh.status, str(violation))
    return Outcome(seed, group.refresh.status)


def broken_rule(scenario: Scenario, module: ModuleType = refresh_module) -> str:
    """Return the rule that a scenario breaks; empty if it breaks none."""
    try:
        run(scenario, module)
    except Violation as violation:
        return str(violation)
    return ''


def shrink(scenario: Scenario, breaks: Callable[[Scenario], bool]) -> Scenario:
    """Return the smallest scenario that still breaks a rule: fewer incidents, instances and preferences."""
    while True:
        smaller = next((each for each in simpler(scenario) if breaks(each)), None)
        if not smaller:
            return scenario
        scenario = smaller


def simpler(scenario: Scenario) -> Iterator[Scenario]:
    """Yield scenarios that are a little simpler than another one, the simplest first."""
    incidents = scenario.incidents
    for index in range(len(incidents)):
        yield replace(scenario, incidents=incidents[:index] + incidents[index + 1:])
    for size in sorted({1, scenario.size // 2, scenario.size - 1} - {0, scenario.size}):
        if size < scenario.size:
            yield replace(scenario, size=size, updated=min(scenario.updated, size),
                          protected=min(scenario.protected, size))
    for name in ('updated', 'protected', 'standby', 'failures', 'failures_of_old'):
        without: dict[str, Any] = {name: 0}
        if getattr(scenario, name):
            yield replace(scenario, **without)
    for name in scenario.preferences:
        yield replace(scenario, preferences={key: value for key, value in scenario.preferences.items()
                                             if key != name})


def report(scenario: Scenario, rule: str, module: ModuleType = refresh_module) -> str:
    """Return the report of a failing scenario, with its smallest form and the events of that."""
    smallest = shrink(scenario, lambda each: bool(broken_rule(each, module)))
    group = SimulatedGroup(smallest, module)
    try:
        release(group)
    except Violation as violation:
        rule = str(violation)
    return '\n'.join([f'seed {scenario.seed} breaks a rule: {rule}', *group.log,
                      f"replay it: python -m tests.tools.simulate --scenario '{smallest.text()}'"])


def batch(seeds: Sequence[int]) -> list[Outcome]:
    """Return the ends of several releases."""
    return [outcome_of(seed) for seed in seeds]


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate releases, print their ends, and return 1 if one breaks a rule."""
    parser = argparse.ArgumentParser(prog='python -m tests.tools.simulate', description=__doc__)
    parser.add_argument('--releases', type=int, default=RELEASES)
    parser.add_argument('--first', type=int, default=0, help='the first seed')
    parser.add_argument('--seed', type=int, help='simulate one seed, and print its events')
    parser.add_argument('--scenario', help='simulate a scenario, and print its events')
    options = parser.parse_args(arguments)
    if options.seed is not None or options.scenario:
        return replay(Scenario.parse(options.scenario) if options.scenario else scenario_of(options.seed))
    started = time.monotonic()
    seeds = range(options.first, options.first + options.releases)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        parts = [seeds[index:index + AT_ONCE] for index in range(0, len(seeds), AT_ONCE)]
        outcomes = [outcome for part in pool.map(batch, parts) for outcome in part]
    for status, number in Counter(outcome.status for outcome in outcomes).most_common():
        print(f'{number:6} {status}')
    seconds = time.monotonic() - started
    print(f'{len(outcomes)} releases in {seconds:.0f} s, {len(outcomes) / seconds:.0f} a second')
    broken = [outcome for outcome in outcomes if outcome.broken]
    for outcome in broken:
        print(f'seed {outcome.seed}: {outcome.broken}')
    for outcome in broken[:1]:
        print(report(scenario_of(outcome.seed), outcome.broken))
    print(f'{len(broken)} break a rule')
    return int(bool(broken))


def replay(scenario: Scenario) -> int:
    """Simulate a scenario, print its events, and return 1 if it breaks a rule."""
    group = SimulatedGroup(scenario)
    try:
        release(group)
    except Violation:
        pass
    print('\n'.join(group.log))
    return int(any('BROKEN' in line for line in group.log))


if __name__ == '__main__':
    sys.exit(main())
