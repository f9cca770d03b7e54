"""Step application: the application's container is started, awaited, adopted and stopped."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
import json
import os
import signal
import subprocess
import threading
import time

import pytest
import requests

from instance import follow
from instance.container import MEBIBYTE, Size
from instance.errors import StepFailed
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.machine_folder import FolderMachine, IMAGE, IMAGE_ID, last_line, STEP_SECONDS, value_of
from tests.support.parameters import KEY, OWNER_PASSWORD, PASSWORD, put_secrets, put_settings
from tests.support.postgresql import free_port
from tests.support.server import BROWSER
from tests.support.waiting import eventually
from tests.support.warm import WarmProcess

# Options that every container must be started with.
HARDENED = ('--read-only', '--network=host', '--cap-drop=ALL', '--security-opt=no-new-privileges', '--pull=never',
            '--log-driver=none', '--pids-limit=512', '--rm', '--no-healthcheck')


def prepare(machine: FolderMachine, aws: EmbeddedRehearsal, url: str) -> int:
    """Configure a machine for the start of the application, and return its port."""
    port = free_port()
    put_settings(aws, DATABASE_URL=url, PORT=str(port), WORKERS='2')
    put_secrets(aws, VISITOR_KEY=KEY)
    for step in ('config', 'migrate'):
        result = machine.run(step)
        assert result.returncode == 0, result.stdout + result.stderr
    return port


@contextmanager
def started(machine: FolderMachine, **environment: str) -> Iterator[WarmProcess]:
    """Start the application as its unit does, without its output."""
    with machine.start('application', 'start', **environment) as process:
        assert process.stdout and process.stderr
        for stream in (process.stdout, process.stderr):
            threading.Thread(target=stream.read, daemon=True).start()
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STEP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def run_of(machine: FolderMachine, name: str) -> Sequence[str]:
    (call,) = [call for call in machine.calls('docker') if call[0] == 'run' and f'--name={name}' in call]
    return call


def test_it_starts_answers_and_ends(machine: FolderMachine, aws: EmbeddedRehearsal, postgresql_url: str) -> None:
    port = prepare(machine, aws, postgresql_url)
    with started(machine) as process:
        result = machine.run('application', 'wait')
        assert result.returncode == 0, result.stdout
        assert last_line(result.stdout).endswith(f'answers on port {port}')
        phase = machine.boot['phases'][-1]
        assert phase['phase'] == 'application'
        assert phase['seconds'] > 0
        assert requests.get(f'http://127.0.0.1:{port}/', headers={'User-Agent': BROWSER}, timeout=STEP_SECONDS).ok
        stopped = machine.run('application', 'stop')
        assert (stopped.returncode, last_line(stopped.stdout).endswith(': stopped')) == (0, True)
        assert process.wait(STEP_SECONDS) == 0, 'a server that SIGTERM ended succeeds'


def test_an_answer_that_has_begun_is_finished(
        machine: FolderMachine, aws: EmbeddedRehearsal, postgresql_url: str) -> None:
    port = prepare(machine, aws, postgresql_url)
    with started(machine) as process:
        assert machine.run('application', 'wait').returncode == 0
        session = requests.Session()
        session.headers['User-Agent'] = BROWSER
        answers = [session.get(f'http://127.0.0.1:{port}/', timeout=STEP_SECONDS) for _ in range(3)]
        stopping = threading.Thread(target=machine.run, args=('application', 'stop'))
        stopping.start()
        while process.poll() is None:
            try:
                answers.append(session.get(f'http://127.0.0.1:{port}/', timeout=STEP_SECONDS))
            except requests.ConnectionError:
                break  # refused, because no process listens; not cut off half-way
        stopping.join()
        assert {answer.status_code for answer in answers} == {200}
        assert process.wait(STEP_SECONDS) == 0


def test_a_container_may_do_no_more_than_it_needs(
        machine: FolderMachine, aws: EmbeddedRehearsal, postgresql_url: str) -> None:
    prepare(machine, aws, postgresql_url)
    with started(machine):
        assert machine.run('application', 'wait').returncode == 0
    call = run_of(machine, 'visitors')
    assert set(HARDENED) <= set(call)
    assert value_of(call, '--tmpfs').startswith('/tmp:')
    assert value_of(call, '--memory') == value_of(call, '--memory-swap')
    assert call[-1] == IMAGE_ID, 'the image is named by its content, and its own command runs'
    assert [option for option in call if option.startswith('--mount=')] == [
        f'--mount=type=bind,source={machine.root}{folder},target={folder},readonly'
        for folder in ('/run/visitors/secrets/application', '/run/visitors/requests')]


def test_a_process_list_and_a_container_show_no_secret(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                       postgresql_url: str) -> None:
    put_settings(aws, MIGRATION_DATABASE_URL=postgresql_url)
    put_secrets(aws, DATABASE_PASSWORD=PASSWORD, MIGRATION_DATABASE_PASSWORD=OWNER_PASSWORD)
    prepare(machine, aws, postgresql_url)
    with started(machine) as process:
        assert machine.run('application', 'wait').returncode == 0
        environments = [environment_of(pid) for pid in processes_of(process.pid)]
        assert len(environments) >= 3, 'the server and its workers are looked at'
    text = json.dumps([machine.calls('docker'), environments, machine.boot])
    for value in (KEY, PASSWORD, OWNER_PASSWORD):
        assert value not in text
    assert 'MIGRATION_' not in json.dumps([environments, run_of(machine, 'visitors')])
    assert 'secrets/migration' not in json.dumps(run_of(machine, 'visitors'))


def docker_clients(process: WarmProcess) -> list[int]:
    """Return the client that runs a step's container or is attached to it, not one that only inspects it."""
    return [pid for pid in processes_of(process.pid)[1:] if {b'run', b'attach'} & words_of(pid)]


