"""The threads that ask the endpoints of all health checks, and send the status of each check to CloudWatch.

https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/monitoring-health-checks.html
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
import logging
from threading import Event, RLock, Thread
from typing import Any

from rehearsal.api.health_checks.endpoint import Answer, ask, Endpoint
from rehearsal.api.health_checks.status import calculated, shown, Status, step
from rehearsal.api.metrics import record
from rehearsal.clocks import Clocks

logger = logging.getLogger(__name__)

# Whatever the region of the endpoint.
METRICS_REGION = 'us-east-1'
SECONDS_BETWEEN_METRICS = 30
LOOKS_PER_METRIC, LONGEST_BETWEEN_LOOKS = 4, 0.5
MOST_QUESTIONS_AT_ONCE = 8
MOST_GENERATIONS = 8


class Checker:
    """The checker of all health checks; one stands for the many that AWS has, because all would see the same."""

    def __init__(self, checks: Callable[[], Iterable[tuple[str, Any]]], lock: RLock, clocks: Clocks,
                 address_of: Callable[[str], str | None]) -> None:
        """Check by `checks`, which lists accounts with their checks, under the lock of the records."""
        self._checks = checks
        self._lock = lock
        self._clocks = clocks
        self._address_of = address_of
        self._ended = Event()
        self._pool = ThreadPoolExecutor(MOST_QUESTIONS_AT_ONCE, thread_name_prefix='route53')
        self._measured = clocks.paced() - SECONDS_BETWEEN_METRICS

    def start(self) -> None:
        """Start the thread that looks for checks that are due."""
        Thread(target=self._run, name='health checks', daemon=True).start()

    def stop(self) -> None:
        """End that thread; questions that were asked already may still be answered."""
        self._ended.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """Ask each endpoint that is due, and record the status of all checks every half minute of AWS's."""
        with self._lock:
            now, checks = self._clocks.paced(), list(self._checks())
            for _, check in checks:
                if is_due(check, now):
                    check.rehearsal_next_question = now + int(check.request_interval)
                    check.rehearsal_is_asked = True
                    self._pool.submit(self._ask, check)
            if now - self._measured >= SECONDS_BETWEEN_METRICS:
                self._measured = now
                for account, check in checks:
                    value = is_healthy(check, {each.id: each for _, each in checks})
                    record(account, METRICS_REGION, 'AWS/Route53', 'HealthCheckStatus', {'HealthCheckId': check.id},
                           float(value), at=self._clocks.calendar())

    def _run(self) -> None:
        pause = self._clocks.real_seconds(SECONDS_BETWEEN_METRICS / LOOKS_PER_METRIC)
        while not self._ended.wait(min(pause, LONGEST_BETWEEN_LOOKS)):
            try:
                self.look()
            except Exception:
                logger.exception('health checks cannot be made')

    def _ask(self, check: Any) -> None:
        try:
            answer = ask(endpoint_of(check), check.ip_address or self._address_of(check.fqdn.lower().rstrip('.')))
        except Exception as error:
            logger.exception('health check %s', check.id)
            answer = Answer(False, f'Failure: {error}')
        with self._lock:
            check.rehearsal_is_asked = False
            before = status_of(check)
            check.rehearsal_status = step(before, answer.has_passed, int(check.failure_threshold))
            check.rehearsal_answer, check.rehearsal_answered = answer, self._clocks.calendar()
            if check.rehearsal_status.is_healthy != before.is_healthy:
                logger.info('health check %s of %s: %s', check.id, check.fqdn, answer.text)


def is_due(check: Any, now: float) -> bool:
    """Return whether the endpoint of a check must be asked now."""
    is_waiting = now < getattr(check, 'rehearsal_next_question', 0) or getattr(check, 'rehearsal_is_asked', False)
    return check.type_ != 'CALCULATED' and not check.disabled and not is_waiting


def endpoint_of(check: Any) -> Endpoint:
    """Return the endpoint of a check of moto's."""
    return Endpoint(check.id, check.type_.partition('_')[0], check.fqdn or check.ip_address, int(check.port),
                    check.resource_path or '/', check.search_string or '', bool(check.enable_sni and check.fqdn))


def status_of(check: Any) -> Status:
    """Return the status of an endpoint's check."""
    status: Status = getattr(check, 'rehearsal_status', Status())
    return status


def answer_of(check: Any) -> tuple[Answer, datetime] | None:
    """Return the last answer to a check, and its time."""
    answer = getattr(check, 'rehearsal_answer', None)
    return (answer, check.rehearsal_answered) if answer else None


def is_healthy(check: Any, by_id: dict[str, Any], generations: int = MOST_GENERATIONS) -> bool:
    """Return the status of a check that Route 53 uses; that of a parent follows from its children."""
    if check.type_ != 'CALCULATED':
        return shown(status_of(check).is_healthy, check.inverted, check.disabled)
    children = [is_healthy(by_id[child], by_id, generations - 1) for child in check.children or []
                if child in by_id and generations]
    return shown(calculated(children, int(check.health_threshold or 0)), check.inverted, check.disabled)
