"""What starts, stops and ends a machine, in which order, and what the API is told of it."""

from collections.abc import Callable, Iterator
from queue import SimpleQueue
import time

import pytest

from rehearsal.errors import RehearsalError
from rehearsal.machines.power import After, after_end, Power, RESTARTED
from tests.support.waiting import eventually


class FakeMachine:
    def __init__(self, story: list[str], flaw: str = '') -> None:
        """Write down what is done to it; the flaw is what cannot be done."""
        self._story = story
        self._flaw = flaw
        self.ends: SimpleQueue[int] = SimpleQueue()

    def create(self) -> None:
        """Be made."""
        self._do('create')

    def boot(self) -> Callable[[], int]:
        """Be started."""
        self._do('boot')
        self.ends = SimpleQueue()  # what ends one boot does not end the next
        return self.ends.get

    def shut_down(self, seconds: int) -> None:
        """Be shut down."""
        self._do(f'shut down within {seconds}')
        self.ends.put(130)

    def say(self, line: str) -> None:
        """Say a line."""
        self._do(f'say {line}')

    def remove(self) -> None:
        """Be removed."""
        self._do('remove')

    def _do(self, what: str) -> None:
        self._story.append(what)
        if what == self._flaw:
            raise RehearsalError('it leaks')


class FakeRecord:
    def __init__(self, story: list[str], terminates_when_off: bool) -> None:
        """Write down what is told."""
        self.id = 'i-1'
        self._story = story
        self.terminates_when_off = terminates_when_off

    def running(self) -> None:
        """Write it down."""
        self._story.append('is running')

    def stopped(self, by_itself: bool) -> None:
        """Write it down."""
        self._story.append('has stopped itself' if by_itself else 'is stopped')

    def terminated(self, by_itself: bool) -> None:
        """Write it down."""
        self._story.append('has terminated itself' if by_itself else 'is terminated')

    def not_launched(self, reason: str) -> None:
        """Write it down."""
        self._story.append(f'is not launched: {reason}')


class Told:
    def __init__(self, flaw: str = '', terminates_when_off: bool = False) -> None:
        """Have power over a made-up machine."""
        self.story: list[str] = []
        self.machine = FakeMachine(self.story, flaw)
        self.power = Power(FakeRecord(self.story, terminates_when_off), self.machine, patience=7)

    def expect(self, *story: str) -> None:
        """Fail unless this has happened, or does so soon, and nothing more."""
        eventually(lambda: len(self.story) >= len(story), f'{len(story)} things have happened')
        time.sleep(0.05)
        assert tuple(self.story) == story


@pytest.fixture
def told() -> Iterator[Told]:
    """Give power over a machine that is launched."""
    made = Told()
    made.power.launch()
    yield made
    made.power.terminate()


LAUNCHED = ('create', 'boot', 'is running')


def fail() -> None:
    raise RuntimeError('disk full')


@pytest.mark.parametrize(('exit_code', 'terminates', 'follows'), [
    (RESTARTED, False, After.BOOT), (RESTARTED, True, After.BOOT), (130, False, After.STOP),
    (130, True, After.TERMINATE), (0, False, After.STOP), (137, True, After.TERMINATE), (255, False, After.STOP)])
def test_the_exit_code_and_the_shutdown_behaviour_decide_what_follows(exit_code: int, terminates: bool,
                                                                      follows: After) -> None:
    assert after_end(exit_code, terminates) is follows


def test_a_machine_is_made_before_it_boots_and_runs_only_then(told: Told) -> None:
    told.expect(*LAUNCHED)


def test_a_stopped_machine_can_be_started_again(told: Told) -> None:
    told.power.stop()
    told.power.start()
    told.expect(*LAUNCHED, 'shut down within 7', 'is stopped', 'boot', 'is running')


def test_a_machine_that_was_told_to_stop_has_not_stopped_by_itself(told: Told) -> None:
    told.power.stop()
    told.expect(*LAUNCHED, 'shut down within 7', 'is stopped')
    told.power.start()
    told.power.stop()
    told.expect(*LAUNCHED, 'shut down within 7', 'is stopped', 'boot', 'is running', 'shut down within 7',
                'is stopped')


def test_a_reboot_is_a_shutdown_and_a_boot(told: Told) -> None:
    told.power.reboot()
    told.expect(*LAUNCHED, 'shut down within 7', 'boot', 'is running')


def test_a_machine_that_restarts_itself_goes_on_running(told: Told) -> None:
    told.expect(*LAUNCHED)
    told.machine.ends.put(RESTARTED)
    told.expect(*LAUNCHED, 'boot', 'is running')


def test_a_machine_that_powers_itself_off_is_stopped(told: Told) -> None:
    told.expect(*LAUNCHED)
    told.machine.ends.put(130)
    told.expect(*LAUNCHED, 'has stopped itself')


def test_a_machine_that_is_to_be_terminated_when_off_is_so_when_it_powers_itself_off() -> None:
    told = Told(terminates_when_off=True)
    told.power.launch()
    told.expect(*LAUNCHED)
    told.machine.ends.put(130)
    told.expect(*LAUNCHED, 'remove', 'has terminated itself')
    assert told.power.gone.wait(5)


def test_a_terminated_machine_is_shut_down_before_it_is_removed(told: Told) -> None:
    told.power.terminate()
    told.expect(*LAUNCHED, 'shut down within 7', 'remove', 'is terminated')


@pytest.mark.parametrize('flaw', ['create', 'boot'])
def test_a_machine_that_cannot_be_launched_says_why_and_leaves_nothing(flaw: str) -> None:
    told = Told(flaw)
    told.power.launch()
    attempt = ('create',) if flaw == 'create' else ('create', 'boot')
    told.expect(*attempt, 'say not started: it leaks', 'remove', 'is not launched: it leaks')
    assert told.power.gone.wait(5)


def test_disks_are_read_while_the_machine_is_off_and_it_comes_back(told: Told) -> None:
    told.power.do(lambda: told.story.append('read'), while_off=True)
    told.expect(*LAUNCHED, 'shut down within 7', 'read', 'boot', 'is running')


def test_disks_of_a_running_machine_are_read_where_it_is_not_to_be_stopped(told: Told) -> None:
    told.power.do(lambda: told.story.append('read'), while_off=False)
    told.expect(*LAUNCHED, 'read')


def test_what_fails_does_not_keep_from_what_is_ordered_next(told: Told) -> None:
    told.power.do(fail, while_off=True)
    told.power.stop()
    told.expect(*LAUNCHED, 'shut down within 7', 'boot', 'is running', 'shut down within 7', 'is stopped')