def words_of(pid: int) -> set[bytes]:
    try:
        with open(f'/proc/{pid}/cmdline', 'rb') as file:
            words = file.read().split(b'\0')
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return set(words) if any(word.endswith(b'/stand_in.py') for word in words) else set()


def answers_during(port: int, act: Callable[[], None]) -> set[int]:
    """Return the status of every answer during an event; each request has a connection of its own."""
    statuses: list[int] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            statuses.append(requests.get(f'http://127.0.0.1:{port}/livez', timeout=STEP_SECONDS).status_code)

    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(ask)
        try:
            act()
        finally:
            is_over.set()
        asking.result()
    return set(statuses)


def test_an_engine_that_dies_again_and_again_interrupts_no_answer_and_ends_nothing(
        machine: FolderMachine, aws: EmbeddedRehearsal, postgresql_url: str) -> None:
    port = prepare(machine, aws, postgresql_url)
    with started(machine) as process:
        assert machine.run('application', 'wait').returncode == 0

        def lose_the_client_six_times() -> None:
            for number in range(6):
                eventually(lambda: len(docker_clients(process)) == 1, 'a client follows the container')
                os.kill(docker_clients(process)[0], signal.SIGKILL)
                eventually(lambda: len(attachments(machine)) == number + 1, 'it is attached to again')

        assert answers_during(port, lose_the_client_six_times) == {200}
        assert process.poll() is None, 'the unit has not died, so systemd counts nothing'
        assert machine.run('application', 'stop').returncode == 0
        assert process.wait(STEP_SECONDS) == 0
    assert run_of(machine, 'visitors'), 'it was started once'


def attachments(machine: FolderMachine) -> list[list[str]]:
    return [call for call in machine.calls('docker') if call[0] == 'attach']


def test_a_live_container_of_the_right_image_is_adopted(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                        postgresql_url: str) -> None:
    port = prepare(machine, aws, postgresql_url)
    with started(machine) as killed:
        assert machine.run('application', 'wait').returncode == 0
        (client,) = docker_clients(killed)
        killed.kill()
        os.kill(client, signal.SIGKILL)
        killed.wait(STEP_SECONDS)
        with started(machine) as process:
            eventually(lambda: bool(attachments(machine)), 'the container is attached to')
            assert requests.get(f'http://127.0.0.1:{port}/livez', timeout=STEP_SECONDS).ok
            assert run_of(machine, 'visitors'), 'the first start is the only one'
            process.terminate()
            assert process.wait(STEP_SECONDS) == 0, 'a signal reaches a container that was adopted'


def test_a_live_container_of_another_image_is_stopped_before_it_is_removed(
        machine: FolderMachine, aws: EmbeddedRehearsal, postgresql_url: str) -> None:
    prepare(machine, aws, postgresql_url)
    with started(machine) as killed:
        assert machine.run('application', 'wait').returncode == 0
        (client,) = docker_clients(killed)
        killed.kill()
        os.kill(client, signal.SIGKILL)
        before = verbs_of(machine).count('run')
        (machine.programs / 'visitors.image').write_text(f'sha256:{"0" * 64}', encoding='utf-8')
        with started(machine):
            eventually(lambda: verbs_of(machine).count('run') == before + 1, 'another container is started')
            assert machine.run('application', 'wait').returncode == 0
    verbs = verbs_of(machine)
    assert 'attach' not in verbs
    last = len(verbs) - verbs[::-1].index('run')
    assert verbs[last - 3:last] == ['stop', 'rm', 'run']


def verbs_of(machine: FolderMachine) -> list[str]:
    return [call[0] for call in machine.calls('docker')]


