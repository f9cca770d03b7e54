"""Step logs: the whole journal reaches CloudWatch Logs, within its limits, also after it was unavailable."""

from collections.abc import Iterator
from contextlib import contextmanager
import json
import signal
import time

from hypothesis import given, settings, strategies as st
import pytest

from instance import events, logs
from instance.events import Batch, Event, event_of, request_of
from instance.journal import Stop
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.local_aws import operations
from tests.support.machine_folder import FolderMachine, last_line, PREFIX, STEP_SECONDS
from tests.support.waiting import eventually
from tests.support.warm import WarmProcess
from tests.support.written_journal import WrittenJournal

HOUR = 60 * 60 * 1000


@pytest.fixture
def journal(machine: FolderMachine) -> Iterator[WrittenJournal]:
    """Give the journal of the machine."""
    with WrittenJournal(machine.programs / 'journal') as journal:
        machine.install('journalctl', f'exec /usr/bin/journalctl --directory={journal.folder} "$@"')
        yield journal


@pytest.fixture
def group(aws: EmbeddedRehearsal) -> str:
    """Give the log group of the test's machines."""
    aws.client('logs').create_log_group(logGroupName=PREFIX)
    return PREFIX


def sent(aws: EmbeddedRehearsal) -> list[str]:
    """Return the messages in the log group, by time."""
    logs = aws.client('logs')
    streams = [each['logStreamName'] for each in logs.describe_log_streams(logGroupName=PREFIX)['logStreams']]
    if not streams:
        return []
    (stream,) = streams
    answer = logs.get_log_events(logGroupName=PREFIX, logStreamName=stream, startFromHead=True, limit=10000)
    return [str(json.loads(event['message'])['message']) for event in answer['events']]


@contextmanager
def sending(machine: FolderMachine) -> Iterator[WarmProcess]:
    """Run the step as its unit does, and end it as systemd does."""
    with machine.start('logs') as process:
        try:
            yield process
        finally:
            process.kill()


def end(process: WarmProcess) -> tuple[str, str]:
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=STEP_SECONDS)
    assert process.returncode == 0, stderr
    return stdout, stderr


def first_words(process: WarmProcess) -> str:
    """Return the next line of the step's stderr when it comes."""
    assert process.stderr
    return process.stderr.readline()


def wait_until_sent(aws: EmbeddedRehearsal, message: str) -> None:
    eventually(lambda: message in sent(aws), lambda: f'{message} is sent: {sent(aws)}')


def test_the_journal_is_sent_from_its_first_entry_on(
        machine: FolderMachine, aws: EmbeddedRehearsal, journal: WrittenJournal, group: str) -> None:
    journal.write('the kernel starts', 'systemd starts', seconds_ago=30)
    with sending(machine) as process:
        wait_until_sent(aws, 'systemd starts')
        journal.write('later')
        wait_until_sent(aws, 'later')
        stdout, _ = end(process)
    assert sent(aws) == ['the kernel starts', 'systemd starts', 'later']
    assert last_line(stdout).endswith(' s: 3 entries sent')


def test_a_sent_entry_is_not_sent_again(machine: FolderMachine, aws: EmbeddedRehearsal, journal: WrittenJournal,
                                        group: str) -> None:
    journal.write('one', 'two')
    with sending(machine) as process:
        wait_until_sent(aws, 'two')
        end(process)
    journal.write('three')
    with sending(machine) as process:
        wait_until_sent(aws, 'three')
        end(process)
    assert sent(aws) == ['one', 'two', 'three']


