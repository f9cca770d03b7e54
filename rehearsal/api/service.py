"""The API of one rehearsal: moto's application with its extensions, gaps and faults."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, ExitStack
import dataclasses
from ipaddress import IPv4Network
from threading import RLock
from typing import Any

from moto import settings
from moto.autoscaling.models import autoscaling_backends
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.iam import models
from moto.moto_server.werkzeug_app import create_backend_app, DomainDispatcherApplication
from moto.route53.models import route53_backends

from rehearsal.api.alarms.evaluator import Evaluator
from rehearsal.api.database_servers import DatabaseRecords, DatabaseServers
from rehearsal.api.deliveries import Delivery
from rehearsal.api.extensions import EXTENSIONS
from rehearsal.api.fleet import Fleet
from rehearsal.api.gaps import Gaps
from rehearsal.api.group_metrics import GroupMetrics
from rehearsal.api.groups.controller import Controller
from rehearsal.api.groups.refreshes import replacements
from rehearsal.api.groups.scaling import Scaling
from rehearsal.api.health_checks.checker import Checker
from rehearsal.api.load_balancers import LoadBalancers, Records
from rehearsal.api.parts import Parts
from rehearsal.api.patching import install, replace
from rehearsal.api.permissions.enforcement import Permissions
from rehearsal.api.source_ami import register, SourceAmi
from rehearsal.authority import Authority
from rehearsal.clocks import Clocks
from rehearsal.errors import RehearsalError
from rehearsal.faults import Faults
from rehearsal.names.sources import address_of
from rehearsal.settings import ACCOUNT

# EC2 refuses unknown AMIs, key pairs and instance types, and moto's own AMIs have no machines.
SETTINGS = {'ACM_VALIDATION_WAIT': 1, 'ENABLE_AMI_VALIDATION': True, 'ENABLE_KEYPAIR_VALIDATION': True,
            'EC2_ENABLE_INSTANCE_TYPE_VALIDATION': True, 'ec2_load_default_amis': lambda: False}
KEPT = 10_000


class Api:
    """The API of a rehearsal: an application for a server.

    One call at a time reads or changes moto's records, because AWS's operations are atomic and moto's are not: of two
    concurrent revocations of rules, for example, one undoes the other.
    """

    def __init__(self, with_managed_policies: bool = True) -> None:
        """Make the application; without AWS's managed policies a reset takes milliseconds instead of half a second."""
        if DEFAULT_ACCOUNT_ID != ACCOUNT:
            raise RehearsalError(f'moto has the account {DEFAULT_ACCOUNT_ID}: unset MOTO_ACCOUNT_ID')
        self._ended = ExitStack()
        for name, value in SETTINGS.items():
            replace(settings, name, value, self._ended)
        replace(models, 'load_iam_aws_managed_policies', lambda: with_managed_policies, self._ended)
        self.lock = RLock()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._source: SourceAmi | None = None
        self.deliveries: deque[Delivery] = deque(maxlen=KEPT)
        self.gaps = Gaps(self._one_at_a_time)
        self.permissions = Permissions(self.gaps, self.lock)
        self.faults = Faults(self.permissions)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one call."""
        return self.faults(environ, start_response)

    def extend(self, fleet: Fleet, source: SourceAmi, region: str, authority: Authority,
               default_block: IPv4Network | None = None, load_balancers: LoadBalancers | None = None,
               databases: DatabaseServers | None = None, clocks: Clocks = Clocks()) -> None:
        """Extend moto, put a fleet, load balancers and databases behind the records, and control them."""
        groups = Controller(groups_of_account, self.lock, clocks.real, clocks.paced)
        alarms = Evaluator(alarm_backends, self.lock, clocks)
        scaling = Scaling(clocks)
        alarms.performers['autoscaling'] = scaling.perform
        groups.observers += [scaling.keep_schedule, GroupMetrics(clocks).record]
        self._parts = Parts(region, fleet, groups, authority, load_balancers or Records(),
                            databases or DatabaseRecords(), alarms, self.deliveries, default_block, clocks)
        self._ended.callback(install(EXTENSIONS, self._parts))
        self._source, self._region = source, region
        register(ec2_backends[ACCOUNT][region], source)
        groups.replacements = replacements
        checker = Checker(health_checks, self.lock, clocks, address_of)
        for controller in (groups, alarms, checker):
            controller.start()
            self._ended.callback(controller.stop)
        self._groups, self._checker, self.alarms = groups, checker, alarms

    def look(self) -> None:
        """Look at each group once, and at the health checks and alarms that are due."""
        for group in groups_of_account():
            self._groups.look(group)
        self._checker.look()
        self.alarms.look()

    def when_alone(self, change: Callable[[], None]) -> None:
        """Change moto's records while no call reads or changes them."""
        with self.lock:
            change()

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The requests to load balancers so far, the oldest first."""
        return [dataclasses.asdict(request) for request in list(self._parts.load_balancers.requests)]

    @contextmanager
    def balanced_by(self, load_balancers: LoadBalancers, clocks: Clocks) -> Iterator[None]:
        """Put other load balancers and clocks behind the records for the time of the block."""
        with ExitStack() as undo:
            parts = dataclasses.replace(self._parts, load_balancers=load_balancers, clocks=clocks)
            for extension in EXTENSIONS:
                replace(extension.extends, 'rehearsal', parts, undo)
            yield

    def close(self) -> None:
        """Forget all records, stop the control of groups, and restore moto."""
        self.reset()
        self._ended.close()

    def reset(self) -> None:
        """Forget all records but the source AMI, all faults, calls, gaps and deliveries; machines keep running."""
        self.faults.clear()
        with self.lock:
            BackendDict.reset()
            reset_model_data()
            self.gaps.calls.clear()
            self.deliveries.clear()
            self.permissions.uses.clear()
            if self._source:
                register(ec2_backends[ACCOUNT][self._region], self._source)

    def _one_at_a_time(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self.lock:
            return self._moto(environ, start_response)


def groups_of_account() -> list[Any]:
    """Return the groups of all regions."""
    return [group for backend in list(autoscaling_backends[ACCOUNT].values())
            for group in list(backend.autoscaling_groups.values())]


def alarm_backends() -> list[Any]:
    """Return the backends of CloudWatch of all regions in use."""
    return list(cloudwatch_backends[ACCOUNT].values())


def health_checks() -> list[tuple[str, Any]]:
    """Return all health checks of Route 53, each with its account."""
    return [(ACCOUNT, check) for backend in list(route53_backends[ACCOUNT].values())
            for check in backend.list_health_checks()]