def test_an_engine_that_does_not_come_back_ends_the_unit_for_good(machine: FolderMachine,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    machine.answer_docker({'container inspect': {'code': 1, 'stderr': 'Cannot connect to the Docker daemon\n'}})
    machine.enter(monkeypatch)
    monkeypatch.setattr('instance.follow.ENGINE_SECONDS', 1)
    assert follow.main('visitors', ['false']) == follow.ENGINE_LOST


def processes_of(pid: int) -> list[int]:
    output = subprocess.run(['ps', '-e', '-o', 'pid=,ppid='], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in output.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    pids = [pid]
    for each in pids:
        pids += children.get(each, [])
    return pids


def environment_of(pid: int) -> str:
    with open(f'/proc/{pid}/environ', encoding='utf-8', errors='replace') as file:
        return file.read()


def test_another_image_than_the_baked_one_is_not_started(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                         postgresql_url: str) -> None:
    prepare(machine, aws, postgresql_url)
    machine.write('etc/visitors/image.json', json.dumps({**IMAGE, 'id': f'sha256:{"1" * 64}'}))
    result = machine.run('application', 'start')
    assert result.returncode == 1
    assert f'has the id {IMAGE_ID}, and not sha256:{"1" * 64} as in image.json' in last_line(result.stdout)
    assert machine.boot['failure']['phase'] == 'application'


@pytest.mark.parametrize(('text', 'says'), [
    ('{"image": "a", "id": "sha256:1", "version": "1"}', "'sha256:1' is not the id of an image"),
    ('{"image": "a"}', 'must hold image, id and version as JSON'),
    ('[]', 'must hold image, id and version as JSON'),
    ('', 'must hold image, id and version as JSON'),
])
def test_a_bad_description_of_the_image_is_named(machine: FolderMachine, text: str, says: str) -> None:
    machine.write('etc/visitors/image.json', text)
    result = machine.run('application', 'start')
    assert result.returncode == 1
    assert says in last_line(result.stdout)


def test_leftovers_of_a_killed_engine_are_removed_first(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                        postgresql_url: str) -> None:
    prepare(machine, aws, postgresql_url)
    with started(machine):
        assert machine.run('application', 'wait').returncode == 0
    calls = [call[:3] for call in machine.calls('docker')]
    assert calls[-2] == ['rm', '--force', 'visitors']
    assert calls[-1][0] == 'run'


def test_an_application_that_has_ended_is_not_waited_for(machine: FolderMachine, aws: EmbeddedRehearsal,
                                                         postgresql_url: str) -> None:
    prepare(machine, aws, postgresql_url)
    machine.answer_systemctl({'visitors.service': {'ActiveState': 'failed'}})
    machine.install('journalctl', 'echo "bad setting: THREADS=many: use a whole number from 1 to 64"')
    begun = time.monotonic()
    result = machine.run('application', 'wait')
    assert result.returncode == 1
    assert 'it ended before it answered: bad setting: THREADS=many' in last_line(result.stdout)
    assert time.monotonic() - begun < 59, 'the time for an answer is a minute'


def test_a_bad_setting_ends_the_application_with_the_code_that_is_not_tried_again(
        machine: FolderMachine, aws: EmbeddedRehearsal, postgresql_url: str) -> None:
    put_settings(aws, THREADS='many')
    put_settings(aws, DATABASE_URL=postgresql_url)
    put_secrets(aws, VISITOR_KEY=KEY)
    assert machine.run('config').returncode == 0
    with started(machine) as process:
        assert process.wait(STEP_SECONDS) == 1


def test_stopping_a_stopped_application_succeeds(machine: FolderMachine) -> None:
    result = machine.run('application', 'stop')
    assert (result.returncode, last_line(result.stdout).endswith(': stopped')) == (0, True)


def test_an_engine_that_cannot_stop_it_is_named(machine: FolderMachine) -> None:
    machine.answer_docker({'stop': {'code': 1, 'stderr': 'Cannot connect to the Docker daemon\n'}})
    result = machine.run('application', 'stop')
    assert result.returncode == 1
    assert last_line(result.stdout).endswith('docker stop visitors: Cannot connect to the Docker daemon')


@pytest.mark.parametrize(('processors', 'workers'), [(1, 2), (2, 2), (3, 3), (8, 8), (64, 8)])
def test_workers_follow_from_the_processors(processors: int, workers: int) -> None:
    assert Size(processors, 1 << 30).workers == workers


@pytest.mark.parametrize(('memory', 'left'), [(1024, 704), (2048, 1728), (16384, 14745), (512, 192)])
def test_the_memory_limit_leaves_room_for_the_system(memory: int, left: int) -> None:
    assert Size(2, memory * MEBIBYTE).application_memory // MEBIBYTE == left


def test_a_machine_that_is_too_small_is_refused() -> None:
    with pytest.raises(StepFailed, match='this instance has 511 MiB of memory; the application needs 512 MiB'):
        Size(2, 511 * MEBIBYTE).application_memory


def test_a_terminated_step_ends_the_server(
        machine: FolderMachine, aws: EmbeddedRehearsal, postgresql_url: str) -> None:
    prepare(machine, aws, postgresql_url)
    with started(machine) as process:
        assert machine.run('application', 'wait').returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(STEP_SECONDS) == 0
