"""Waiting for what is to happen; the only loop that asks again and again."""

from collections.abc import Callable
import time
from typing import TypeVar

# What takes a second on an idle machine may take a minute on a busy one. Only a failing test waits as long as this.
PATIENCE = 150
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.2
Answer = TypeVar('Answer')


def eventually(ask: Callable[[], Answer], what: str | Callable[[], str], seconds: float = PATIENCE) -> Answer:
    """Return the first answer that is true; fail with what was waited for when there is none in so many seconds."""
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
    while not (answer := ask()):
        assert time.monotonic() < deadline, f'not within {seconds:g} s: {what() if callable(what) else what}'
        time.sleep(pause)
        pause = min(LONGEST_PAUSE, 1.5 * pause)
    return answer


def seconds_until(ask: Callable[[], object], what: str) -> float:
    """Return how long it takes until an answer is true."""
    started = time.monotonic()
    eventually(ask, what)
    return time.monotonic() - started
