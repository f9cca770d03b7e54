"""Packer as a program of ours: told what to build, watched while it does, interrupted once, and never left behind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import json
import os
from pathlib import Path
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time

from release.errors import ToolFailed
from release.progress import Progress
from release.transcript import Transcript
from release.waiting import Deadline

TEMPLATE = 'packer'
# Packer removes what it has made when it is interrupted once; terminating an instance takes minutes on AWS.
CANCEL_SECONDS = 240.0
TICK_SECONDS = 1.0
INSTALL_ADVICE = "install Debian's package `packer`, or a newer one from https://developer.hashicorp.com/packer"


@dataclass(frozen=True)
class Build:
    """One build that Packer is to make: which, with which variables, and where its output goes."""

    name: str
    variables: Mapping[str, str | Sequence[str]]
    folder: Path

    @property
    def log(self) -> Path:
        """The file that everything it prints goes to."""
        return self.folder / 'packer.log'

    @property
    def manifest(self) -> Path:
        """The file in which it says what it has made."""
        return self.folder / 'manifest.json'


class Packer:
    def __init__(self, root: Path, environ: Mapping[str, str], progress: Progress) -> None:
        """Run the template of a checkout."""
        self._root = root
        self._environ = environ
        self._progress = progress
        self.temporary: list[str] = []

    def build(self, build: Build, deadline: Deadline, meanwhile: Callable[[], None]) -> str:
        """Return the id of the image that it has made; raise ToolFailed with the reason otherwise."""
        build.folder.mkdir(parents=True, exist_ok=True)
        variables = build.folder / 'variables.pkrvars.json'
        told = {**build.variables, 'manifest': str(build.manifest)}
        variables.write_text(json.dumps(told, indent=2), encoding='utf-8')
        build.manifest.unlink(missing_ok=True)
        command = [*_tied_to_us(self._environ), find(self._environ), 'build', '-color=false', f'-only={build.name}.*',
                   f'-var-file={variables}', TEMPLATE]
        transcript = Transcript()
        try:
            code = self._run(command, build, transcript, deadline, meanwhile)
        finally:
            self.temporary += transcript.temporary
        if code:
            raise ToolFailed(f'Packer ended with {code}: {transcript.failure}\nall that it has printed: {build.log}')
        return made(build.manifest)

    def _run(self, command: Sequence[str], build: Build, transcript: Transcript, deadline: Deadline,
             meanwhile: Callable[[], None]) -> int:
        program = _Program(command, self._root, environment(self._environ), build.log)
        try:
            self._follow(program, build.name, transcript, deadline, meanwhile)
        finally:
            self._end(program, transcript)
            code = program.reap()
        return code

    def _follow(self, program: '_Program', name: str, transcript: Transcript, deadline: Deadline,
                meanwhile: Callable[[], None]) -> None:
        """Return when Packer has nothing more to say, having shown each part of the bake as a phase."""
        while not program.is_silent:
            part = transcript.part
            with self._progress.phase(f'{name}: {part}'):
                while not program.is_silent and transcript.part == part:
                    self._hear(program, transcript)
                    meanwhile()
                    deadline.check(f'Packer, {transcript.doing or part}')

    def _hear(self, program: '_Program', transcript: Transcript) -> None:
        if transcript.doing:
            self._progress.step(transcript.doing)
        line = program.line()
        if line:
            transcript.hear(line)

    def _end(self, program: '_Program', transcript: Transcript) -> None:
        """Let Packer clean up where it was left in the middle."""
        if program.is_silent:
            return
        self._progress.note('interrupting Packer, which then removes what it has made')
        program.interrupt()
        deadline = Deadline(CANCEL_SECONDS)
        while not program.is_silent and deadline.left:
            self._hear(program, transcript)
        if not program.is_silent:
            self._progress.note(f'Packer has not ended within {CANCEL_SECONDS:.0f} s, and is killed')


class _Program:
    def __init__(self, command: Sequence[str], folder: Path, environ: Mapping[str, str], log: Path) -> None:
        """Start a program whose lines are kept in a file."""
        # In a session of its own: Ctrl-C on a terminal would reach it too, and a second one makes it leave everything.
        self._process = subprocess.Popen(command, cwd=folder, env=environ, text=True, errors='replace',
                                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                         start_new_session=True)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.is_silent = False
        self._reader = threading.Thread(target=self._read, args=(log,), daemon=True)
        self._reader.start()

    def line(self) -> str:
        """Return the next line; nothing when there is none within a second, or none any more."""
        try:
            line = self._lines.get(timeout=TICK_SECONDS)
        except queue.Empty:
            return ''
        self.is_silent = line is None
        return line or ''

    def interrupt(self) -> None:
        """Ask the program to end."""
        os.kill(self._process.pid, signal.SIGINT)  # Popen's own way would reap it, and its number be free

    def reap(self) -> int:
        """Return the exit code of the program, and end what it may have left running."""
        deadline = Deadline(TICK_SECONDS)
        while deadline.left and not os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(TICK_SECONDS / 20)
        # All of its session, before its number can be given to another process.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join(TICK_SECONDS)
        return self._process.wait()

    def _read(self, log: Path) -> None:
        assert self._process.stdout
        with log.open('w', encoding='utf-8') as kept, self._process.stdout as printed:
            for line in printed:
                kept.write(line)
                kept.flush()
                self._lines.put(line.rstrip('\n'))
        self._lines.put(None)


def find(environ: Mapping[str, str]) -> str:
    """Return the path of the program; raise ToolFailed where there is none."""
    found = shutil.which('packer', path=environment(environ).get('PATH'))
    if not found:
        raise ToolFailed(f'Packer is not installed; {INSTALL_ADVICE}')
    return found


def _tied_to_us(environ: Mapping[str, str]) -> list[str]:
    """Return what lets the kernel interrupt Packer when this process is killed, which then cannot do it itself."""
    found = shutil.which('setpriv', path=environ.get('PATH'))
    return [found, '--pdeathsig', 'INT'] if found else []


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Packer finds the Ansible of this Python, and asks nobody about new versions."""
    programs = str(Path(sys.executable).parent)
    return {'CHECKPOINT_DISABLE': '1', 'PYTHONUNBUFFERED': '1', **environ,
            'PATH': os.pathsep.join([programs, environ.get('PATH', os.defpath)]), 'ANSIBLE_NOCOLOR': '1'}


def made(manifest: Path) -> str:
    """Return the id of the image that a manifest tells of last; manifests grow, and tell of earlier builds as well."""
    try:
        builds = json.loads(manifest.read_text(encoding='utf-8'))['builds']
        return str(builds[-1]['artifact_id'].rpartition(':')[2])
    except (OSError, ValueError, LookupError) as error:
        raise ToolFailed(f'Packer says that it has ended well, but {manifest} names no image ({error!r})') from None
