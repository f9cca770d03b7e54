"""A rehearsal without machines in the process of its user, for tests: it starts at once and is reset in milliseconds.

    with EmbeddedRehearsal() as aws:            # one for a whole test run: moto's records are the process's
        aws.reset()                             # before each test: no resource, no fault, no call is left
        aws.client('ec2').describe_instances()  # boto3
        aws.environment                         # for child processes
        aws.faults.refuse('GetParameter', times=2)      # rehearsal/faults.py lists all faults
        aws.records.state_of_new_amis = 'pending'       # of CreateImage and CopyImage from now on
        aws.permissions.uses                            # the decisions of IAM about calls of roles and users
        aws.say('SELFTEST PASSED {Version}')            # on all consoles; {TAG} is a tag of the instance's AMI
        with aws.metadata('i-0123456789abcdef0') as service:     # the metadata service of an instance
            service.endpoint, service.faults    # its URL, and faults of operations such as 'PUT /latest/api/token'
        aws.skip(3600)                          # an hour passes at once, by both clocks
        aws.look()                              # the controller has looked at each group, and alarms are evaluated
        aws.mail                                # the e-mails that topics sent
        with aws.load_balancers(address) as balancers:  # real ones, whose targets are where `address` says
            balancers.requests                  # all their requests so far
        aws.stop()                              # the API is unavailable, its records stay
        aws.start()                             # and answers again at the same port

Groups launch, wait for lifecycle hooks and terminate as in any rehearsal: within half a second, by a thread. AWS's
managed policies of IAM are missing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
import os
from pathlib import Path
import re
import socket
from tempfile import TemporaryDirectory
import time
from types import TracebackType
from typing import Any

import boto3
from moto.ec2.models import ec2_backends

from rehearsal.api.alarms.evaluator import Evaluator
from rehearsal.api.deliveries import mail
from rehearsal.api.fleet import Records
from rehearsal.api.service import Api
from rehearsal.api.source_ami import NO_IMAGE
from rehearsal.authority import Authority
from rehearsal.clocks import Clocks, utc_now
from rehearsal.control import Control
from rehearsal.errors import RehearsalError
from rehearsal.faults import Faults
from rehearsal.listeners import Listener, serve
from rehearsal.machines.load_balancers import AddressOf, itself, LoadBalancers
from rehearsal.machines.metadata.sources import service_of
from rehearsal.settings import ACCOUNT, client_options, sdk_environment, Settings

HOST = '127.0.0.1'


@dataclass(frozen=True)
class Metadata:
    """The metadata service of one instance: its URL, and its faults and calls."""

    endpoint: str
    faults: Faults


class EmbeddedRehearsal:
    """A rehearsal without machines that a thread of this process serves."""

    _present: 'EmbeddedRehearsal | None' = None

    def __init__(self) -> None:
        """Make the API; only one can be open in a process."""
        if EmbeddedRehearsal._present:
            raise RehearsalError("an embedded rehearsal is open: its records are this process's, so reset that one")
        self.region = Settings.region
        self.account = ACCOUNT
        self.source_ami = NO_IMAGE.ami
        self.records = Records(NO_IMAGE.ami)
        self._api = Api(with_managed_policies=False)
        self._skipped = 0.0
        self._clocks = Clocks(real=lambda: time.monotonic() + self._skipped,
                              calendar=lambda: utc_now() + timedelta(seconds=self._skipped))
        self._api.extend(self.records, NO_IMAGE, self.region, Authority('embedded'), clocks=self._clocks)
        self.faults = self._api.faults
        self.permissions = self._api.permissions
        self._port = 0
        self._listener: Listener | None = None
        # One session for all clients, because each reads the descriptions of its services, which takes long.
        self._session = boto3.Session()
        EmbeddedRehearsal._present = self
        self.start()

    def __enter__(self) -> 'EmbeddedRehearsal':
        """Return the rehearsal, which answers already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Stop answering, restore moto, and let another one be opened."""
        self.stop()
        self._api.close()
        EmbeddedRehearsal._present = None

    @property
    def endpoint(self) -> str:
        """The URL of the API."""
        return f'http://{HOST}:{self._port}'

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that point AWS's libraries to the API."""
        return sdk_environment(self.endpoint, self.region)

    @property
    def gaps(self) -> list[str]:
        """The missing actions that were called."""
        return self._api.gaps.calls

    @property
    def mail(self) -> list[dict[str, str]]:
        """The e-mails that topics sent, the oldest first."""
        return mail(self._api.deliveries)

    @property
    def alarms(self) -> Evaluator:
        """The evaluator of alarms, to which a program adds listeners."""
        return self._api.alarms

    @property
    def now(self) -> datetime:
        """The calendar time, which `skip` changes."""
        return self._clocks.calendar()

    def client(self, service: str, **options: Any) -> Any:
        """Return boto3's client of one service."""
        return self._session.client(service, **{**client_options(self.endpoint, self.region), **options})

    def say(self, text: str) -> None:
        """Show a text on all consoles; a tag's name in braces stands for that tag of the instance's AMI."""
        self.records.console_of = lambda instance: re.sub(
            r'\{(\w+)\}', lambda match: ami_tags(instance).get(match[1], ''), text)

    def skip(self, seconds: float) -> None:
        """Let some seconds pass at once, by both clocks."""
        self._skipped += seconds

    def look(self) -> None:
        """Look at each group once, now, and at the health checks and alarms that are due."""
        self._api.look()

    @contextmanager
    def metadata(self, instance: str) -> Iterator[Metadata]:
        """Give the metadata service of an instance at a port of the loopback, for the time of the block."""
        faults = Faults(service_of(ec2_backends[ACCOUNT][self.region].get_instance(instance)))
        listener = serve(faults, socket.create_server((HOST, 0), backlog=128))
        try:
            yield Metadata(f'http://{HOST}:{listener.server.port}', faults)
        finally:
            listener.close()

    @contextmanager
    def load_balancers(self, target_at: AddressOf, port_of: Callable[[int], int] = itself,
                       clocks: Clocks = Clocks()) -> Iterator[LoadBalancers]:
        """Give load balancers with programs for the time of the block.

        `target_at` returns the address of an instance's port, `port_of` the port of this host for a listener's.
        """
        with TemporaryDirectory(prefix='rehearsal-') as folder:
            balancers = LoadBalancers(f'embedded-{os.getpid()}', Path(folder), self._api.lock, target_at,
                                      port_of, clocks)
            with self._api.balanced_by(balancers, clocks):
                balancers.start()
                try:
                    yield balancers
                finally:
                    balancers.stop()

    def start(self) -> None:
        """Answer from now on."""
        if not self._listener:
            self._listener = serve(Control(self._api), socket.create_server((HOST, self._port), backlog=128))
            self._port = self._listener.server.port

    def stop(self) -> None:
        """Refuse connections from now on; the records stay."""
        if self._listener:
            self._listener.close()
            self._listener = None

    def reset(self) -> None:
        """Forget all resources but the source AMI, all faults, calls, gaps and consoles; answer if it was stopped."""
        self.records.reset()
        self._api.reset()
        self.start()


def ami_tags(instance: Any) -> dict[str, str]:
    """Return the tags of an instance's AMI."""
    ami = ec2_backends[ACCOUNT][instance.region_name].amis[instance.image_id]
    return {tag['key']: tag['value'] for tag in ami.get_tags()}
