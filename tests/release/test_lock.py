"""The lock of an input hash: one owner at a time, on any number of machines, and a new one after its death."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
import signal
import time
from typing import Any

import pytest

from release import lock as lock_module
from release.aws import Aws
from release.errors import AwsFailed, TimedOut
from release.lock import Lease, LeaseLost, Lock
from release.progress import Progress, View
from release.waiting import Deadline
from tests.support.account import Account, REGION
from tests.support.checkout import Checkout, ended, PATIENCE, processes_with
from tests.support.waiting import eventually

INPUT_HASH = '0123456789abcdef'


class Clock:
    """A clock that only a test or a sleep moves."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self.now += seconds

    def __call__(self) -> float:
        """Return the seconds so far."""
        return self.now


@pytest.fixture
def aws(account: Account, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """Give the calls to the account of the test."""
    for name, value in account.environment.items():
        monkeypatch.setenv(name, value)
    return Aws({'AWS_REGION': REGION})


@pytest.fixture
def make(aws: Aws) -> Callable[..., Lock]:
    """Give a maker of locks on one input hash, each for a run of its own."""
    def made(run: str, clock: Callable[[], float] = time.monotonic) -> Lock:
        return Lock(aws, INPUT_HASH, run, f'user of {run}', clock)
    return made


def age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every lease too old."""
    monkeypatch.setattr(lock_module, 'LEASE_SECONDS', -1.0)


def test_a_second_run_gets_the_name_of_the_owner(make: Callable[..., Lock]) -> None:
    assert make('a').take() is None
    holder = make('b').take()
    assert holder and (holder.run_id, holder.owner) == ('a', 'user of a')


def test_a_released_lock_can_be_taken(make: Callable[..., Lock], account: Account) -> None:
    first, second = make('a'), make('b')
    first.take()
    first.release()
    assert second.take() is None
    assert second.dead is None
    second.release()
    assert not account.leftovers()


def test_a_new_owner_knows_the_dead_one(make: Callable[..., Lock], account: Account,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    make('a').take()
    heir = make('b')
    with monkeypatch.context() as later:
        age(later)
        assert heir.take() is None
    assert heir.dead and heir.dead.run_id == 'a'
    assert make('c').take(), 'the heir holds it now'
    heir.release()
    assert not account.leftovers(), 'the release of the heir deletes the lease of the dead owner too'


def test_an_owner_that_lost_its_lease_notices_at_its_next_renewal(make: Callable[..., Lock],
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    owner = make('a', clock)
    owner.take()
    with monkeypatch.context() as later:
        age(later)
        heir = make('b')
        heir.take()
    owner.renew()
    clock.now = lock_module.RENEWAL_SECONDS
    with pytest.raises(LeaseLost, match='user of b may have taken over'):
        owner.renew()
    owner.release()
    assert make('c').take(), 'the former owner must not release the lease of its successor'


def test_an_owner_that_renews_in_time_stays_the_owner(make: Callable[..., Lock], account: Account) -> None:
    clock = Clock()
    owner, other = make('a', clock), make('b')
    owner.take()
    for _ in range(3):
        # AWS says that more than half of the lease is over, and the owner's own clock does, too.
        account.age_parameters(0.6 * lock_module.LEASE_SECONDS)
        clock.now += 0.6 * lock_module.LEASE_SECONDS
        owner.renew()
        assert other.take(), 'taken from a living owner'
        time.sleep(0.3)


def test_exactly_one_of_many_succeeds_a_dead_owner(make: Callable[..., Lock],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    make('dead').take()
    read = lock_module.read

    def aged(parameter: dict[str, Any], now: datetime) -> Lease:
        lease = read(parameter, now)
        return replace(lease, age=lease.age + 2 * lock_module.LEASE_SECONDS) if lease.run_id == 'dead' else lease

    monkeypatch.setattr(lock_module, 'read', aged)
    locks = [make(f'heir-{number}') for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        holders = list(pool.map(lambda each: each.take(), locks))
    assert holders.count(None) == 1, holders


def test_exactly_one_of_many_becomes_the_first_owner(make: Callable[..., Lock]) -> None:
    locks = [make(f'run-{number}') for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        holders = list(pool.map(lambda each: each.take(), locks))
    assert holders.count(None) == 1, holders


def test_a_short_outage_of_aws_does_not_cost_the_lease(make: Callable[..., Lock],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    owner = make('a', clock)
    owner.take()

    def unavailable(*arguments: object, **named: object) -> None:
        raise AwsFailed('unavailable')

    monkeypatch.setattr(Aws, 'call', unavailable)
    clock.now = lock_module.RENEWAL_SECONDS + 1
    owner.renew()
    clock.now = lock_module.LEASE_SECONDS
    with pytest.raises(LeaseLost):
        owner.renew()


def test_a_waiter_takes_the_lock_when_its_owner_releases_it(make: Callable[..., Lock],
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, 'POLL_SECONDS', 0.1)
    owner, waiter = make('a'), make('b')
    owner.take()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(held_once, waiter)
        time.sleep(1)
        assert not waiting.done()
        owner.release()
        assert waiting.result(100) == 'held'


def held_once(lock: Lock) -> str:
    """Hold the lock once."""
    with lock.held(Deadline(100), Progress(View())):
        return 'held'


def test_a_wait_renews_the_lease_that_its_deadline_polls(make: Callable[..., Lock], account: Account) -> None:
    clock = Clock()
    owner = make('a', clock)
    owner.take()
    deadline = Deadline(300, clock=clock, sleep=clock.sleep).polling(owner.renew)
    with pytest.raises(TimedOut):
        deadline.within(200).until(lambda: None, 'nothing', every=30)
    assert renewals(account) == [200 // lock_module.RENEWAL_SECONDS]


def renewals(account: Account) -> list[float]:
    """Return how often each lease was renewed."""
    ssm = account.client('ssm')
    leases = ssm.get_parameters_by_path(Path=lock_module.PATH, Recursive=True)['Parameters']
    return [lease['Version'] - 1 for lease in leases]


@pytest.mark.packer
@pytest.mark.parametrize(('amis', 'phase', 'locks'), [
    ('pending', 'Waiting for AMI to become ready', 2), ('available', 'self-test: booting', 1),
])
def test_a_bake_renews_its_leases_while_it_waits(account: Account, tmp_path: Path, amis: str, phase: str,
                                                 locks: int) -> None:
    checkout = Checkout(tmp_path, account)
    account.keep_new_amis(amis)
    account.say('booting\n')
    bake = checkout.start('bake', '--archive', str(checkout.archive))
    wait_for(bake, phase)
    before = renewals(account)
    assert len(before) == locks
    eventually(lambda: min(now - then for now, then in zip(renewals(account), before)) >= 2,
               'two renewals of each lease')
    bake.send_signal(signal.SIGTERM)
    assert ended(bake).code == 143
    assert not account.leftovers()


@pytest.mark.packer
def test_two_bakes_of_the_same_inputs_at_once_bake_them_once(account: Account, tmp_path: Path) -> None:
    one = Checkout(tmp_path, account)
    (tmp_path / 'other').mkdir()
    other = one.clone(tmp_path / 'other')
    both = [each.start('bake', '--archive', str(one.archive)) for each in (one, other)]
    first, second = (ended(process) for process in both)
    assert (first.code, second.code) == (0, 0), (first, second)
    assert first.out == second.out
    assert sorted([one.report['baked'], other.report['baked']]) == [[], ['base', 'app']]
    assert 'is baking the same inputs; waiting for it' in first.err + second.err
    assert (len(account.images(Stage='base')), len(account.images(Stage='app'))) == (1, 1)
    assert not account.leftovers()


@pytest.mark.packer
def test_a_waiter_bakes_when_the_owner_is_killed(account: Account, tmp_path: Path) -> None:
    one = Checkout(tmp_path, account)
    one.patience = {**PATIENCE, 'release.lock.LEASE_SECONDS': 10.0}
    (tmp_path / 'other').mkdir()
    other = one.clone(tmp_path / 'other')
    account.keep_new_amis('pending')
    owner = one.start('bake', '--archive', str(one.archive))
    wait_for(owner, 'Waiting for AMI to become ready')
    waiter = other.start('bake', '--archive', str(one.archive))
    wait_for(waiter, 'is baking the same inputs; waiting for it')
    owner.send_signal(signal.SIGKILL)
    ended(owner)
    account.keep_new_amis('available')
    result = ended(waiter)
    assert result.code == 0, result
    assert 'died while it baked the same inputs; removing its leftovers' in result.err
    assert other.report['baked'] == ['base', 'app']
    assert (len(account.images(Stage='base')), len(account.images(Stage='app'))) == (1, 1)
    assert not account.leftovers()
    assert not processes_with(str(one.root)), 'the Packer of the killed bake still runs'


def wait_for(process: object, text: str) -> None:
    """Return as soon as a process prints a text."""
    lines = getattr(process, 'stderr')
    assert any(text in line for line in lines), f'never printed: {text}'


def test_a_run_takes_its_own_lease_again_when_the_answer_was_lost(make: Callable[..., Lock],
                                                                  account: Account) -> None:
    assert make('a').take() is None  # as if the answer were lost: the lease exists, and its owner does not know
    again = make('a')
    assert again.take() is None
    assert again.dead is None, 'a run would remove its own instances'
    again.release()
    assert not account.leftovers()
