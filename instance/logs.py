"""Step logs: everything that the journal holds goes to CloudWatch Logs, from the first second of the first boot on.

The journal is the spool: what could not be sent yet stays in it, as long as its own limit of size allows, and a cursor
on disk says what was sent. An entry may be sent twice, when this process dies between sending and writing the cursor.
"""

from collections.abc import Sequence
import sys
import time

from instance.aws import Aws, AwsFailed, INVALID, Patience
from instance.errors import StepFailed
from instance.events import Event, request_of
from instance.journal import Journal, Order, write_cursor
from instance.machine import Machine
from instance.metadata import Metadata

FIRST_PAUSE, LONGEST_PAUSE, LOOK_SECONDS = 1.0, 30.0, 0.2
# One try at a call: the loop here is the patient one, and it has to see when it shall end.
PATIENCE = Patience(connect=2, answer=5, seconds=0)
REFUSALS = (INVALID, 'InvalidParameterException', 'SerializationException', 'ValidationException')


def run(machine: Machine) -> str:
    """Send the journal as it grows, until this process is told to end; then return how much was sent."""
    if machine.user_data.selftest:
        return 'self-test: nothing is sent'

    order = Order()
    sender = Sender(machine, order)
    with Journal(machine.cursor, order) as journal:
        for batch in journal.batches():
            if not sender.send(batch.events):
                break
            if batch.cursor:
                write_cursor(machine.cursor, batch.cursor)
    return f'{sender.sent} entries sent' + (f', {sender.raw} of them as they came' if sender.raw else '')


class Refused(StepFailed):
    """It is these events that are wrong and not the way, so trying again would end the same."""


class Sender:
    def __init__(self, machine: Machine, order: Order) -> None:
        """Send to the log group that the user data names, into the stream of this instance."""
        self.sent = self.raw = 0
        self._aws = Aws(machine.user_data, PATIENCE)
        self._group = machine.user_data.log_group
        self._order = order
        self._stream = ''
        self._away_since: float | None = None

    def send(self, events: Sequence[Event]) -> bool:
        """Send these events, as often as it takes; return whether they were sent before this process had to end."""
        pause = FIRST_PAUSE
        while True:
            try:
                self._put(events)
            except Refused as error:
                return self._send_apart(events, error)
            except StepFailed as error:
                self._note_failure(error)
            else:
                self._note_success(events)
                return True

            if not self._rest_for(pause):
                return False
            pause = min(2 * pause, LONGEST_PAUSE)

    def _put(self, events: Sequence[Event]) -> None:
        if not self._stream:
            instance = Metadata(seconds=0).fetch_instance_id()
            self._aws.make_log_stream(self._group, instance)
            self._stream = instance
        try:
            rejected = self._aws.put_log_events(self._group, self._stream, request_of(events))
        except AwsFailed as error:
            if error.code in REFUSALS:
                raise Refused(error.message) from None
            if error.code == 'ResourceNotFoundException':
                self._stream = ''  # somebody has deleted it
            raise
        if rejected:
            _tell(f'CloudWatch Logs has left out entries that are too old or of the future: {rejected}')

    def _send_apart(self, events: Sequence[Event], error: Refused) -> bool:
        """Send what is left when the one event that is refused is left out."""
        if len(events) == 1:
            _tell(f'an entry is left out, {events[0].size} bytes of {events[0].timestamp}: {error}')
            return True
        half = len(events) // 2
        return self.send(events[:half]) and self.send(events[half:])

    def _rest_for(self, seconds: float) -> bool:
        """Pause before the next try; return whether there may be one."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._order.is_given:
            time.sleep(LOOK_SECONDS)
        return not self._order.is_given

    def _note_failure(self, error: StepFailed) -> None:
        # Told once and not at each try: what is told here has to be sent as well.
        if self._away_since is None:
            self._away_since = time.monotonic()
            _tell(f'nothing can be sent, the journal keeps it: {error}')

    def _note_success(self, events: Sequence[Event]) -> None:
        self.sent += len(events)
        self.raw += sum(event.is_raw for event in events)
        if self._away_since is not None:
            _tell(f'sending again after {time.monotonic() - self._away_since:.0f} s')
            self._away_since = None


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
