"""What is being done, for whoever watches: a moving line on a terminal, plain lines with seconds elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import re
import sys
import time
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

# What a machine's console or a program may print that would move the cursor or ring the bell.
CONTROL = re.compile(r'\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f]')
STILL_SECONDS = 30


@dataclass(frozen=True)
class Phase:
    """A part of the work, and how long it took."""

    name: str
    seconds: float


class View:
    """How progress is shown."""

    def begin(self, phase: str) -> None:
        """Show that a phase begins."""

    def step(self, text: str) -> None:
        """Show what is being done in it now."""

    def end(self, phase: Phase, failed: bool) -> None:
        """Show that it has ended."""

    def note(self, text: str) -> None:
        """Show a line that stays."""


class Lines(View):
    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Show plain lines with the seconds since now; a wait in which nothing changes shows a line now and then."""
        self._stream = stream
        self._clock = clock
        self._started = clock()
        self._phase = ''
        self._last = ('', self._started)

    def begin(self, phase: str) -> None:
        """Write the phase's name."""
        self._phase = phase
        self._write(phase)

    def step(self, text: str) -> None:
        """Write what is new, or the same again when nothing was written for long."""
        if text != self._last[0] or self._clock() - self._last[1] >= STILL_SECONDS:
            self._write(f'{self._phase}: {text}')
            self._last = (text, self._clock())

    def end(self, phase: Phase, failed: bool) -> None:
        """Write how long the phase took."""
        self._write(f'{phase.name}: {"failed after" if failed else "took"} {phase.seconds:.1f} s')

    def note(self, text: str) -> None:
        """Write the line."""
        self._write(text)

    def _write(self, text: str) -> None:
        for line in text.splitlines():
            print(f'{self._clock() - self._started:7.1f} s  {line}', file=self._stream, flush=True)


class Terminal(View):
    def __init__(self, console: Console) -> None:
        """Show the running phase as one moving line, and above it what has ended."""
        self._console = console
        self._bars = Bars(SpinnerColumn(), TextColumn('{task.description}'), TimeElapsedColumn(), console=console,
                          transient=True)
        self._task: TaskID | None = None
        self._phase = ''

    def begin(self, phase: str) -> None:
        """Start the moving line."""
        self._phase = phase
        self._bars.start()
        self._task = self._bars.add_task(escape(phase), total=None)

    def step(self, text: str) -> None:
        """Let the moving line say what is being done, cut where the terminal ends."""
        if self._task is not None:
            room = max(20, self._console.width - 20)
            self._bars.update(self._task, description=escape(f'{self._phase}: {text}'[:room]))

    def end(self, phase: Phase, failed: bool) -> None:
        """Let the line stay, with its seconds."""
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        self._bars.stop()
        sign = '[red]✗[/]' if failed else '[green]✓[/]'
        self._console.print(f'{sign} {escape(phase.name)} [dim]{phase.seconds:.1f} s[/]', highlight=False)

    def note(self, text: str) -> None:
        """Print the line above the moving one."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)


class Progress:
    def __init__(self, view: View, clock: Callable[[], float] = time.monotonic) -> None:
        """Show the phases of one run, and keep how long each took."""
        self._view = view
        self._clock = clock
        self.phases: list[Phase] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Show a phase while the block runs."""
        started = self._clock()
        self._view.begin(name)
        failed = True
        try:
            yield
            failed = False
        finally:
            phase = Phase(name, self._clock() - started)
            self.phases.append(phase)
            self._view.end(phase, failed)

    def step(self, text: str) -> None:
        """Show what is being done now, without what would disturb a terminal."""
        self._view.step(CONTROL.sub('', text).strip())

    def note(self, text: str) -> None:
        """Show a line that stays, without what would disturb a terminal."""
        self._view.note('\n'.join(CONTROL.sub('', line) for line in text.splitlines()))


def progress() -> Progress:
    """Return the progress that fits where this process writes its errors to."""
    console = Console(stderr=True)
    return Progress(Terminal(console) if console.is_terminal else Lines(sys.stderr))