def test_nothing_is_lost_while_the_api_is_unavailable(
        machine: FolderMachine, aws: EmbeddedRehearsal, journal: WrittenJournal, group: str) -> None:
    journal.write('before')
    with sending(machine) as process:
        wait_until_sent(aws, 'before')
        aws.stop()
        messages = [f'during the outage {number}' for number in range(300)]
        journal.write(*messages[:100])
        lines = [first_words(process)]
        journal.write(*messages[100:])
        aws.start()
        wait_until_sent(aws, messages[-1])
        _, stderr = end(process)
    assert sent(aws) == ['before', *messages]
    lines += stderr.strip().splitlines()
    assert len(lines) == 2, 'logged at the start and at the end of the outage, not at each try'
    assert lines[0].startswith(f'cannot send, the journal keeps the entries: log stream {PREFIX}/{machine.instance}: ')
    assert lines[1].startswith('sending again after ')


def test_nothing_is_lost_when_it_is_killed_while_the_api_is_unavailable(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                                        journal: WrittenJournal, group: str) -> None:
    journal.write('before')
    with sending(machine):
        wait_until_sent(aws, 'before')
        aws.stop()
        journal.write('during the outage')
        time.sleep(2)
    aws.start()
    with sending(machine) as process:
        wait_until_sent(aws, 'during the outage')
        end(process)
    assert sent(aws) == ['before', 'during the outage']


def test_at_its_end_it_sends_the_last_entries_of_the_others(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                            journal: WrittenJournal, group: str) -> None:
    journal.write('before')
    with sending(machine) as process:
        wait_until_sent(aws, 'before')
        # Frozen until the entry is in the journal, because it would wait for one second only.
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        journal.write('the application has stopped')
        process.send_signal(signal.SIGCONT)
        end(process)
    assert sent(aws) == ['before', 'the application has stopped']


def test_an_unavailable_api_does_not_delay_its_end(
        machine: FolderMachine, aws: EmbeddedRehearsal, journal: WrittenJournal, group: str) -> None:
    aws.stop()
    journal.write('an entry during the outage')
    with sending(machine) as process:
        assert 'cannot send' in first_words(process)
        begun = time.monotonic()
        stdout, _ = end(process)
        assert time.monotonic() - begun < STEP_SECONDS / 2
    assert last_line(stdout).endswith(' s: 0 entries sent')
    aws.start()
    with sending(machine) as process:
        wait_until_sent(aws, 'an entry during the outage')
        end(process)


def test_a_group_that_is_made_later_is_waited_for(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                  journal: WrittenJournal) -> None:
    journal.write('early')
    with sending(machine) as process:
        assert 'ResourceNotFoundException' in first_words(process)
        aws.client('logs').create_log_group(logGroupName=PREFIX)
        wait_until_sent(aws, 'early')
        end(process)


def test_a_deleted_stream_is_created_again(machine: FolderMachine, aws: EmbeddedRehearsal,
                                           journal: WrittenJournal, group: str) -> None:
    journal.write('one')
    with sending(machine) as process:
        wait_until_sent(aws, 'one')
        aws.client('logs').delete_log_stream(logGroupName=group, logStreamName=machine.instance)
        journal.write('two')
        wait_until_sent(aws, 'two')
        end(process)


def test_a_metadata_service_that_comes_late_is_waited_for(machine: FolderMachine, aws: EmbeddedRehearsal, group: str,
                                                          journal: WrittenJournal) -> None:
    machine.metadata.faults.refuse('GET /latest/meta-data/instance-id', status=404)
    journal.write('early')
    with sending(machine) as process:
        eventually(lambda: len(machine.metadata.faults.refused) >= 2, 'it is asked again')
        machine.metadata.faults.clear()
        wait_until_sent(aws, 'early')
        end(process)


def test_an_entry_that_nothing_can_read_keeps_none_behind_it(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                             journal: WrittenJournal, group: str) -> None:
    deep = f'{{"a":{"[" * 12_000}'
    journal.write('before', deep, 'behind')
    with sending(machine) as process:
        wait_until_sent(aws, 'behind')
        stdout, _ = end(process)
    assert sent(aws) == ['before', deep, 'behind']
    assert last_line(stdout).endswith(' s: 3 entries sent')


