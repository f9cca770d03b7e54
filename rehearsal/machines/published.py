"""The publications of load balancers: metrics in CloudWatch, and access logs in S3.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html and
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
import gzip
import logging
from secrets import token_hex
from threading import Lock, RLock
from typing import Any

from moto.elbv2.models import elbv2_backends
from moto.s3.exceptions import MissingBucket
from moto.s3.models import s3_backends

from rehearsal.api.metrics import record
from rehearsal.api.target_health import health_of, HEALTHY, receiving, UNHEALTHY
from rehearsal.api.traffic import (
    access_log_line, COUNT, Figure, figures_of, log_key, NAMESPACE, Request, SECONDS, suffix_of)
from rehearsal.clocks import Clocks
from rehearsal.settings import ACCOUNT

logger = logging.getLogger(__name__)

# In AWS's seconds: three counts of targets in each period of a minute, and a file of the access log.
SECONDS_BETWEEN_COUNTS, SECONDS_BETWEEN_LOGS = 20, 300


@dataclass
class Book:
    """The requests of one load balancer that are not published yet, and the settings of its access log."""

    region: str
    requests: list[Request] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    is_logged: bool = False
    bucket: str = ''
    prefix: str = ''
    address: str = ''


class Published:
    """The publisher of all load balancers of a rehearsal; it changes records while it holds their lock."""

    def __init__(self, lock: RLock, clocks: Clocks) -> None:
        """Publish at AWS's pace."""
        self._lock = lock
        self._clocks = clocks
        self._books: dict[str, Book] = {}
        # A request comes from a thread that must not wait for a call of the API.
        self._arrivals = Lock()
        self._next_count = self._next_log = clocks.paced()
        self._next_log += SECONDS_BETWEEN_LOGS

    def add(self, arn: str, request: Request) -> None:
        """Take a request of a load balancer."""
        with self._arrivals:
            self._book(arn).requests.append(request)

    def publish(self) -> None:
        """Publish the requests since the last time, and, if it is time, counts of targets and access logs."""
        with self._lock:
            for backend in list(elbv2_backends[ACCOUNT].values()):
                for balancer in list(backend.load_balancers.values()):
                    self._read(balancer)
            with self._arrivals:
                waiting = [(arn, book, self._taken(book)) for arn, book in self._books.items()]
            for arn, book, requests in waiting:
                self._publish_requests(arn, book, requests)
            if self._clocks.paced() >= self._next_count:
                self._next_count = self._clocks.paced() + SECONDS_BETWEEN_COUNTS
                self._count_targets()
            if self._clocks.paced() >= self._next_log:
                self._next_log = self._clocks.paced() + SECONDS_BETWEEN_LOGS
                for arn in self._books:
                    self._write_log(arn)

    def forget(self, arn: str) -> None:
        """Publish the rest of a load balancer that is deleted."""
        with self._lock:
            book = self._books.get(arn)
            if book:
                with self._arrivals:
                    requests = self._taken(book)
                self._publish_requests(arn, book, requests)
                self._write_log(arn)
                del self._books[arn]

    def _book(self, arn: str) -> Book:
        return self._books.setdefault(arn, Book(arn.split(':')[3]))

    def _read(self, balancer: Any) -> None:
        with self._arrivals:
            book = self._book(balancer.arn)
        book.is_logged = balancer.attrs.get('access_logs.s3.enabled') == 'true'
        book.bucket, book.prefix = (balancer.attrs.get(f'access_logs.s3.{name}', '') for name in ('bucket', 'prefix'))
        book.address = balancer.rehearsal_address

    @staticmethod
    def _taken(book: Book) -> list[Request]:
        requests, book.requests = book.requests, []
        return requests

    def _publish_requests(self, arn: str, book: Book, requests: list[Request]) -> None:
        if not requests:
            return
        groups = {group.arn.rpartition('/')[2]: group for group in groups_in(book.region)}
        targets = {each.arn: len(receiving(states_in(book.region, each))) for each in groups.values()}
        figures: list[Figure] = []
        for request in requests:
            group = groups.get(request.group)
            group_arn = group.arn if group else ''
            figures += figures_of(request, suffix_of(arn), suffix_of(group_arn), targets.get(group_arn, 0))
            if book.is_logged:
                book.lines.append(access_log_line(request, suffix_of(arn), group_arn))
        put(book.region, figures)

    def _count_targets(self) -> None:
        for region, backend in list(elbv2_backends[ACCOUNT].items()):
            for group in backend.target_groups.values():
                states = states_in(region, group)
                for arn in sorted(set(group.load_balancer_arns)) if states else ():
                    dimensions = {'TargetGroup': suffix_of(group.arn), 'LoadBalancer': suffix_of(arn)}
                    for name, state in (('HealthyHostCount', HEALTHY), ('UnHealthyHostCount', UNHEALTHY)):
                        number = list(states.values()).count(state)
                        put(region, [Figure(name, dimensions, number, COUNT)])

    def _write_log(self, arn: str) -> None:
        book = self._books[arn]
        if not book.lines:
            return
        key = log_key(book.prefix, ACCOUNT, book.region, suffix_of(arn), book.address, self._clocks.calendar(),
                      token_hex(4))
        content = gzip.compress(''.join(f'{line}\n' for line in book.lines).encode())
        book.lines = []
        try:
            s3_backends[ACCOUNT]['aws'].put_object(book.bucket, key, content)
        except MissingBucket:
            logger.warning('the access log of %s is lost: no bucket %s', arn, book.bucket)


def groups_in(region: str) -> list[Any]:
    """Return the target groups of a region."""
    return list(elbv2_backends[ACCOUNT][region].target_groups.values())


def states_in(region: str, group: Any) -> dict[str, str]:
    """Return the states of the registered targets of a group."""
    backend = elbv2_backends[ACCOUNT][region]
    return {target: health_of(backend, group, target).state for target in group.targets}


def put(region: str, figures: Iterable[Figure]) -> None:
    """Record values; those of durations one by one, because percentiles need each, and the sums of the others."""
    sums: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = defaultdict(float)
    for figure in figures:
        if figure.unit == SECONDS or not figure.value:
            record(ACCOUNT, region, NAMESPACE, figure.name, figure.dimensions, figure.value, figure.unit)
        else:
            sums[figure.name, figure.unit, tuple(figure.dimensions.items())] += figure.value
    for (name, unit, dimensions), value in sums.items():
        record(ACCOUNT, region, NAMESPACE, name, dict(dimensions), value, unit)
