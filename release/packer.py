"""Packer as a child process: start it, follow its output, interrupt it once, and leave nothing of it running."""

from collections.abc import Mapping, Sequence
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
from release.packer_output import PackerOutput
from release.progress import Progress
from release.waiting import Deadline

TEMPLATE = 'packer'
# Packer removes its resources when it is interrupted once; AWS needs minutes to terminate an instance.
CANCEL_SECONDS = 240.0
TICK_SECONDS = 1.0
INSTALL_ADVICE = "install Debian's package `packer`, or a newer one from https://developer.hashicorp.com/packer"


@dataclass(frozen=True)
class Build:
    """One build of the template: its name, its variables, and the folder of its output."""

    name: str
    variables: Mapping[str, str | Sequence[str]]
    folder: Path

    @property
    def log(self) -> Path:
        """The file with Packer's whole output."""
        return self.folder / 'packer.log'

    @property
    def manifest(self) -> Path:
        """The file in which Packer lists its AMIs."""
        return self.folder / 'manifest.json'


class Packer:
    """Packer with the template of one checkout."""

    def __init__(self, root: Path, environ: Mapping[str, str], progress: Progress) -> None:
        """Prepare to run Packer in a checkout."""
        self._root = root
        self._environ = environ
        self._progress = progress
        # Packer 1.6 only: the names of its key pairs and security groups, which it does not tag.
        self.untagged: list[str] = []

    def build(self, build: Build, deadline: Deadline) -> str:
        """Return the id of the AMI that Packer made; raise ToolFailed with the reason if it failed."""
        build.folder.mkdir(parents=True, exist_ok=True)
        path = build.folder / 'variables.pkrvars.json'
        variables = {**build.variables, 'manifest': str(build.manifest)}
        path.write_text(json.dumps(variables, indent=2), encoding='utf-8')
        build.manifest.unlink(missing_ok=True)
        command = [*_interrupted_with_parent(self._environ), find(self._environ), 'build', '-color=false',
                   f'-only={build.name}.*', f'-var-file={path}', TEMPLATE]
        output = PackerOutput()
        try:
            code = self._run(command, build, output, deadline)
        finally:
            self.untagged += output.untagged
        if code:
            raise ToolFailed(f'Packer ended with {code}: {output.failure}\nits whole output: {build.log}')
        return ami_in(build.manifest)

    def _run(self, command: Sequence[str], build: Build, output: PackerOutput, deadline: Deadline) -> int:
        program = _Program(command, self._root, environment(self._environ), build.log)
        try:
            self._follow(program, build.name, output, deadline)
        finally:
            self._end(program, output)
            code = program.reap()
        return code

    def _follow(self, program: '_Program', name: str, output: PackerOutput, deadline: Deadline) -> None:
        """Show each part of the bake as a phase until Packer closes its output."""
        while not program.is_silent:
            part = output.part
            with self._progress.phase(f'{name}: {part}'):
                while not program.is_silent and output.part == part:
                    self._read(program, output)
                    deadline.check(f'Packer ({output.step or part})')

    def _read(self, program: '_Program', output: PackerOutput) -> None:
        if output.step:
            self._progress.step(output.step)
        line = program.line()
        if line:
            output.read(line)

    def _end(self, program: '_Program', output: PackerOutput) -> None:
        """Interrupt Packer if it still runs, and wait while it cleans up."""
        if program.is_silent:
            return
        self._progress.note('interrupting Packer, which then removes its resources')
        program.interrupt()
        deadline = Deadline(CANCEL_SECONDS)
        while not program.is_silent and deadline.left:
            self._read(program, output)
        if not program.is_silent:
            self._progress.note(f'killing Packer, because it did not end within {CANCEL_SECONDS:.0f} s')


class _Program:
    """A running program whose output is written to a file and read line by line."""

    def __init__(self, command: Sequence[str], folder: Path, environ: Mapping[str, str], log: Path) -> None:
        """Start the program."""
        # In a session of its own, because Ctrl-C on a terminal would reach Packer too: a second interrupt makes it
        # exit without removing anything.
        self._process = subprocess.Popen(command, cwd=folder, env=environ, text=True, errors='replace',
                                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                         start_new_session=True)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.is_silent = False
        self._reader = threading.Thread(target=self._read, args=(log,), daemon=True)
        self._reader.start()

    def line(self) -> str:
        """Return the next line; empty if none comes within a second, or after the last one."""
        try:
            line = self._lines.get(timeout=TICK_SECONDS)
        except queue.Empty:
            return ''
        self.is_silent = line is None
        return line or ''

    def interrupt(self) -> None:
        """Send SIGINT to the program."""
        os.kill(self._process.pid, signal.SIGINT)  # Popen.send_signal would reap it, which frees its process id

    def reap(self) -> int:
        """Return the program's exit code, and kill its remaining children."""
        deadline = Deadline(TICK_SECONDS)
        while deadline.left and not os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(TICK_SECONDS / 20)
        # The whole session, before the system can reuse its process id.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join(TICK_SECONDS)
        return self._process.wait()

    def _read(self, log: Path) -> None:
        assert self._process.stdout
        with log.open('w', encoding='utf-8') as file, self._process.stdout as output:
            for line in output:
                file.write(line)
                file.flush()
                self._lines.put(line.rstrip('\n'))
        self._lines.put(None)


def find(environ: Mapping[str, str]) -> str:
    """Return the path of Packer; raise ToolFailed if it is not installed."""
    path = shutil.which('packer', path=environment(environ).get('PATH'))
    if not path:
        raise ToolFailed(f'Packer is not installed; {INSTALL_ADVICE}')
    return path


def _interrupted_with_parent(environ: Mapping[str, str]) -> list[str]:
    """Return a prefix that makes the kernel interrupt Packer when this process is killed and cannot do it itself."""
    path = shutil.which('setpriv', path=environ.get('PATH'))
    return [path, '--pdeathsig', 'INT'] if path else []


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Packer finds this Python's Ansible, and does not check for new versions."""
    programs = str(Path(sys.executable).parent)
    return {'CHECKPOINT_DISABLE': '1', 'PYTHONUNBUFFERED': '1', **environ,
            'PATH': os.pathsep.join([programs, environ.get('PATH', os.defpath)]), 'ANSIBLE_NOCOLOR': '1'}


def ami_in(manifest: Path) -> str:
    """Return the id of the last AMI in a manifest; Packer appends to a manifest, so earlier ones may precede it."""
    try:
        builds = json.loads(manifest.read_text(encoding='utf-8'))['builds']
        return str(builds[-1]['artifact_id'].rpartition(':')[2])
    except (OSError, ValueError, LookupError) as error:
        raise ToolFailed(f'Packer reports success, but {manifest} names no AMI ({error!r})') from None