@pytest.mark.parametrize('line', [
    b'no JSON', b'[]', b'{}', b'\xff', b'', b'{"a":' + b'[' * 12_000,
    b'{"__CURSOR": "x", "__REALTIME_TIMESTAMP": "y"}',
    b'{"__CURSOR": "x", "__REALTIME_TIMESTAMP": "1", "MESSAGE": [999]}'])
def test_a_line_that_is_no_entry_is_sent_as_it_came_and_counted(line: bytes) -> None:
    event = event_of(line)
    assert (event.message, event.is_raw) == (line.decode(errors='replace') or ' ', True)
    batch = Batch()
    batch.add(Event(1, 'an entry', 's=1'))
    batch.add(event)
    assert batch.cursor == 's=1', 'the journal is followed from behind the last one that has a place in it'


def test_an_entry_too_deep_to_be_encoded_is_sent_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise RecursionError

    monkeypatch.setattr('json.dumps', refuse)
    event = event_of(b'{"__CURSOR": "x", "__REALTIME_TIMESTAMP": "1000", "MESSAGE": "{\\"a\\": 1}"}')
    assert (event.message, event.cursor, event.is_raw) == ('{"a": 1}', 'x', True)


def test_an_entry_that_the_sdk_refuses_is_skipped_and_reported(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                               monkeypatch: pytest.MonkeyPatch, group: str) -> None:
    monkeypatch.setattr('signal.signal', lambda *_: None)
    sender = logs.Sender(machine.enter(monkeypatch), Stop())
    now = int(time.time() * 1000)
    assert sender.send([Event(now, '', 's=1'), Event(now, '{"message": "behind"}', 's=2')])
    assert sent(aws) == ['behind']


def test_an_entry_that_is_refused_is_skipped_and_reported(
        machine: FolderMachine, aws: EmbeddedRehearsal, journal: WrittenJournal, group: str) -> None:
    journal.write(*(f'entry {number}' for number in range(20)))
    refuse_entry(aws, 'entry 7"')
    with sending(machine) as process:
        wait_until_sent(aws, 'entry 19')
        _, stderr = end(process)
    assert sent(aws) == [f'entry {number}' for number in range(20) if number != 7]
    assert 'skipped an entry of ' in stderr


def refuse_entry(aws: EmbeddedRehearsal, text: str) -> None:
    """Make CloudWatch refuse every batch that holds a text."""
    aws.faults.refuse('PutLogEvents', status=400, code='InvalidParameterException',
                      when=lambda call: text in call.text.replace('\\', ''))


def test_entries_that_are_too_old_are_reported(machine: FolderMachine, aws: EmbeddedRehearsal, journal: WrittenJournal,
                                               group: str) -> None:
    journal.write('of last month', seconds_ago=30 * 86400)
    journal.write('of now')
    with sending(machine) as process:
        wait_until_sent(aws, 'of now')
        _, stderr = end(process)
    assert "rejected entries that are too old or in the future: {'tooOldLogEventEndIndex'" in stderr


def test_a_cursor_that_leads_nowhere_is_forgotten(
        machine: FolderMachine, aws: EmbeddedRehearsal, journal: WrittenJournal, group: str) -> None:
    machine.write('var/lib/visitors/logs.cursor', 'nonsense')
    journal.write('one')
    result = machine.run('logs')
    assert result.returncode == 1, 'its unit starts it again'
    assert 'Failed to seek to cursor' in last_line(result.stdout)
    with sending(machine) as process:
        wait_until_sent(aws, 'one')
        end(process)


def test_many_entries_are_sent_in_few_calls(machine: FolderMachine, aws: EmbeddedRehearsal, journal: WrittenJournal,
                                            group: str) -> None:
    journal.write(*(f'entry {number}' for number in range(3000)))
    with sending(machine) as process:
        wait_until_sent(aws, 'entry 2999')
        end(process)
    assert len(sent(aws)) == 3000
    assert operations(aws).count('PutLogEvents') < 30


