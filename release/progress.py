"""The progress display: a moving line on a terminal, plain lines with seconds elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import sys
import time
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from release.control_characters import CONTROL

STILL_SECONDS = 30


@dataclass(frozen=True)
class Phase:
    """A part of the work, and its duration."""

    name: str
    seconds: float


class View:
    """A display of the progress."""

    def begin(self, phase: str) -> None:
        """Show the start of a phase."""

    def step(self, text: str) -> None:
        """Show the current step of the phase."""

    def end(self, phase: Phase, failed: bool) -> None:
        """Show the end of a phase."""

    def note(self, text: str) -> None:
        """Show a permanent line."""


class Lines(View):
    """Plain lines with the seconds since the start; an unchanged step is repeated now and then."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock."""
        self._stream = stream
        self._clock = clock
        self._started = clock()
        self._phase = ''
        self._last = ('', self._started)

    def begin(self, phase: str) -> None:
        """Print the phase's name."""
        self._phase = phase
        self._write(phase)

    def step(self, text: str) -> None:
        """Print a new step at once, and an unchanged one again after a while."""
        if text != self._last[0] or self._clock() - self._last[1] >= STILL_SECONDS:
            self._write(f'{self._phase}: {text}')
            self._last = (text, self._clock())

    def end(self, phase: Phase, failed: bool) -> None:
        """Print the phase's duration."""
        self._write(f'{phase.name}: {"failed after" if failed else "took"} {phase.seconds:.1f} s')

    def note(self, text: str) -> None:
        """Print the line."""
        self._write(text)

    def _write(self, text: str) -> None:
        for line in text.splitlines():
            print(f'{self._clock() - self._started:7.1f} s  {line}', file=self._stream, flush=True)


class Terminal(View):
    """One moving line for the current phase, and above it the finished ones."""

    def __init__(self, console: Console) -> None:
        """Prepare the moving line."""
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
        """Show the step in the moving line, cut to the width of the terminal."""
        if self._task is not None:
            room = max(20, self._console.width - 20)
            self._bars.update(self._task, description=escape(f'{self._phase}: {text}'[:room]))

    def end(self, phase: Phase, failed: bool) -> None:
        """Replace the moving line by a permanent one with the duration."""
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
    """The phases of one session, shown by a view, with their durations."""

    def __init__(self, view: View, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without phases."""
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
        """Show the current step, without control characters."""
        self._view.step(CONTROL.sub('', text).strip())

    def note(self, text: str) -> None:
        """Show a permanent line, without control characters."""
        self._view.note('\n'.join(CONTROL.sub('', line) for line in text.splitlines()))


def progress() -> Progress:
    """Return the progress display for stderr: a terminal or a stream of lines."""
    console = Console(stderr=True)
    return Progress(Terminal(console) if console.is_terminal else Lines(sys.stderr))
