"""The power of one instance: what starts, stops and ends its machine, one thing after the other.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html
"""

from collections.abc import Callable
from enum import Enum
import logging
from queue import SimpleQueue
from threading import Event, Thread
from typing import Protocol

from rehearsal.errors import RehearsalError

logger = logging.getLogger(__name__)

# How the first process of a container ends when it asks the kernel to restart: reboot(2), below "Behavior inside PID
# namespaces". A signal that ends a process is 128 and its number to Docker.
RESTARTED = 128 + 1


class Machine(Protocol):
    """What is turned on and off."""

    def create(self) -> None:
        """Make it, without starting it."""

    def boot(self) -> Callable[[], int]:
        """Start it, and return what waits for its end and gives its exit code."""

    def shut_down(self, seconds: int) -> None:
        """Let it shut down in order, and pull the plug after so many seconds."""

    def say(self, line: str) -> None:
        """Write to its console what it cannot write itself."""

    def remove(self) -> None:
        """Remove all there is of it but what it has written."""


class Record(Protocol):
    """What the API tells of an instance."""

    id: str  # noqa: A003

    @property
    def terminates_when_off(self) -> bool:
        """Whether it is to be terminated, not stopped, when it turns itself off."""

    def running(self) -> None:
        """Tell that it runs."""

    def stopped(self, by_itself: bool) -> None:
        """Tell that it is off."""

    def terminated(self, by_itself: bool) -> None:
        """Tell that it is no more."""

    def not_launched(self, reason: str) -> None:
        """Tell that it has never run."""


class After(Enum):
    """What follows when a machine has ended by itself."""

    BOOT = 'boot'
    STOP = 'stop'
    TERMINATE = 'terminate'


def after_end(exit_code: int, terminates_when_off: bool) -> After:
    """Return what follows the end of a machine that nobody has ended.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingInstanceInitiatedShutdownBehavior.html
    """
    if exit_code == RESTARTED:
        return After.BOOT
    return After.TERMINATE if terminates_when_off else After.STOP


class Power:
    def __init__(self, record: Record, machine: Machine, patience: int) -> None:
        """Have power over a machine; who shuts down in order has so many seconds for it."""
        self._record = record
        self._machine = machine
        self._patience = patience
        self._orders: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._is_on = False
        self._boots = 0
        self.gone = Event()
        Thread(target=self._obey, name=record.id, daemon=True).start()

    def launch(self) -> None:
        """Make the machine and start it."""
        self._orders.put(self._launch)

    def start(self) -> None:
        """Start the stopped machine."""
        self._orders.put(self._boot)

    def stop(self) -> None:
        """Shut the machine down."""
        self._orders.put(self._stop)

    def reboot(self) -> None:
        """Shut the machine down and start it again."""
        self._orders.put(self._reboot)

    def terminate(self) -> None:
        """Shut the machine down and remove it."""
        self._orders.put(self._terminate)

    def do(self, act: Callable[[], None], while_off: bool) -> None:
        """Do something that has to do with the machine's disks; where it runs it can be off for that time."""
        self._orders.put(lambda: self._do(act, while_off))

    def _obey(self) -> None:
        while not self.gone.is_set():
            order = self._orders.get()
            try:
                order()
            except Exception:
                logger.exception('%s: what was ordered could not be done', self._record.id)

    def _launch(self) -> None:
        try:
            self._machine.create()
            self._boot()
        except Exception as error:
            if not isinstance(error, RehearsalError):
                logger.exception('%s cannot be launched', self._record.id)
            self._machine.say(f'not started: {error}')
            self._machine.remove()
            self._record.not_launched(str(error))
            self.gone.set()

    def _boot(self) -> None:
        if self._is_on:
            return
        ended = self._machine.boot()
        self._is_on = True
        self._boots += 1
        self._record.running()
        Thread(target=self._watch, args=(ended, self._boots), daemon=True).start()

    def _watch(self, ended: Callable[[], int], boot: int) -> None:
        try:
            exit_code = ended()
        except Exception:  # the engine has gone, and all machines with it
            logger.exception('%s is not watched any more', self._record.id)
            return
        self._orders.put(lambda: self._after_end(exit_code, boot))

    def _after_end(self, exit_code: int, boot: int) -> None:
        if not self._is_on or boot != self._boots:
            return  # it was ordered to end

        self._is_on = False
        follows = after_end(exit_code, self._record.terminates_when_off)
        logger.info('%s has ended by itself with %s: %s', self._record.id, exit_code, follows.value)
        if follows is After.BOOT:
            self._boot()
        elif follows is After.STOP:
            self._stop(by_itself=True)
        else:
            self._terminate(by_itself=True)

    def _turn_off(self) -> None:
        if self._is_on:
            self._is_on = False
            self._machine.shut_down(self._patience)

    def _stop(self, by_itself: bool = False) -> None:
        self._turn_off()
        self._record.stopped(by_itself)

    def _reboot(self) -> None:
        self._turn_off()
        self._boot()

    def _terminate(self, by_itself: bool = False) -> None:
        self._turn_off()
        self._machine.remove()
        self._record.terminated(by_itself)
        self.gone.set()

    def _do(self, act: Callable[[], None], while_off: bool) -> None:
        was_on = self._is_on
        if while_off:
            self._turn_off()
        try:
            act()
        finally:
            if was_on:
                self._boot()
