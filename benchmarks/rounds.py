"""Cases measured in turn, and the ratios between them, taken within each round."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
import time
from typing import Protocol

import psutil

CORES = psutil.cpu_count() or 1


@dataclass(frozen=True)
class Run:
    """The figures of a case in one round: answers a second, and the processor time of one answer in µs."""

    rate: float
    application: float
    database: float
    p99: float = 0.0


class Case(Protocol):
    """Something that can be kept busy for a while."""

    @property
    def name(self) -> str:
        """How the case is called in progress and tables."""

    def run(self, seconds: float) -> Run:
        """Keep it busy and return its figures."""


@dataclass(frozen=True)
class Round:
    """The figures of each case, and the share of the processors that other programs took meanwhile."""

    runs: dict[str, Run]
    strangers: float


@dataclass(frozen=True)
class Ratio:
    """The median of the ratios within rounds, and the outermost of them."""

    median: float
    least: float
    most: float


def in_turn(cases: Sequence[Case], number: int, seconds: float, strangers: Callable[[], float],
            report: Callable[[str], None]) -> list[Round]:
    """Return so many rounds, in each of which every case has run once; every second round goes backwards."""
    rounds: list[Round] = []
    strangers()
    while len(rounds) < number:
        order = cases if len(rounds) % 2 == 0 else cases[::-1]
        runs = {case.name: case.run(seconds) for case in order}
        rounds.append(Round(runs, strangers()))
        rates = ', '.join(f'{case.name} {runs[case.name].rate:.0f}' for case in cases)
        report(f'round {len(rounds)} of {number}, answers a second: {rates}')
    return rounds


def ratio(rounds: Sequence[Round], over: str, under: str, figure: Callable[[Run], float] = lambda run: run.rate
          ) -> Ratio:
    """Return how much better one case was than another, by a figure of theirs.

    The load of other programs changes from minute to minute; within a round it is much the same for both.
    """
    ratios = [figure(each.runs[over]) / figure(each.runs[under]) for each in rounds]
    return Ratio(median(ratios), min(ratios), max(ratios))


def per_processor_second(run: Run) -> float:
    """Return how many answers application and database give for a second of processor time."""
    return 1e6 / (run.application + run.database)


def typical(rounds: Sequence[Round], name: str) -> Run:
    """Return the medians of a case."""
    runs = [each.runs[name] for each in rounds]
    return Run(median(run.rate for run in runs), median(run.application for run in runs),
               median(run.database for run in runs), median(run.p99 for run in runs))


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process and its children have taken so far, also of ended ones."""
    first = psutil.Process(pid)
    own = first.cpu_times()
    return own.user + own.system + own.children_user + own.children_system + sum(map(_seconds, first.children(True)))


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


class Strangers:
    """The share of the processors that processes other than these and their children take."""

    def __init__(self, *pids: int) -> None:
        """Begin to watch."""
        self._pids = pids
        self._read()

    def __call__(self) -> float:
        """Return the share that others took since the last call."""
        at, busy, own = self._at, self._busy, self._own
        self._read()
        return max(0.0, (self._busy - busy - self._own + own) / (self._at - at) / CORES)

    def _read(self) -> None:
        times = psutil.cpu_times()
        self._at = time.monotonic()
        # Guests are within `user` already.
        self._busy = times.user + times.nice + times.system + times.irq + times.softirq + times.steal
        self._own = sum(map(processor_seconds, self._pids))
