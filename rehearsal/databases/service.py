"""The database servers of a rehearsal, and the thread of each that carries out the orders for it."""

from collections.abc import Callable, Collection
from ipaddress import IPv4Network
import logging
from pathlib import Path
from queue import SimpleQueue
import shutil
from threading import Event, Lock, Thread
from typing import Any

import psycopg2

from rehearsal.api.database_records import AVAILABLE, DatabaseRecord, FAILED, key_of, STOPPED
from rehearsal.api.database_servers import Done
from rehearsal.authority import Authority
from rehearsal.clocks import Clocks
from rehearsal.databases.configuration import (access_rules, default_parameters, FORCE_SSL, has_pending, in_force,
                                               Parameter, Parameters)
from rehearsal.databases.ldap import Directory
from rehearsal.databases.postgresql import find_programs, first_statements, new_password, Server, Stop
from rehearsal.databases.sweep import end_servers
from rehearsal.databases.tokens import Allows, refusal, Secrets, signer_of
from rehearsal.errors import RehearsalError
from rehearsal.naming import short_hash

# https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_Parameter.html
IMMEDIATE = 'immediate'
ALGORITHM = 'EC_prime256v1'
# A failover takes 60 to 120 seconds at AWS's pace.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.MultiAZSingleStandby.html
FAILOVER_SECONDS = 60
# RDS sends its metrics each minute of AWS's pace.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/monitoring-cloudwatch.html
METRIC_SECONDS = 60
logger = logging.getLogger(__name__)

# The address of the servers of a VPC, on a network that exists from then on.
PlaceOf = Callable[[IPv4Network], str]
Alone = Callable[[Callable[[], None]], None]


