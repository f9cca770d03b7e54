"""The load balancers of a rehearsal: their programs follow moto's records, and their requests become AWS's records."""

from collections import deque
from collections.abc import Callable
import logging
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any, TypeVar

from moto.elbv2.models import elbv2_backends

from rehearsal.api.routing import Plan, plan_of
from rehearsal.api.target_health import DRAINING, Failure, health_of, NEW, step, targets_of
from rehearsal.api.traffic import Request
from rehearsal.clocks import Clocks
from rehearsal.machines.claims import Claims
from rehearsal.machines.health_checks import Check, HealthChecks
from rehearsal.machines.load_balancer import LoadBalancer
from rehearsal.machines.published import Published
from rehearsal.machines.sweep import BALANCERS, end_load_balancers
from rehearsal.settings import ACCOUNT

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.25
KEPT = 100_000
# The states in which the target is checked.
CHECKED = ('initial', 'healthy', 'unhealthy')
GONE = ('shutting-down', 'terminated')

Answer = TypeVar('Answer')
AddressOf = Callable[[str, int], tuple[str, int]]


def itself(port: int) -> int:
    """Return a port as it is."""
    return port


class LoadBalancers:
    """The programs of all load balancers, which a thread keeps as the records say."""

    has_programs = True

    def __init__(self, name: str, folder: Path, lock: RLock, target_at: AddressOf | None = None,
                 port_of: Callable[[int], int] = itself, clocks: Clocks = Clocks()) -> None:
        """Follow the records, which a thread reads while it holds `lock`.

        `target_at` returns the address of an instance's port, by default that of its machine. `port_of` returns the
        port of this host for one of a listener, so that a test without root can use others than 80 and 443.
        """
        self._folder = folder / BALANCERS
        self._lock = lock
        self._target_at = target_at or self._machine
        self._port_of = port_of
        self._claims = Claims(name)
        self._running: dict[str, LoadBalancer] = {}
        self._failures: dict[str, str] = {}
        self._changed, self._ended = Event(), Event()
        self._checks = HealthChecks(clocks.real, self._ended)
        self._published = Published(lock, clocks)
        self._thread = Thread(target=self._run, name='load-balancers', daemon=True)
        # All requests so far, the oldest first.
        self.requests: deque[Request] = deque(maxlen=KEPT)

    def start(self) -> None:
        """Remove the remains of a server that was killed, and follow the records from now on."""
        end_load_balancers(self._folder)
        self._thread.start()

    def stop(self) -> None:
        """End all programs, and delete their files."""
        self._ended.set()
        self._changed.set()
        self._thread.join()
        self._checks.close()
        for arn in list(self._running):
            self._remove(arn)
        self._claims.close()

    def changed(self) -> None:
        """Let the thread look at the records now."""
        self._changed.set()

    def address_of(self, balancer: str) -> str:
        """Return a loopback address of a load balancer's own."""
        return self._claims.address_of(balancer)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._changed.wait(SECONDS_BETWEEN_LOOKS)
            self._changed.clear()
            if not self._ended.is_set():
                try:
                    self._look()
                except Exception:
                    logger.exception('the load balancers cannot follow their records')

    def _look(self) -> None:
        plans: dict[str, Plan | None] = {}
        checks: dict[tuple[str, str], Check] = {}
        with self._lock:
            for backend in list(elbv2_backends[ACCOUNT].values()):
                for balancer in list(backend.load_balancers.values()):
                    plans[balancer.arn] = self._attempt(balancer.arn, lambda: plan_of(backend, balancer))
                for group in list(backend.target_groups.values()):
                    leave_terminated(backend, group)
                    checks.update(self._checks_of(backend, group))
        for arn in self._running.keys() - plans.keys():
            self._remove(arn)
        for arn, plan in plans.items():
            if plan:
                self._follow(arn, plan)
        self._checks.follow(checks)
        self._published.publish()

    def _follow(self, arn: str, plan: Plan) -> None:
        if arn not in self._running:
            self._running[arn] = LoadBalancer(
                self._folder / arn.rpartition('/')[2], self.address_of(arn), self._port_of,
                lambda request: self._answered(arn, request))
        balancer = self._running[arn]
        self._attempt(arn, lambda: balancer.follow(
            plan, lambda instance, port: '{}:{}'.format(*self._target_at(instance, port))))

    def _attempt(self, arn: str, act: Callable[[], Answer]) -> Answer | None:
        """Act for one load balancer, whose failure must not stop the others, and log each new failure."""
        try:
            answer = act()
        except Exception as error:
            if self._failures.get(arn) != str(error):
                logger.exception('load balancer %s cannot follow its records', arn)
            self._failures[arn] = str(error)
            return None
        self._failures.pop(arn, None)
        return answer

    def _remove(self, arn: str) -> None:
        self._running.pop(arn).close()
        self._claims.release(arn)
        self._published.forget(arn)

    def _answered(self, arn: str, request: Request) -> None:
        self.requests.append(request)
        self._published.add(arn, request)

    def _checks_of(self, backend: Any, group: Any) -> dict[tuple[str, str], Check]:
        checks = {}
        for instance, target in group.targets.items():
            if health_of(backend, group, instance).state in CHECKED and group.health_check_enabled:
                port = target['Port'] if group.health_check_port == 'traffic-port' else group.health_check_port
                host, port = self._target_at(instance, int(port))
                checks[group.arn, instance] = Check(
                    host, port, group.health_check_path or '/', group.matcher['HttpCode'],
                    float(group.health_check_interval_seconds), float(group.health_check_timeout_seconds),
                    self._result_of(backend, group, instance))
        return checks

    def _result_of(self, backend: Any, group: Any, instance: str) -> Callable[[Failure | None], None]:
        def note(failure: Failure | None) -> None:
            with self._lock:
                if instance not in group.targets:
                    return
                checked = targets_of(group).checked
                before = checked.get(instance, NEW)
                checked[instance] = step(before, failure, int(group.healthy_threshold_count),
                                         int(group.unhealthy_threshold_count))
                if checked[instance].state != before.state:
                    logger.info('target %s of %s is %s', instance, group.name, checked[instance].state)
                    self._changed.set()
        return note

    @staticmethod
    def _machine(instance: str, port: int) -> tuple[str, int]:
        return private_address(instance), port


def private_address(instance: str) -> str:
    """Return the private address of an instance."""
    for backend in list(elbv2_backends[ACCOUNT].values()):
        found = backend.ec2_backend.get_instance_by_id(instance)
        if found:
            return str(found.private_ip)
    raise LookupError(f'{instance} is unknown')


def leave_terminated(backend: Any, group: Any) -> None:
    """Deregister terminated instances, also those that ended by themselves."""
    gone = []
    for target in group.targets:
        instance = backend.ec2_backend.get_instance_by_id(target)
        if instance is None or instance.state in GONE:
            gone.append({'Id': target})
    if gone:
        group.deregister(gone)
    targets = targets_of(group)
    for target in list(targets.draining_until):
        if health_of(backend, group, target).state != DRAINING:
            del targets.draining_until[target]
