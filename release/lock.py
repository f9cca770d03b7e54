"""The lock that serialises bakes of one input hash: a lease in the Parameter Store that its owner renews.

The valid lease is the parameter with the highest number below the path of the input hash. Only the creation of a new
parameter decides, because the Parameter Store lets exactly one of several callers create it: a waiter that finds the
owner dead creates the next number. Ages are by AWS's clock, never by a machine's own.
docs/decisions/0009-lease-in-the-parameter-store.md lists the alternatives.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
import json
import random
import time
from typing import Any

from release.aws import Aws, moment_of
from release.errors import AwsFailed, ReleaseError
from release.progress import Progress
from release.waiting import Deadline

PATH = '/visitors/bake'
RENEWAL_SECONDS = 20.0
LEASE_SECONDS = 90.0
POLL_SECONDS = 3.0
TAKEN = 'ParameterAlreadyExists'
GONE = 'ParameterNotFound'


class LeaseLost(ReleaseError):
    """Another bake took the lease over, because this owner appeared dead."""


@dataclass(frozen=True)
class Lease:
    """A lease as the Parameter Store holds it: its owner, and the seconds since its last renewal."""

    number: int
    run_id: str
    owner: str
    age: float

    @property
    def is_alive(self) -> bool:
        """Whether its owner renewed it in time."""
        return self.age < LEASE_SECONDS


class Lock:
    """The lock on the bakes of one input hash, for one run."""

    def __init__(self, aws: Aws, input_hash: str, run_id: str, owner: str,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare the lock without taking it."""
        self._aws = aws
        self._path = f'{PATH}/{input_hash}'
        self._clock = clock
        self._value = json.dumps({'run': run_id, 'who': owner})
        self._run_id = run_id
        self._number = 0
        self._renewed = 0.0
        self.dead: Lease | None = None

    @contextmanager
    def held(self, deadline: Deadline, progress: Progress, phase: str = 'take the lock') -> Iterator['Lock']:
        """Hold the lock within the block, after waiting for its current owner."""
        try:
            with progress.phase(phase):
                deadline.until(lambda: self._attempt(progress), 'the end of another bake of the same inputs',
                               every=POLL_SECONDS * random.uniform(0.7, 1.3))
            yield self
        finally:
            self._release_or_report(progress)

    def _release_or_report(self, progress: Progress) -> None:
        try:
            self.release()
        except ReleaseError as error:
            progress.note(f'cannot release the lock, so others wait for it up to {LEASE_SECONDS:.0f} s: {error}')

    def _attempt(self, progress: Progress) -> bool | None:
        holder = self._take(self._aws.once)
        if holder is None:
            return True
        progress.step(f'{holder.owner} is baking the same inputs; waiting for it')
        return None

    def take(self) -> Lease | None:
        """Take the lock, or return the lease of its current owner."""
        return self._take(self._aws)

    def _take(self, aws: Aws) -> Lease | None:
        while True:
            leases = self._leases(aws)
            others = [lease for lease in leases if lease.run_id != self._run_id]
            top = leases[-1] if leases else None
            if top and top.run_id == self._run_id:  # an earlier call created it, and its answer was lost
                number = top.number
                self._write(aws, number)
                break
            if top and top.is_alive:
                return top

            number = top.number + 1 if top else 1
            if self._create(aws, number):
                break
        self._number, self._renewed = number, self._clock()

        newest = self._top(aws)
        if newest and newest.number > number:  # another waiter succeeded the dead owner before this one did
            self.release()
            return newest
        self.dead = others[-1] if others else None
        return None

    def _create(self, aws: Aws, number: int) -> bool:
        try:
            aws.call('ssm', 'put_parameter', Name=self._name(number), Value=self._value, Type='String')
        except AwsFailed as error:
            if error.code != TAKEN:
                raise
            return False
        return True

    def renew(self) -> None:
        """Renew the lease if that is due; raise LeaseLost if another run holds the lock now."""
        if self._clock() - self._renewed < RENEWAL_SECONDS:
            return
        try:
            newest = self._top(self._aws.once)
            if not newest or newest.number != self._number:
                raise self._lost(newest.owner if newest else 'another bake')
            self._write(self._aws.once, self._number)
        except AwsFailed:
            # A short outage must not cost a bake; after the end of the lease another bake may have started.
            if self._clock() - self._renewed >= LEASE_SECONDS:
                raise self._lost('another bake') from None
        else:
            self._renewed = self._clock()

    def _write(self, aws: Aws, number: int) -> None:
        aws.call('ssm', 'put_parameter', Name=self._name(number), Value=self._value, Type='String', Overwrite=True)

    def _lost(self, owner: str) -> LeaseLost:
        self._number = 0
        return LeaseLost(f'{owner} may have taken over: this bake did not renew its lease for {LEASE_SECONDS:.0f} s')

    def release(self) -> None:
        """Release the lock if this run holds it; the leases of dead owners are deleted first."""
        if not self._number:
            return
        number, self._number = self._number, 0
        for each in sorted({lease.number for lease in self._leases(self._aws) if lease.number < number} | {number}):
            try:
                self._aws.call('ssm', 'delete_parameter', Name=self._name(each))
            except AwsFailed as error:
                if error.code != GONE:
                    raise

    def abandon(self) -> None:
        """Neither renew nor release the lock: the next owner, after the lease, removes this run's leftovers."""
        self._number = 0

    def _top(self, aws: Aws) -> Lease | None:
        leases = self._leases(aws)
        return leases[-1] if leases else None

    def _leases(self, aws: Aws) -> list[Lease]:
        """Return the leases of the input hash, the valid one last."""
        leases: list[Lease] = []
        page: dict[str, Any] = {}
        while True:
            answer = aws.call('ssm', 'get_parameters_by_path', Path=self._path, **page)
            leases += [read(parameter, moment_of(answer)) for parameter in answer['Parameters']]
            if not answer.get('NextToken'):
                return sorted(leases, key=lambda lease: lease.number)
            page = {'NextToken': answer['NextToken']}

    def _name(self, number: int) -> str:
        return f'{self._path}/{number}'


def living(aws: Aws) -> dict[str, str]:
    """Return the owner of each run that holds a lease which is alive, by the id of the run."""
    runs: dict[str, str] = {}
    page: dict[str, Any] = {}
    while True:
        answer = aws.call('ssm', 'get_parameters_by_path', Path=PATH, Recursive=True, **page)
        leases = [read(parameter, moment_of(answer)) for parameter in answer['Parameters']]
        runs |= {lease.run_id: lease.owner for lease in leases if lease.is_alive}
        if not answer.get('NextToken'):
            return runs
        page = {'NextToken': answer['NextToken']}


def read(parameter: dict[str, Any], now: datetime) -> Lease:
    """Return the lease that a parameter of the Parameter Store holds."""
    value = json.loads(parameter['Value'])
    age = (now - parameter['LastModifiedDate']).total_seconds()
    return Lease(int(parameter['Name'].rpartition('/')[2]), value['run'], value['who'], age)
