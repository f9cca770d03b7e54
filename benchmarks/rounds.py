"""Cases measured in turn, and the ratios between them, taken within each round."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import psutil


@dataclass(frozen=True)
class Run:
    """What a case has done in one round: answers a second, and the processor time that one of them took in µs."""

    rate: float
    application: float
    database: float


class Case(Protocol):
    """Something that can be kept busy for a while."""

    @property
    def name(self) -> str:
        """How the case is called in progress and tables."""

    def run(self, seconds: float) -> Run:
        """Keep it busy and return what it has done."""


Round = dict[str, Run]


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios within rounds, and the outermost of them."""

    median: float
    least: float
    most: float


def in_turn(cases: Sequence[Case], rounds: int, seconds: float, tell: Callable[[str], None]) -> list[Round]:
    """Return what all cases have done in each round; every second round goes backwards."""
    done = []
    for number in range(rounds):
        order = cases if number % 2 == 0 else cases[::-1]
        done.append({case.name: case.run(seconds) for case in order})
        rates = ', '.join(f'{name} {run.rate:.0f}' for name, run in sorted(done[-1].items()))
        tell(f'round {number + 1} of {rounds}, answers a second: {rates}')
    return done


def ratio(rounds: Sequence[Round], over: str, under: str) -> Ratio:
    """Return how much faster one case was than another.

    What else the machine had to do changes from minute to minute; within a round it was much the same for both.
    """
    ratios = [each[over].rate / each[under].rate for each in rounds]
    return Ratio(median(ratios), min(ratios), max(ratios))


def typical(rounds: Sequence[Round], name: str) -> Run:
    """Return the medians of what a case has done."""
    runs = [each[name] for each in rounds]
    return Run(median(run.rate for run in runs), median(run.application for run in runs),
               median(run.database for run in runs))


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process and its children have taken so far, those that have ended included."""
    first = psutil.Process(pid)
    own = first.cpu_times()
    return own.user + own.system + own.children_user + own.children_system + sum(map(_seconds, first.children(True)))


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system
