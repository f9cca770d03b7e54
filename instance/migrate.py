"""Step migrate: run `flask schema ready`, which migrates the schema or waits for the instance that does."""

from collections import deque
from collections.abc import Sequence
import re
import subprocess
import sys
import threading
import time

from instance import boot_record, container, lifecycle
from instance.container import Container, run_arguments, Size
from instance.errors import StepFailed
from instance.machine import Machine

NAME = 'visitors-migrate'
COMMAND = ('flask', 'schema', 'ready')
# The exit codes of `flask schema ready`; any other code is a defect.
MEANINGS = {
    3: 'the database refuses an operation that the application needs',
    20: 'the migration of this deploy has failed',
    21: 'another instance was migrating for too long, or the database could not be used',
    22: 'this image does not fit the schema',
    23: 'the database uses another time zone than TIME_ZONE',
    24: 'the connection goes through a pooler',
}
# The form of the application's log lines; any other output, such as a traceback, explains less.
MESSAGE = re.compile(r'\S+ \S+ (?:INFO|WARNING|ERROR) schema: (.*)')
KEPT_LINES = 2
REMEMBERED_LINES = 200
# The time that must be left for the rest of the boot.
REST_SECONDS = 300


def run(machine: Machine) -> str:
    """Migrate the schema, or wait for the instance that does."""
    record = boot_record.read(machine.boot_record)
    seconds = record.remaining(time.monotonic()) - REST_SECONDS
    if seconds <= 0:
        raise StepFailed(f'no time is left of the {boot_record.BOOT_SECONDS} s of a boot')

    container.check_image(machine.image)
    container.remove(NAME)
    memory = Size.of_this_instance().application_memory
    command = run_arguments(machine, machine.image,
                            Container(NAME, memory, 'migration', ('application', 'migration')), COMMAND)
    with lifecycle.heartbeats(lifecycle.heartbeat_of(machine, record.instance_id)):
        code, lines = _watch(container.followed(NAME, command), seconds)
    if code:
        raise StepFailed(f'{meaning(code)}: {last_messages(lines)}', code)
    return 'the schema fits'


def meaning(code: int) -> str:
    """Return the meaning of an exit code of the container."""
    if code in (125, 126, 127):
        return f'docker could not run it ({code})'
    return MEANINGS.get(code, f'flask schema ready ended with {code}')


def last_messages(lines: Sequence[str]) -> str:
    """Return the last log messages of the application, or its last lines if it has logged none."""
    messages = [match[1] for match in map(MESSAGE.fullmatch, lines) if match]
    return '; '.join((messages or list(lines))[-KEPT_LINES:]) or 'no output'


def _watch(command: list[str], seconds: float) -> tuple[int, list[str]]:
    """Print the lines of a container, stop it when its time is over, and return its exit code and last lines."""
    last_lines: deque[str] = deque(maxlen=REMEMBERED_LINES)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors='replace') as process:
        late = threading.Event()
        timer = threading.Timer(seconds, _stop, (late,))
        timer.daemon = True
        timer.start()
        try:
            assert process.stdout
            for line in process.stdout:
                print(line, end='', file=sys.stderr, flush=True)
                if line.strip():
                    last_lines.append(line.strip())
        except BaseException:
            # SIGTERM ends this step, so its container must end as well.
            container.stop(NAME)
            raise
        finally:
            timer.cancel()
    if late.is_set():
        raise StepFailed(f'the schema was not ready within {seconds:.0f} s: {last_messages(list(last_lines))}')
    return process.returncode, list(last_lines)


def _stop(late: threading.Event) -> None:
    late.set()
    container.stop(NAME)
