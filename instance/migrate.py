"""Step migrate: the application brings its schema up, together with all other machines, and says whether it fits."""

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
# What `flask schema ready` means by its exit codes; a code that is not here is a defect.
MEANINGS = {
    3: 'the database refuses what the application needs',
    20: 'the migration of this deploy has failed',
    21: 'another machine was migrating for too long, or the database could not be used',
    22: 'this image does not fit the schema',
    23: 'the database counts in another time zone than TIME_ZONE',
    24: 'the connection goes through a pooler',
}
# How the application writes what happens; whatever else it prints, as the lines of a traceback, explains less.
MESSAGE = re.compile(r'\S+ \S+ (?:INFO|WARNING|ERROR) schema: (.*)')
KEPT_LINES = 2
REMEMBERED_LINES = 200
# After this step there must be time for the rest of the boot.
REST_SECONDS = 300


def run(machine: Machine) -> str:
    """Bring the schema up, or wait for the machine that does, and return that it fits."""
    record = boot_record.read(machine.boot_record)
    seconds = record.remaining(time.monotonic()) - REST_SECONDS
    if seconds <= 0:
        raise StepFailed(f'no time is left of the {boot_record.BOOT_SECONDS} s of a boot')

    container.check_image(machine.image)
    container.remove(NAME)
    memory = Size.of_this_machine().application_memory
    command = run_arguments(machine, machine.image,
                            Container(NAME, memory, 'migration', ('application', 'migration')), COMMAND)
    with lifecycle.kept_waiting(lifecycle.heartbeat_of(machine, record.instance_id)):
        code, lines = _watched(container.followed(NAME, command), seconds)
    if code:
        raise StepFailed(f'{meaning(code)}: {last_words(lines)}', code)
    return 'the schema fits'


def meaning(code: int) -> str:
    """Return what an exit code of the container says."""
    if code in (125, 126, 127):
        return f'docker could not run it ({code})'
    return MEANINGS.get(code, f'flask schema ready ended with {code}')


def last_words(lines: Sequence[str]) -> str:
    """Return the last things that the application has said of what it did."""
    messages = [match[1] for match in map(MESSAGE.fullmatch, lines) if match]
    return '; '.join((messages or list(lines))[-KEPT_LINES:]) or 'it said nothing'


def _watched(command: list[str], seconds: float) -> tuple[int, list[str]]:
    """Return how a container has ended and its last lines; all are passed on. One that takes too long is ended."""
    kept: deque[str] = deque(maxlen=REMEMBERED_LINES)
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
                    kept.append(line.strip())
        except BaseException:
            # This step is told to end, so nothing of it may go on without it.
            container.stop(NAME)
            raise
        finally:
            timer.cancel()
    if late.is_set():
        raise StepFailed(f'the schema was not ready within {seconds:.0f} s: {last_words(list(kept))}')
    return process.returncode, list(kept)


def _stop(late: threading.Event) -> None:
    late.set()
    container.stop(NAME)
