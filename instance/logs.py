"""Step logs: send the whole journal to CloudWatch Logs, and the use of memory and disk to CloudWatch.

The journal is sent from the first second of the first boot on.

It is the spool: an entry that was not sent yet stays in it, within its limit of size. A cursor on disk marks
the last entry that was sent. An entry is sent twice if this process dies between sending it and writing the cursor.
"""

from collections.abc import Sequence
import sys
import time

from instance.aws import Aws, AwsFailed, INVALID, Patience
from instance.errors import StepFailed
from instance.events import Event, request_of
from instance.journal import Journal, Stop, write_cursor
from instance.machine import Machine
from instance.metadata import Metadata
from instance.usage import reported

FIRST_PAUSE, LONGEST_PAUSE, POLL_SECONDS = 1.0, 30.0, 0.2
# One try for each call: this module retries itself, because it must notice SIGTERM between two tries.
PATIENCE = Patience(connect=2, answer=5, seconds=0)
REFUSAL_CODES = (INVALID, 'InvalidParameterException', 'SerializationException', 'ValidationException')


def run(machine: Machine) -> str:
    """Send the journal as it grows until SIGTERM, and return the number of entries."""
    if machine.user_data.selftest:
        return 'self-test: nothing is sent'

    stop = Stop()
    sender = Sender(machine, stop)
    with reported(machine), Journal(machine.cursor, stop) as journal:
        for batch in journal.batches():
            if not sender.send(batch.events):
                break
            if batch.cursor:
                write_cursor(machine.cursor, batch.cursor)
    return f'{sender.sent} entries sent' + (f', {sender.raw} of them unparsed' if sender.raw else '')


class Refused(StepFailed):
    """The rejection of events by CloudWatch Logs, which a retry would not change."""


class Sender:
    """The log stream of this instance, in the log group of the user data."""

    def __init__(self, machine: Machine, stop: Stop) -> None:
        """Begin with no entry sent and no stream."""
        self.sent = self.raw = 0
        self._aws = Aws(machine.user_data, PATIENCE)
        self._group = machine.user_data.log_group
        self._stop = stop
        self._stream = ''
        self._failing_since: float | None = None

    def send(self, events: Sequence[Event]) -> bool:
        """Send events, with retries until SIGTERM; return whether they were sent."""
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
            if error.code in REFUSAL_CODES:
                raise Refused(error.message) from None
            if error.code == 'ResourceNotFoundException':
                self._stream = ''  # it was deleted
            raise
        if rejected:
            _log(f'CloudWatch Logs rejected entries that are too old or in the future: {rejected}')

    def _send_apart(self, events: Sequence[Event], error: Refused) -> bool:
        """Skip the event that is refused and send the others."""
        if len(events) == 1:
            _log(f'skipped an entry of {events[0].size} bytes with the timestamp {events[0].timestamp}: {error}')
            return True
        half = len(events) // 2
        return self.send(events[:half]) and self.send(events[half:])

    def _rest_for(self, seconds: float) -> bool:
        """Pause before the next try; return whether SIGTERM has not come meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._stop.is_requested:
            time.sleep(POLL_SECONDS)
        return not self._stop.is_requested

    def _note_failure(self, error: StepFailed) -> None:
        # Logged once and not at each try, because these lines have to be sent as well.
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            _log(f'cannot send, the journal keeps the entries: {error}')

    def _note_success(self, events: Sequence[Event]) -> None:
        self.sent += len(events)
        self.raw += sum(event.is_raw for event in events)
        if self._failing_since is not None:
            _log(f'sending again after {time.monotonic() - self._failing_since:.0f} s')
            self._failing_since = None


def _log(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
