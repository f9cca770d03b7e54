"""Waiting for an event; the only loop that polls."""

from collections.abc import Callable
import time
from typing import TypeVar

# A second on an idle machine may be a minute on a busy one. Only a failing test waits as long as this.
PATIENCE = 150
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.2
Answer = TypeVar('Answer')


def eventually(ask: Callable[[], Answer], event: str | Callable[[], str], seconds: float = PATIENCE) -> Answer:
    """Return the first answer that is true; fail with the name of the event after so many seconds without one."""
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
    while not (answer := ask()):
        assert time.monotonic() < deadline, f'not within {seconds:g} s: {event() if callable(event) else event}'
        time.sleep(pause)
        pause = min(LONGEST_PAUSE, 1.5 * pause)
    return answer


def seconds_until(ask: Callable[[], object], event: str) -> float:
    """Return how long it takes until an answer is true."""
    started = time.monotonic()
    eventually(ask, event)
    return time.monotonic() - started