class Databases:
    """The servers of one rehearsal, each below a folder that all users may enter."""

    are_real = True

    def __init__(self, folder: Path, authority: Authority, address_in: PlaceOf, secrets: Secrets,
                 allows: Allows, when_alone: Alone, clocks: Clocks) -> None:
        """Answer logins by IAM token from now on."""
        self._folder = folder
        self._authority = authority
        self._address_in = address_in
        self._secrets = secrets
        self._allows = allows
        self._when_alone = when_alone
        self._clocks = clocks
        self._operators: dict[str, Operator] = {}
        self._ended = Event()
        self._starting = Lock()
        self._directory = Directory(self._is_valid)
        self._meter = Thread(target=self._measure, name='metrics of databases', daemon=True)
        self._meter.start()

    def close(self) -> None:
        """End all servers, and start no other one."""
        with self._starting:
            self._ended.set()
        end_servers(self._folder)
        for operator in list(self._operators.values()):
            operator.end()
        self._meter.join()
        self._directory.close()

    def create(self, database: Any, snapshot: str | None) -> None:
        """Order a server for a new database; raise RehearsalError if it gets no server."""
        record = DatabaseRecord(database, self._when_alone)
        address = self._address_in(record.block)
        for other in self._operators.values():
            if (other.server.address, other.server.port) == (address, record.port):
                raise RehearsalError(f'{other.record.identifier} has port {record.port} of {address} already: '
                                     'the databases of a VPC share an address, so choose another port')
        self._folder.mkdir(mode=0o711, exist_ok=True)
        for folder in (self._folder, self._folder.parent, self._folder.parent.parent):
            folder.chmod(0o711)  # the user of the servers enters them, and lists none of them
        programs = find_programs(record.major)
        server = Server(self._folder / record.key, programs, address, record.port)
        operator = Operator(record, server, self)
        self._operators[record.key] = operator
        operator.order('creating', lambda: operator.create(parameters_of(database, programs.major),
                                                           self._snapshot(snapshot) if snapshot else None))

    def modify(self, database: Any) -> None:
        """Order that an association with another parameter group is noticed."""
        operator = self._of(database)
        wanted = parameters_of(database, operator.server.programs.major)
        operator.order('modifying', lambda: operator.follow(wanted, ()))

    def change_parameters(self, database: Any, changed: Collection[str]) -> None:
        """Order that a server follows some parameters of its group."""
        operator = self._of(database)
        wanted = parameters_of(database, operator.server.programs.major)
        operator.order(operator.record.status, lambda: operator.follow(wanted, changed))

    def set_password(self, database: Any, password: str, done: Done) -> None:
        """Order a new password of the master."""
        operator = self._of(database)
        operator.order('resetting-master-credentials', lambda: operator.set_password(password, done))

    def reboot(self, database: Any, fails_over: bool) -> None:
        """Order that a server is started again, with an outage if it fails over."""
        operator = self._of(database)
        wanted = parameters_of(database, operator.server.programs.major)
        operator.order('rebooting', lambda: operator.reboot(wanted, fails_over))

    def stop(self, database: Any) -> None:
        """Order that a server is stopped."""
        operator = self._of(database)
        operator.order('stopping', operator.stop)

    def start(self, database: Any) -> None:
        """Order that a stopped server is started."""
        operator = self._of(database)
        wanted = parameters_of(database, operator.server.programs.major)
        operator.order('starting', lambda: operator.start(wanted))

    def delete(self, database: Any, snapshot: str | None, done: Done) -> None:
        """Order that a server is removed, after a final snapshot if that has a name."""
        operator = self._of(database)

        def finish() -> None:
            del self._operators[operator.record.key]
            done()

        operator.order('deleting', lambda: operator.delete(self._snapshot(snapshot) if snapshot else None, finish))

    def take_snapshot(self, database: Any, snapshot: Any, place: str) -> None:
        """Order a copy of a server's data."""
        operator, snapshot.status = self._of(database), 'creating'
        target = self._snapshot(place)

        def copy() -> None:
            operator.server.copy(target)
            snapshot.status = AVAILABLE

        operator.order('backing-up', copy)

    def has_snapshot(self, snapshot: str) -> bool:
        """Return whether there is a copy of this name."""
        return self._snapshot(snapshot).exists()

    def forget_snapshot(self, snapshot: str) -> None:
        """Delete a copy."""
        shutil.rmtree(self._snapshot(snapshot), ignore_errors=True)

    def is_pending(self, database: Any) -> bool:
        """Return whether a reboot would change a parameter of a database."""
        return self._of(database).is_pending

    def certify(self, record: DatabaseRecord, server: Server) -> None:
        """Give a new server its certificate."""
        server.certify(self._authority.issue([record.host], ALGORITHM), self._authority.certificate)

    def configure(self, record: DatabaseRecord, server: Server, parameters: Parameters) -> None:
        """Write the configuration of a server."""
        is_forced = FORCE_SSL in parameters and parameters[FORCE_SSL].value == '1'
        rules = access_rules(record.master, is_forced, self._directory.port, record.key)
        ignored = server.configure(rules, parameters)
        if ignored:
            logger.warning('%s: parameters without effect: %s', record.identifier, ', '.join(ignored))

    def start_server(self, server: Server) -> None:
        """Start a server, unless the rehearsal ends."""
        with self._starting:
            if self._ended.is_set():
                raise RehearsalError('the rehearsal ends')
            server.start()

    def wait_for_failover(self) -> None:
        """Wait as long as a standby needs to take over."""
        self._ended.wait(self._clocks.real_seconds(FAILOVER_SECONDS))

    @property
    def has_ended(self) -> bool:
        """Whether all servers have been ended."""
        return self._ended.is_set()

    def _measure(self) -> None:
        """Send metrics of all running servers until the rehearsal ends."""
        while not self._ended.wait(self._clocks.real_seconds(METRIC_SECONDS)):
            for operator in list(self._operators.values()):
                try:
                    operator.measure()
                except psycopg2.Error as error:  # as long as a server starts, or is down
                    logger.info('%s has no metrics: %s', operator.record.identifier, error)

    def _is_valid(self, name: str, token: str) -> bool:
        """Return whether a token is valid for the user of a database, as `KEY/USER`."""
        key, _, user = name.partition('/')
        operator = self._operators.get(key)
        if not operator:
            return False
        record = operator.record
        reason = 'IAM authentication is disabled' if not record.takes_tokens else refusal(
            token, user, f'{record.host}:{record.port}', record.region, self._secrets, self._clocks.calendar())
        if not reason and not self._allows(*signer_of(token), 'rds-db:connect', record.user_arn(user)):
            reason = 'IAM does not allow rds-db:connect'
        if reason:
            logger.info('%s: the token of %s is refused: %s', record.identifier, user, reason)
        return not reason

    def _snapshot(self, name: str) -> Path:
        return self._folder / 'snapshots' / short_hash(name)

    def _of(self, database: Any) -> 'Operator':
        return self._operators[key_of(database)]


