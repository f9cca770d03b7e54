"""stand_in.py PROGRAM FOLDER ARGUMENT...: take the place of docker or systemctl, and write down how it was called.

The process that docker runs is real: the application of this working copy with the environment that the container
would have, and with its secrets where they are mounted from. The knowledge of systemctl is in systemctl.json, which a
test may change.
"""

from collections.abc import Sequence
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.warm import WarmProcess

ROOT = Path(__file__).resolve().parents[2]
GUNICORN = [sys.executable, '-m', 'gunicorn', '--config', 'gunicorn.conf.py', 'app:create_app()']


def docker(folder: Path, arguments: Sequence[str]) -> int:
    """Act as the engine, as far as instances use it."""
    answers = json.loads((folder / 'docker.json').read_text(encoding='utf-8'))
    answer = answers.get(' '.join(arguments[:2])) or answers.get(arguments[0])
    if answer:
        sys.stdout.write(answer.get('stdout', ''))
        sys.stderr.write(answer.get('stderr', ''))
        sys.stderr.flush()
        touch(answer.get('begins'))
        wait_for(answer.get('until'))
        touch(answer.get('touches'))
        return int(answer.get('code', 0))
    if arguments[0] == 'run':
        return run(folder, arguments)
    if arguments[0] == 'attach':
        return attach(folder, arguments[-1])
    if arguments[0] == 'stop':
        return stop(folder, arguments[-1])
    if arguments[:2] == ['container', 'inspect'] and is_running(folder, arguments[-1]):
        print('true', (folder / f'{arguments[-1]}.image').read_text(encoding='utf-8'))
        return 0
    sys.stderr.write(f'Error: No such container: {arguments[-1]}\n')
    return 1


def wait_for(file: str | None) -> None:
    """Wait for a file: an answer takes as long as the test wants, however slow the machine is."""
    while file and not os.path.exists(file):
        time.sleep(0.02)


def touch(file: str | None) -> None:
    """Make the file that another answer, or the test, waits for."""
    if file:
        Path(file).touch()


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Run the application, or a command of it, as a container of its image would."""
    options = [argument for argument in arguments if argument.startswith('--')]
    image = next(number for number, argument in enumerate(arguments) if argument.startswith('sha256:'))
    command = list(arguments[image + 1:])
    name = next(option for option in options if option.startswith('--name=')).removeprefix('--name=')
    process = start(command[1:], environment(options))
    (folder / f'{name}.pid').write_text(str(process.pid), encoding='utf-8')
    (folder / f'{name}.image').write_text(arguments[image], encoding='utf-8')
    signal.signal(signal.SIGTERM, lambda *_: os.kill(process.pid, signal.SIGTERM))
    code = process.wait()
    return 128 - code if code < 0 else code


def start(command: list[str], variables: dict[str, str]) -> 'subprocess.Popen[bytes] | WarmProcess':
    """Start a flask command warm, or else the server cold, because tests look at its processes."""
    if not command:
        return subprocess.Popen(GUNICORN, cwd=ROOT, env=variables)
    from tests.support.warm import WarmProcess  # most calls need none of it
    return WarmProcess(['flask', '--app', 'app', *command], variables, sys.stdout.buffer, sys.stderr.buffer,
                       server=os.environ['WARM_APPLICATION'])


def attach(folder: Path, name: str) -> int:
    """Wait for the end of a container that an earlier call has started; signals are passed on to it."""
    signal.signal(signal.SIGTERM, lambda *_: stop(folder, name))
    while is_running(folder, name):
        time.sleep(0.1)
    return 0


def is_running(folder: Path, name: str) -> bool:
    """Return whether the process of a container lives."""
    try:
        pid = (folder / f'{name}.pid').read_text(encoding='utf-8')
        state = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != 'Z'


def environment(options: Sequence[str]) -> dict[str, str]:
    """Return the environment of the container: the files' and the image's, and nothing of the caller's."""
    file = next(option for option in options if option.startswith('--env-file=')).removeprefix('--env-file=')
    variables = dict(line.split('=', 1) for line in Path(file).read_text(encoding='utf-8').rstrip('\n').split('\n'))
    for mount in (option for option in options if option.startswith('--mount=')):
        parts = dict(part.split('=', 1) for part in mount.removeprefix('--mount=').split(',') if '=' in part)
        variables = {name: value.replace(parts['target'], parts['source']) for name, value in variables.items()}
    kept = {name: value for name, value in os.environ.items() if name.startswith('COVERAGE_')}
    return {**kept, 'PATH': '/usr/bin:/bin', 'FLASK_SKIP_DOTENV': '1', 'PYTHONUNBUFFERED': '1', **variables}


def stop(folder: Path, name: str) -> int:
    """Send a container the signal to end."""
    try:
        os.kill(int((folder / f'{name}.pid').read_text(encoding='utf-8')), signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError):
        sys.stderr.write(f'Error response from daemon: No such container: {name}\n')
        return 1
    return 0


def systemctl(folder: Path, arguments: Sequence[str]) -> int:
    """Show the units of systemctl.json, turn nothing off."""
    units = json.loads((folder / 'systemctl.json').read_text(encoding='utf-8'))
    if units.get('broken'):
        sys.stderr.write('Failed to connect to bus\n')
        return 1
    if arguments[0] == 'list-units':
        sys.stdout.write(''.join(f'{unit} loaded failed failed it\n' for unit in units.get('failed', ())))
    if arguments[0] == 'show':
        unit = '' if arguments[-1].startswith('--') else arguments[-1]
        wanted = [argument.removeprefix('--property=') for argument in arguments if argument.startswith('--property=')]
        shown = units.get(unit, {})
        sys.stdout.write(''.join(f'{name}={shown[name]}\n' for name in wanted if name in shown))
    return 0


def main(program: str, folder: Path, arguments: Sequence[str]) -> int:
    """Record a call, then act as the program."""
    with (folder / 'calls').open('a', encoding='utf-8') as file:
        file.write(json.dumps([program, *arguments]) + '\n')
    return {'docker': docker, 'systemctl': systemctl}[program](folder, arguments)


if __name__ == '__main__':
    sys.path.append(str(ROOT))
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
