"""The health checks of targets, which a load balancer here makes by itself.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
import logging
from threading import Event, Lock

from rehearsal.api.target_health import Failure

logger = logging.getLogger(__name__)

SIDE_BY_SIDE = 16
AGENT = 'ELB-HealthChecker/2.0'
TIMEOUT = Failure('Target.Timeout', 'Request timed out')
FAILED = Failure('Target.FailedHealthChecks', 'Health checks failed')


@dataclass(frozen=True)
class Check:
    """The check of a target: its address, its rules, and the function that takes its result."""

    host: str
    port: int
    path: str
    matcher: str
    interval: float
    timeout: float
    result: Callable[[Failure | None], None]


def failure_of(check: Check) -> Failure | None:
    """Make a check, and return its failure; None if it passed."""
    connection = HTTPConnection(check.host, check.port, timeout=check.timeout)
    try:
        connection.request('GET', check.path, headers={'User-Agent': AGENT, 'Connection': 'close'})
        status = connection.getresponse().status
    except TimeoutError:
        return TIMEOUT
    except (OSError, HTTPException):
        return FAILED
    finally:
        connection.close()
    if matches(status, check.matcher):
        return None
    return Failure('Target.ResponseCodeMismatch', f'Health checks failed with these codes: [{status}]')


def matches(status: int, matcher: str) -> bool:
    """Return whether a status is one of a matcher such as `200`, `200,302` or `200-299`."""
    for part in matcher.split(','):
        first, _, last = part.partition('-')
        if int(first) <= status <= int(last or first):
            return True
    return False


class HealthChecks:
    """The health checks of all targets, each at its interval, and never two of one target at a time."""

    def __init__(self, clock: Callable[[], float], ended: Event) -> None:
        """Measure the intervals by a clock, and take no result after the end."""
        self._clock = clock
        self._ended = ended
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix='health-check')
        self._due: dict[tuple[str, str], float] = {}
        self._running: set[tuple[str, str]] = set()

    def follow(self, checks: dict[tuple[str, str], Check]) -> None:
        """Begin the checks that are due, of these targets alone; a new target is checked at once."""
        with self._lock:
            self._due = {target: due for target, due in self._due.items() if target in checks}
            now = self._clock()
            due = [target for target in checks if self._due.get(target, now) <= now and target not in self._running]
            for target in due:
                self._due[target] = now + checks[target].interval
                self._running.add(target)
        for target in due:
            self._threads.submit(self._make, target, checks[target])

    def close(self) -> None:
        """Begin no further check."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _make(self, target: tuple[str, str], check: Check) -> None:
        try:
            failure = failure_of(check)
            if not self._ended.is_set():
                check.result(failure)
        except Exception:
            logger.exception('the check of %s failed', target)
        finally:
            with self._lock:
                self._running.discard(target)