class Operator:
    """The thread that carries out the orders for one server, and starts the server again if it ends by itself."""

    def __init__(self, record: DatabaseRecord, server: Server, service: Databases) -> None:
        """Start the thread."""
        self.record = record
        self.server = server
        self.is_pending = False
        self._service = service
        self._parameters: dict[str, Parameter] = {}
        self._orders: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._is_gone = False
        self._is_on = False
        self._has_failed = False
        self._starts = 0
        self._thread = Thread(target=self._obey, name=record.identifier, daemon=True)
        self._thread.start()

    def order(self, status: str, act: Callable[[], None]) -> None:
        """Add an order, which gives the database a status until it is carried out."""
        self.record.status = status
        self._orders.put(lambda: self._carry_out(act))

    def end(self) -> None:
        """End the thread after the order that it carries out."""
        self._is_gone = True
        self._orders.put(lambda: None)
        self._thread.join()

    def create(self, wanted: Parameters, snapshot: Path | None) -> None:
        """Make and start the server."""
        self.server.make(snapshot)
        self._service.certify(self.record, self.server)
        self._start(wanted)
        if snapshot:
            self.server.execute([new_password(self.record.master, self.record.password)])
        else:
            self.server.execute(first_statements(self.server.programs.major, self.record.master, self.record.password,
                                                 self.record.name))
        self.record.available_at(self.server.address)

    def follow(self, wanted: Parameters, changed: Collection[str]) -> None:
        """Put changed parameters into force as far as no reboot is needed."""
        self._parameters = in_force(wanted, self._parameters, changed, self.server.programs.contexts)
        self.is_pending = has_pending(wanted, self._parameters)
        if changed and self._is_on:
            self._service.configure(self.record, self.server, self._parameters)
            self.server.reload()

    def set_password(self, password: str, done: Done) -> None:
        """Change the password of the master."""
        self.server.execute([new_password(self.record.master, password)])
        self.record.finish(done)

    def reboot(self, wanted: Parameters, fails_over: bool) -> None:
        """Start the server again."""
        self._stop(Stop.IMMEDIATE if fails_over else Stop.FAST)
        if fails_over:
            self.record.add_event('DB_INSTANCE_FAILOVER_START')
            self._service.wait_for_failover()
            self.record.swap_zones()
        self._start(wanted)
        self.record.add_event('DB_INSTANCE_FAILOVER_FINISH' if fails_over else 'DB_INSTANCE_RESTART')

    def start(self, wanted: Parameters) -> None:
        """Start the stopped server."""
        self._start(wanted)
        self.record.add_event('DB_INSTANCE_START')

    def stop(self) -> None:
        """Stop the server."""
        self._stop(Stop.FAST)
        self.record.add_event('DB_INSTANCE_STOP')

    def delete(self, snapshot: Path | None, done: Done) -> None:
        """Remove the server, and keep its data as a snapshot if that has a place."""
        self._stop(Stop.FAST)
        if snapshot:
            self.server.keep_data(snapshot)
        self.server.remove()
        self._is_gone = True
        self.record.add_event('DB_INSTANCE_DELETE')
        self.record.finish(done)

    def measure(self) -> None:
        """Send the metrics of the server if it runs."""
        if self._is_on:
            connections, used_bytes = self.server.usage()
            self.record.finish(lambda: self.record.add_metrics(connections, used_bytes))

    def _obey(self) -> None:
        while not self._is_gone:
            act = self._orders.get()
            act()
            if self._orders.empty() and not self._is_gone and not self._has_failed:
                self.record.status = AVAILABLE if self._is_on else STOPPED

    def _carry_out(self, act: Callable[[], None]) -> None:
        try:
            act()
            self._has_failed = False
        except Exception as error:
            if self._service.has_ended:
                return
            if not isinstance(error, RehearsalError):
                logger.exception('%s: an order failed', self.record.identifier)
            logger.error('%s: %s', self.record.identifier, error)
            self.record.status, self._has_failed = FAILED, True

    def _start(self, wanted: Parameters) -> None:
        self._parameters, self.is_pending = dict(wanted), False
        self._service.configure(self.record, self.server, self._parameters)
        self._service.start_server(self.server)
        self._is_on = True
        self._starts += 1
        Thread(target=self._watch, args=(self._starts,), daemon=True).start()

    def _stop(self, how: Stop) -> None:
        self._is_on = False
        self.server.stop(how)

    def _watch(self, start: int) -> None:
        exit_code = self.server.wait()
        self._orders.put(lambda: self._after_end(exit_code, start))

    def _after_end(self, exit_code: int, start: int) -> None:
        """Start a server again that ended without an order, as RDS does."""
        if not self._is_on or start != self._starts or self._service.has_ended:
            return
        logger.info('%s ended by itself with %s', self.record.identifier, exit_code)
        self.order('rebooting', self._restart)

    def _restart(self) -> None:
        self._start(self._parameters)
        self.record.add_event('DB_INSTANCE_RESTART')


def parameters_of(database: Any, major: int) -> dict[str, Parameter]:
    """Return the parameters of the group of a database, above those of the default group."""
    (group,) = database.db_parameter_groups()
    own = {name: Parameter(str(each['ParameterValue']), each.get('ApplyMethod', IMMEDIATE) == IMMEDIATE)
           for name, each in group.parameters.items() if each.get('ParameterValue') is not None}
    return {**default_parameters(major), **own}
