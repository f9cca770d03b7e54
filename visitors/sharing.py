"""Shared statements: visits that wait at the same time are counted by one statement and answered after its commit."""

from collections import Counter as Counts
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
import math
import threading
import time
from typing import NamedTuple

import psycopg2

from visitors.database_errors import NoAnswer, NoTurn, Scope, scope_of, Unreachable
from visitors.deadline import deadline

# A visit waits this long for a statement that is under way. A slower statement waits for a lock or a server, and to
# wait with it would let one visitor hold up all others.
PATIENCE_SECONDS = 0.05
# The server lets commits of several connections share a flush, so a few statements at once answer sooner than one.
AT_ONCE = 4
LATE = 'the time of this visit ended while it waited for others'


class Visit(NamedTuple):
    """This visitor's visit count and the total number of visitors, both including this visit."""

    visits: int
    total: int


@dataclass(eq=False)
class Waiting:
    """One visit that waits to be counted, and the outcome as soon as it is known."""

    visitor: bytes
    day: date | None
    until: float | None
    woken: threading.Lock = field(default_factory=threading.Lock)
    group: 'list[Waiting] | None' = None
    outcome: Visit | Exception | None = None
    must_retry: bool = False

    def is_late(self) -> bool:
        """Return whether the time limit of this visit is in the past."""
        return self.until is not None and time.monotonic() >= self.until


class SharedVisits:
    """The visits of a process, which share statements.

    A visit that finds few statements under way is counted at once and by itself. Otherwise it joins the visits that
    wait for the end of a statement; one of them counts them all, on the connection of its own thread.
    """

    def __init__(self, count: Callable[[Sequence[bytes], date | None], list[Visit]],
                 patience: float = PATIENCE_SECONDS, at_once: int = AT_ONCE) -> None:
        """Share the statements that a function runs: it counts one visit of each visitor, in one transaction."""
        self._count = count
        self._patience = patience
        self._at_once = at_once
        self._lock = threading.Lock()
        self._under_way = 0
        self._started_at = float('-inf')
        self._waiting: list[Waiting] = []
        self._alone: Counts[bytes] = Counts()

    def visit(self, visitor: bytes, day: date | None) -> Visit:
        """Count a visit on a day, None for the database's own day, and return its numbers after the commit."""
        waiting = Waiting(visitor, day, deadline())
        waiting.woken.acquire()
        with self._lock:
            if visitor in self._alone or self._waiting and self._waiting[0].day != day:
                leads = shares = False
                self._alone[visitor] += 1
            else:
                leads = self._under_way < self._at_once or time.monotonic() - self._started_at > self._patience
                shares = True
            if leads:
                self._begin([waiting])
            elif shares:
                self._waiting.append(waiting)
        if not shares:
            return self._count_alone(waiting)
        return self._lead(waiting) if leads else self._follow(waiting)

    def _begin(self, group: list[Waiting]) -> Waiting:
        """Note, with the lock held, that a group is going to be counted; return its leader.

        The leader is the visit with the latest time limit, so it stops waiting after all others.
        """
        leader = max(group, key=lambda each: math.inf if each.until is None else each.until)
        leader.group = [leader, *(each for each in group if each is not leader)]
        self._under_way += 1
        self._started_at = time.monotonic()
        return leader

    def _begin_waiting(self) -> None:
        """Let one of the visits that wait, if there are any, count all of them; the lock is held."""
        group, self._waiting = self._waiting, []
        if group:
            self._begin(group).woken.release()

    def _follow(self, waiting: Waiting) -> Visit:
        patience: float | None = self._patience
        while True:
            waiting.woken.acquire(timeout=self._seconds(waiting, patience))
            with self._lock:
                if waiting in self._waiting and not waiting.is_late():
                    self._begin_waiting()
                elif waiting.is_late() and not (waiting.group or waiting.outcome or waiting.must_retry):
                    waiting.outcome = NoTurn(LATE)
                    if waiting in self._waiting:
                        self._waiting.remove(waiting)
            if waiting.group:
                return self._lead(waiting)
            if waiting.outcome:
                return _returned(waiting.outcome)
            if waiting.must_retry:
                return self._count_alone(waiting)
            patience = None  # another visit counts this one

    def _seconds(self, waiting: Waiting, patience: float | None) -> float:
        """Return the longest wait for a signal; -1 is no limit."""
        limits = [patience] if patience is not None else []
        if waiting.until is not None:
            limits.append(max(0.0, waiting.until - time.monotonic()))
        return min(limits, default=-1)

    def _lead(self, leader: Waiting) -> Visit:
        """Count a group, hand the lead to the visits that joined meanwhile, and return the leader's own numbers."""
        group = leader.group or [leader]
        error: BaseException | None = None
        try:
            visits: list[Visit | Exception] = [*self._run(leader, [each.visitor for each in group])]
        except BaseException as raised:
            error = raised
            visits = [raised if isinstance(raised, Exception) else NoAnswer(str(raised))] * len(group)
        must_retry = error is not None and len(group) > 1 and counted_nothing(error)
        with self._lock:
            self._under_way -= 1
            self._begin_waiting()
            for each, outcome in zip(group, visits):
                # A visit whose own time ended meanwhile has its outcome already.
                if each.outcome is None:
                    each.must_retry = must_retry
                    each.outcome = None if must_retry else outcome
                    self._alone.update([each.visitor] if must_retry else [])
        for each in group[1:]:
            each.woken.release()
        if must_retry:
            return self._count_alone(leader)
        if error:
            raise error
        return _returned(visits[0])

    def _run(self, leader: Waiting, visitors: Sequence[bytes]) -> list[Visit]:
        """Count visitors on the leader's connection; raise NoTurn, no error of the server, if its time is over."""
        if leader.is_late():
            raise NoTurn(LATE)
        return self._count(visitors, leader.day)

    def _count_alone(self, waiting: Waiting) -> Visit:
        """Count one visit by itself; until its end, other visits of the same visitor are counted by themselves too."""
        try:
            (visit,) = self._run(waiting, [waiting.visitor])
            return visit
        finally:
            with self._lock:
                self._alone[waiting.visitor] -= 1
                if not self._alone[waiting.visitor]:
                    del self._alone[waiting.visitor]


def counted_nothing(error: BaseException) -> bool:
    """Return whether no visit of a failed statement was counted, so that each may be tried again by itself.

    A server that reports an error has rolled the statement back. After a connection ended, the outcome is unknown.
    """
    if isinstance(error, Unreachable):
        return True
    return isinstance(error, psycopg2.Error) and scope_of(error) is Scope.STATEMENT


def _returned(outcome: Visit | Exception) -> Visit:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
