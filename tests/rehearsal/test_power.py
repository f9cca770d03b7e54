"""The power of a machine: the order of its starts, stops and end, and the API's record of them."""

from collections.abc import Callable, Iterator
from queue import SimpleQueue
import time

import pytest

from rehearsal.errors import RehearsalError
from rehearsal.machines.power import After, after_end, Power, RESTARTED
from tests.support.waiting import eventually


class FakeMachine:
    """A machine that lists its orders."""

    def __init__(self, story: list[str], flaw: str = '') -> None:
        """List the orders in a story; the one named by the flaw fails."""
        self._story = story
        self._flaw = flaw
        self.ends: SimpleQueue[int] = SimpleQueue()

    def create(self) -> None:
        """List it."""
        self._do('create')

    def boot(self) -> Callable[[], int]:
        """List it."""
        self._do('boot')
        self.ends = SimpleQueue()  # the end of one boot does not end the next
        return self.ends.get

    def shut_down(self, seconds: int) -> None:
        """List it."""
        self._do(f'shut down within {seconds}')
        self.ends.put(130)

    def say(self, line: str) -> None:
        """List it."""
        self._do(f'say {line}')

    def remove(self) -> None:
        """List it."""
        self._do('remove')

    def _do(self, order: str) -> None:
        self._story.append(order)
        if order == self._flaw:
            raise RehearsalError('it leaks')


class FakeRecord:
    """A record that lists its changes."""

    def __init__(self, story: list[str], terminates_when_off: bool) -> None:
        """List the changes in a story."""
        self.id = 'i-1'
        self._story = story
        self.terminates_when_off = terminates_when_off

    def running(self) -> None:
        """List it."""
        self._story.append('is running')

    def stopped(self, by_itself: bool) -> None:
        """List it."""
        self._story.append('has stopped itself' if by_itself else 'is stopped')

    def terminated(self, by_itself: bool) -> None:
        """List it."""
        self._story.append('has terminated itself' if by_itself else 'is terminated')

    def not_launched(self, reason: str) -> None:
        """List it."""
        self._story.append(f'is not launched: {reason}')


class Case:
    """The power over a made-up machine, and the story of both."""

    def __init__(self, flaw: str = '', terminates_when_off: bool = False) -> None:
        """Start the power."""
        self.story: list[str] = []
        self.machine = FakeMachine(self.story, flaw)
        self.power = Power(FakeRecord(self.story, terminates_when_off), self.machine, patience=7)

    def expect(self, *story: str) -> None:
        """Fail unless this has happened, or does so soon, and nothing more."""
        eventually(lambda: len(self.story) >= len(story), f'{len(story)} things have happened')
        time.sleep(0.05)
        assert tuple(self.story) == story


@pytest.fixture
def case() -> Iterator[Case]:
    """Give power over a machine that is launched."""
    present = Case()
    present.power.launch()
    yield present
    present.power.terminate()


LAUNCHED = ('create', 'boot', 'is running')


def fail() -> None:
    raise RuntimeError('disk full')


@pytest.mark.parametrize(('exit_code', 'terminates', 'follows'), [
    (RESTARTED, False, After.BOOT), (RESTARTED, True, After.BOOT), (130, False, After.STOP),
    (130, True, After.TERMINATE), (0, False, After.STOP), (137, True, After.TERMINATE), (255, False, After.STOP)])
def test_the_exit_code_and_the_shutdown_behaviour_decide_the_consequence(exit_code: int, terminates: bool,
                                                                         follows: After) -> None:
    assert after_end(exit_code, terminates) is follows


def test_a_machine_is_made_before_it_boots_and_runs_only_then(case: Case) -> None:
    case.expect(*LAUNCHED)


def test_a_stopped_machine_can_be_started_again(case: Case) -> None:
    case.power.stop()
    case.power.start()
    case.expect(*LAUNCHED, 'shut down within 7', 'is stopped', 'boot', 'is running')


def test_a_machine_that_was_ordered_to_stop_has_not_stopped_by_itself(case: Case) -> None:
    case.power.stop()
    case.expect(*LAUNCHED, 'shut down within 7', 'is stopped')
    case.power.start()
    case.power.stop()
    case.expect(*LAUNCHED, 'shut down within 7', 'is stopped', 'boot', 'is running', 'shut down within 7',
                'is stopped')


def test_a_reboot_is_a_shutdown_and_a_boot(case: Case) -> None:
    case.power.reboot()
    case.expect(*LAUNCHED, 'shut down within 7', 'boot', 'is running')


def test_a_machine_that_restarts_itself_goes_on_running(case: Case) -> None:
    case.expect(*LAUNCHED)
    case.machine.ends.put(RESTARTED)
    case.expect(*LAUNCHED, 'boot', 'is running')


def test_a_machine_that_powers_itself_off_is_stopped(case: Case) -> None:
    case.expect(*LAUNCHED)
    case.machine.ends.put(130)
    case.expect(*LAUNCHED, 'has stopped itself')


def test_a_machine_that_is_to_be_terminated_when_off_is_so_when_it_powers_itself_off() -> None:
    case = Case(terminates_when_off=True)
    case.power.launch()
    case.expect(*LAUNCHED)
    case.machine.ends.put(130)
    case.expect(*LAUNCHED, 'remove', 'has terminated itself')
    assert case.power.gone.wait(5)


def test_a_terminated_machine_is_shut_down_before_it_is_removed(case: Case) -> None:
    case.power.terminate()
    case.expect(*LAUNCHED, 'shut down within 7', 'remove', 'is terminated')


@pytest.mark.parametrize('flaw', ['create', 'boot'])
def test_a_machine_that_cannot_be_launched_prints_the_reason_and_leaves_nothing(flaw: str) -> None:
    case = Case(flaw)
    case.power.launch()
    attempt = ('create',) if flaw == 'create' else ('create', 'boot')
    case.expect(*attempt, 'say not started: it leaks', 'remove', 'is not launched: it leaks')
    assert case.power.gone.wait(5)


def test_disks_are_read_while_the_machine_is_off_and_it_comes_back(case: Case) -> None:
    case.power.do(lambda: case.story.append('read'), while_off=True)
    case.expect(*LAUNCHED, 'shut down within 7', 'read', 'boot', 'is running')


def test_disks_of_a_running_machine_are_read_where_it_is_not_to_be_stopped(case: Case) -> None:
    case.power.do(lambda: case.story.append('read'), while_off=False)
    case.expect(*LAUNCHED, 'read')


def test_an_order_that_fails_does_not_prevent_the_next(case: Case) -> None:
    case.power.do(fail, while_off=True)
    case.power.stop()
    case.expect(*LAUNCHED, 'shut down within 7', 'boot', 'is running', 'shut down within 7', 'is stopped')
