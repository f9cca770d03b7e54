"""The power of one instance: it starts, stops and removes the instance's machine, one order after the other.

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

# The exit code of a container whose first process asks the kernel to restart: reboot(2), below "Behavior inside PID
# namespaces". Docker adds 128 to the number of the signal that ends a process.
RESTARTED = 128 + 1


class Machine(Protocol):
    """A machine as its power sees it."""

    def create(self) -> None:
        """Make it, without starting it."""

    def boot(self) -> Callable[[], int]:
        """Start it, and return a function that waits for its end and returns its exit code."""

    def shut_down(self, seconds: int) -> None:
        """Shut it down in order, and power it off after so many seconds."""

    def say(self, line: str) -> None:
        """Add a line to its console that it cannot write itself."""

    def remove(self) -> None:
        """Remove everything of it but its console."""


class Record(Protocol):
    """The API's record of an instance."""

    id: str  # noqa: A003

    @property
    def terminates_when_off(self) -> bool:
        """Whether the instance is terminated, not stopped, when it powers itself off."""

    def running(self) -> None:
        """Record that it runs."""

    def stopped(self, by_itself: bool) -> None:
        """Record that it is off."""

    def terminated(self, by_itself: bool) -> None:
        """Record that it is terminated."""

    def not_launched(self, reason: str) -> None:
        """Record that its launch failed."""


class After(Enum):
    """The consequence of a machine's end by itself."""

    BOOT = 'boot'
    STOP = 'stop'
    TERMINATE = 'terminate'


def after_end(exit_code: int, terminates_when_off: bool) -> After:
    """Return the consequence of the end of a machine without an order.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingInstanceInitiatedShutdownBehavior.html
    """
    if exit_code == RESTARTED:
        return After.BOOT
    return After.TERMINATE if terminates_when_off else After.STOP


class Power:
    """The thread that carries out the orders for one machine, and reacts to the machine's own end."""

    def __init__(self, record: Record, machine: Machine, patience: int) -> None:
        """Start the thread; the machine has `patience` seconds to shut down."""
        self._record = record
        self._machine = machine
        self._patience = patience
        self._orders: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._is_on = False
        self._boots = 0
        self.gone = Event()
        Thread(target=self._obey, name=record.id, daemon=True).start()

    def launch(self) -> None:
        """Order that the machine is made and started."""
        self._orders.put(self._launch)

    def start(self) -> None:
        """Order that the stopped machine is started."""
        self._orders.put(self._boot)

    def stop(self) -> None:
        """Order that the machine is shut down."""
        self._orders.put(self._stop)

    def reboot(self) -> None:
        """Order that the machine is shut down and started again."""
        self._orders.put(self._reboot)

    def terminate(self) -> None:
        """Order that the machine is shut down and removed."""
        self._orders.put(self._terminate)

    def do(self, act: Callable[[], None], while_off: bool) -> None:
        """Order an act on the machine's disks; `while_off` shuts a running machine down for the time of it."""
        self._orders.put(lambda: self._do(act, while_off))

    def _obey(self) -> None:
        while not self.gone.is_set():
            order = self._orders.get()
            try:
                order()
            except Exception:
                logger.exception('%s: an order failed', self._record.id)

    def _launch(self) -> None:
        try:
            self._machine.create()
            self._boot()
        except Exception as error:
            if not isinstance(error, RehearsalError):
                logger.exception('%s: the launch failed', self._record.id)
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
        except Exception:  # the engine ended, and all machines with it
            logger.exception('%s: the end of the machine cannot be watched', self._record.id)
            return
        self._orders.put(lambda: self._after_end(exit_code, boot))

    def _after_end(self, exit_code: int, boot: int) -> None:
        if not self._is_on or boot != self._boots:
            return  # an order ended it

        self._is_on = False
        consequence = after_end(exit_code, self._record.terminates_when_off)
        logger.info('%s ended by itself with %s: %s', self._record.id, exit_code, consequence.value)
        if consequence is After.BOOT:
            self._boot()
        elif consequence is After.STOP:
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
