"""The progress display: lines with seconds in a file, one moving line on a terminal."""

import io
import re

from hypothesis import given
from hypothesis import strategies as st
import pytest
from rich.console import Console

from release.control_characters import CONTROL
from release.progress import Lines, Progress, Terminal, View


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.now = 0.0

    def __call__(self) -> float:
        """Return the seconds so far."""
        return self.now


def test_lines_hold_the_seconds_the_phase_and_the_step() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(Lines(out, clock), clock)
    with progress.phase('bake'):
        clock.now = 1.5
        progress.step('install')
        clock.now = 61.25
    assert out.getvalue().splitlines() == [
        '    0.0 s  bake', '    1.5 s  bake: install', '   61.2 s  bake: took 61.2 s']
    assert [(phase.name, phase.seconds) for phase in progress.phases] == [('bake', 61.25)]


def test_an_unchanged_step_is_repeated_only_after_a_while() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(Lines(out, clock), clock)
    for seconds in range(0, 65, 5):
        clock.now = seconds
        progress.step('waiting')
    assert re.findall(r'([0-9.]+) s', out.getvalue()) == ['0.0', '30.0', '60.0']


def test_a_failed_phase_is_shown_and_counted() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress(Lines(out, clock), clock)
    with pytest.raises(KeyError), progress.phase('bake'):
        raise KeyError
    assert 'bake: failed after 0.0 s' in out.getvalue()
    assert [phase.name for phase in progress.phases] == ['bake']


def test_a_terminal_keeps_finished_phases() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=60, legacy_windows=False)
    progress = Progress(Terminal(console))
    with progress.phase('bake [x]'):
        progress.step('a long step ' * 20)
        progress.note('[bold]not markup')
    with pytest.raises(KeyError), progress.phase('verify'):
        raise KeyError
    text = re.sub(r'\x1b\[[0-9;?]*[a-zA-Z]', '', out.getvalue())
    assert '✓ bake [x] 0.0 s' in text
    assert '[bold]not markup' in text
    assert '✗ verify' in text


@given(st.text(max_size=200))
def test_no_control_character_reaches_the_display(text: str) -> None:
    class Seen(View):
        steps: list[str] = []

        def step(self, text: str) -> None:
            """Remember the step."""
            self.steps.append(text)

    seen = Seen()
    Progress(seen).step(text + '\x1b[2J\x1b[1;31mred\x07\r')
    assert not CONTROL.search(seen.steps[-1])
    assert seen.steps[-1].endswith('red')
