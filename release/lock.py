"""One bake of a key at a time, on any number of machines: a lease in the Parameter Store that the owner renews.

The lease of a key is the parameter of the highest number below its path. Only creating a parameter that does not exist
yet decides anything, because that is the one thing that the Parameter Store does for exactly one of several callers: a
waiter that finds the owner dead creates the next number. Ages are by AWS's clock, never by that of a machine.
docs/decisions/0009-lease-in-the-parameter-store.md tells what else was thought of.
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
from release.waiting import Deadline, never

PATH = '/visitors/bake'
RENEWAL_SECONDS = 20.0
LEASE_SECONDS = 90.0
POLL_SECONDS = 3.0
TAKEN = 'ParameterAlreadyExists'
GONE = 'ParameterNotFound'


class LeaseLost(ReleaseError):
    """Somebody else has taken the lease over, because this owner seemed dead."""


@dataclass(frozen=True)
class Lease:
    """Who may bake a key, as the Parameter Store has it, and how long ago that was renewed."""

    number: int
    run_id: str
    who: str
    age: float

    @property
    def is_alive(self) -> bool:
        """Whether its owner has renewed it in time."""
        return self.age < LEASE_SECONDS


class Lock:
    def __init__(self, aws: Aws, key: str, run_id: str, who: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Stand for the lock on the bakes of a key; nothing is taken yet."""
        self._aws = aws
        self._path = f'{PATH}/{key}'
        self._clock = clock
        self._value = json.dumps({'run': run_id, 'who': who})
        self._run_id = run_id
        self._number = 0
        self._renewed = 0.0
        self.dead: Lease | None = None

    @contextmanager
    def held(self, deadline: Deadline, progress: Progress, phase: str = 'take the lock',
             meanwhile: Callable[[], None] = never) -> Iterator['Lock']:
        """Hold the lock within the block, after having waited for whoever holds it now."""
        try:
            with progress.phase(phase):
                deadline.until(lambda: self._tried(progress), 'another bake of the same inputs to end',
                               every=POLL_SECONDS * random.uniform(0.7, 1.3), meanwhile=meanwhile)
            yield self
        finally:
            self._give_back_or_tell(progress)

    def _give_back_or_tell(self, progress: Progress) -> None:
        try:
            self.give_back()
        except ReleaseError as error:
            progress.note(f'the lock could not be given back, so others wait for it up to {LEASE_SECONDS:.0f} s: '
                          f'{error}')

    def _tried(self, progress: Progress) -> bool | None:
        holder = self._take(self._aws.once)
        if holder is None:
            return True
        progress.step(f'{holder.who} is baking the same; waiting for it')
        return None

    def take(self) -> Lease | None:
        """Take the lock, or return who has it."""
        return self._take(self._aws)

    def _take(self, aws: Aws) -> Lease | None:
        while True:
            leases = self._leases(aws)
            before = [lease for lease in leases if lease.run_id != self._run_id]
            top = leases[-1] if leases else None
            if top and top.run_id == self._run_id:  # created by a call whose answer was lost
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
        if newest and newest.number > number:  # others went on while this one was about to succeed somebody dead
            self.give_back()
            return newest
        self.dead = before[-1] if before else None
        return None

    def _create(self, aws: Aws, number: int) -> bool:
        try:
            aws.call('ssm', 'put_parameter', Name=self._name(number), Value=self._value, Type='String')
        except AwsFailed as error:
            if error.reason != TAKEN:
                raise
            return False
        return True

    def renew(self) -> None:
        """Tell, if that is due, that the owner is alive; raise LeaseLost if it was taken for dead."""
        if self._clock() - self._renewed < RENEWAL_SECONDS:
            return
        try:
            newest = self._top(self._aws.once)
            if not newest or newest.number != self._number:
                raise self._lost(newest.who if newest else 'somebody')
            self._write(self._aws.once, self._number)
        except AwsFailed:
            # What is away for a moment shall not cost a bake; by the end of the lease others may have begun.
            if self._clock() - self._renewed >= LEASE_SECONDS:
                raise self._lost('somebody') from None
        else:
            self._renewed = self._clock()

    def _write(self, aws: Aws, number: int) -> None:
        aws.call('ssm', 'put_parameter', Name=self._name(number), Value=self._value, Type='String', Overwrite=True)

    def _lost(self, who: str) -> LeaseLost:
        self._number = 0
        return LeaseLost(f'{who} may have taken over: this bake had not renewed its lease for {LEASE_SECONDS:.0f} s')

    def give_back(self) -> None:
        """Let others have the lock, if this one holds it; what dead owners have left goes first."""
        if not self._number:
            return
        number, self._number = self._number, 0
        for each in sorted({lease.number for lease in self._leases(self._aws) if lease.number < number} | {number}):
            try:
                self._aws.call('ssm', 'delete_parameter', Name=self._name(each))
            except AwsFailed as error:
                if error.reason != GONE:
                    raise

    def keep(self) -> None:
        """Neither renew the lock nor give it back: who takes it after the lease removes what its run has left."""
        self._number = 0

    def _top(self, aws: Aws) -> Lease | None:
        leases = self._leases(aws)
        return leases[-1] if leases else None

    def _leases(self, aws: Aws) -> list[Lease]:
        """Return the leases of the key, the valid one last."""
        found: list[Lease] = []
        more: dict[str, Any] = {}
        while True:
            answer = aws.call('ssm', 'get_parameters_by_path', Path=self._path, **more)
            found += [read(parameter, moment_of(answer)) for parameter in answer['Parameters']]
            if not answer.get('NextToken'):
                return sorted(found, key=lambda lease: lease.number)
            more = {'NextToken': answer['NextToken']}

    def _name(self, number: int) -> str:
        return f'{self._path}/{number}'


def read(parameter: dict[str, Any], now: datetime) -> Lease:
    """Return a lease from a parameter of the Parameter Store."""
    value = json.loads(parameter['Value'])
    age = (now - parameter['LastModifiedDate']).total_seconds()
    return Lease(int(parameter['Name'].rpartition('/')[2]), value['run'], value['who'], age)
