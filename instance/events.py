"""The conversion of journal entries to events, and batches within the limits of CloudWatch Logs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import json
import time
from typing import Any

# The limits of PutLogEvents:
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
BATCH_EVENTS = 10_000
BATCH_BYTES = 1_048_576
BATCH_SPAN = 24 * 60 * 60 * 1000 - 1
EVENT_OVERHEAD = 26
# A quarter of today's limit: it was the limit until 2025, and a longer line is not readable anyway.
EVENT_BYTES = 256 * 1024 - EVENT_OVERHEAD
CUT = ' ... (cut)'


@dataclass(frozen=True)
class Event:
    """An entry of the journal: its time in milliseconds, the message to send, and its cursor."""

    timestamp: int
    message: str
    cursor: str
    # Whether it is sent unparsed, because it could not be parsed.
    is_raw: bool = False

    @property
    def size(self) -> int:
        """The number of bytes that CloudWatch counts for the event."""
        return len(self.message.encode()) + EVENT_OVERHEAD


def event_of(line: bytes) -> Event:
    """Return the event of a line of `journalctl --output=json`; a line that cannot be parsed becomes a raw event.

    A bad line must never block the lines after it.
    """
    try:
        return _event_of(line)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        text = line.decode(errors='replace') or ' '
        return Event(int(time.time() * 1000), _cut(text), '', is_raw=True)


def _event_of(line: bytes) -> Event:
    entry = json.loads(line)
    message = _text(entry.get('MESSAGE'))
    # A message of systemd about a unit belongs to the unit, although systemd is its sender.
    fields = {'unit': _text(entry.get('UNIT') or entry.get('_SYSTEMD_UNIT') or entry.get('SYSLOG_IDENTIFIER')),
              'priority': _text(entry.get('PRIORITY')), **_fields_in(message)}
    timestamp, cursor = int(entry['__REALTIME_TIMESTAMP']) // 1000, str(entry['__CURSOR'])
    try:
        text = json.dumps({name: value for name, value in fields.items() if value != ''}, ensure_ascii=False)
    except RecursionError:
        return Event(timestamp, _cut(message), cursor, is_raw=True)
    return Event(timestamp, _cut(text), cursor)


def _text(value: Any) -> str:
    """Return a field as text; journalctl writes repeated fields and bytes that are not text as lists."""
    if isinstance(value, list) and all(isinstance(each, int) for each in value):
        return bytes(value).decode(errors='replace')
    if isinstance(value, list):
        return '\n'.join(_text(each) for each in value)
    return '' if value is None else str(value)


def _fields_in(message: str) -> Mapping[str, Any]:
    """Return the fields of a message that is a JSON object, so that a query finds them by name."""
    if message.startswith('{'):
        try:
            return dict(json.loads(message))
        except (ValueError, RecursionError):
            pass
    return {'message': message}


def _cut(text: str) -> str:
    encoded = text.encode(errors='replace')
    if len(encoded) <= EVENT_BYTES:
        return encoded.decode()
    return encoded[:EVENT_BYTES - len(CUT)].decode(errors='ignore') + CUT


class Batch:
    """The events of one call of PutLogEvents."""

    def __init__(self) -> None:
        """Begin without events."""
        self.events: list[Event] = []
        self._bytes = 0
        self._first = self._last = 0

    def has_room_for(self, event: Event) -> bool:
        """Return whether the batch stays within the limits with one more event."""
        if not self.events:
            return True
        span = max(self._last, event.timestamp) - min(self._first, event.timestamp)
        return (len(self.events) < BATCH_EVENTS and self._bytes + event.size <= BATCH_BYTES and span <= BATCH_SPAN)

    def add(self, event: Event) -> None:
        """Add an event."""
        self._first = min(self._first, event.timestamp) if self.events else event.timestamp
        self._last = max(self._last, event.timestamp) if self.events else event.timestamp
        self._bytes += event.size
        self.events.append(event)

    @property
    def cursor(self) -> str:
        """The cursor of the last event that has one, in the order of the journal."""
        return next((event.cursor for event in reversed(self.events) if event.cursor), '')


def request_of(events: Sequence[Event]) -> list[dict[str, Any]]:
    """Return events as the API requires them: sorted by time, because the clock may have been set meanwhile."""
    return [{'timestamp': event.timestamp, 'message': event.message}
            for event in sorted(events, key=lambda event: event.timestamp)]