def test_in_a_self_test_nothing_is_sent(
        machine: FolderMachine, aws: EmbeddedRehearsal, journal: WrittenJournal) -> None:
    machine.write('etc/visitors/instance.env', 'SELFTEST=1\n')
    result = machine.run('logs')
    assert (result.returncode, last_line(result.stdout).endswith('self-test: nothing is sent')) == (0, True)
    assert not aws.faults.calls


def entry(**fields: object) -> bytes:
    return json.dumps({'__CURSOR': 's=1', '__REALTIME_TIMESTAMP': '1700000000123456', **fields}).encode()


@pytest.mark.parametrize(('fields', 'sends'), [
    ({'MESSAGE': 'hello', '_SYSTEMD_UNIT': 'visitors.service', 'PRIORITY': '6'},
     {'unit': 'visitors.service', 'priority': '6', 'message': 'hello'}),
    ({'MESSAGE': 'Starting', 'UNIT': 'visitors.service', '_SYSTEMD_UNIT': 'init.scope'},
     {'unit': 'visitors.service', 'message': 'Starting'}),
    ({'MESSAGE': 'Linux version 6', 'SYSLOG_IDENTIFIER': 'kernel'}, {'unit': 'kernel', 'message': 'Linux version 6'}),
    ({'MESSAGE': [104, 255, 105]}, {'message': 'h\ufffdi'}),
    ({'MESSAGE': ['one', 'two']}, {'message': 'one\ntwo'}),
    ({'MESSAGE': None}, {}),
    ({'MESSAGE': '{"status": 200, "path": "/"}', '_SYSTEMD_UNIT': 'visitors.service'},
     {'unit': 'visitors.service', 'status': 200, 'path': '/'}),
    ({'MESSAGE': '{no object'}, {'message': '{no object'}),
])
def test_an_entry_becomes_an_object_that_can_be_searched(fields: dict[str, object], sends: dict[str, object]) -> None:
    event = event_of(entry(**fields))
    assert json.loads(event.message) == sends
    assert (event.timestamp, event.cursor) == (1700000000123, 's=1')


def test_a_message_that_is_too_long_is_cut_between_characters() -> None:
    event = event_of(entry(MESSAGE='ä' * 300_000))
    assert event.size <= 256 * 1024
    assert event.message.endswith(' ... (cut)')
    assert '\ufffd' not in event.message


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60 * HOUR), st.integers(1, 60)), max_size=80))
def test_no_batch_breaks_a_limit_and_no_entry_is_lost(entries: list[tuple[int, int]]) -> None:
    all_events = [Event(moment, 'x' * size * 4000, str(number)) for number, (moment, size) in enumerate(entries)]
    batches = batched(all_events)
    assert [event for batch in batches for event in batch.events] == all_events
    for batch in batches:
        request = request_of(batch.events)
        times = [each['timestamp'] for each in request]
        assert times == sorted(times)
        assert times[-1] - times[0] < 24 * HOUR
        assert sum(len(each['message'].encode()) + 26 for each in request) <= 1_048_576
        assert batch.cursor == batch.events[-1].cursor


def test_no_batch_has_more_than_ten_thousand_entries() -> None:
    batches = batched([Event(number, '', str(number)) for number in range(25_000)])
    assert [len(batch.events) for batch in batches] == [10_000, 10_000, 5_000]


def batched(all_events: list[Event]) -> list[Batch]:
    batches = [Batch()]
    for event in all_events:
        if not batches[-1].has_room_for(event):
            batches.append(Batch())
        batches[-1].add(event)
    return [batch for batch in batches if batch.events]


def test_the_limits_are_those_of_the_api() -> None:
    assert (events.BATCH_EVENTS, events.BATCH_BYTES, events.EVENT_OVERHEAD) == (10_000, 1_048_576, 26)
