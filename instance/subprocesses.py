"""Other programs, run with a time limit."""

from dataclasses import dataclass
import subprocess

from instance.errors import StepFailed


@dataclass(frozen=True)
class Outcome:
    """The exit code and the output of a program."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line of stderr, or else of stdout."""
        return last_line(self.stderr) or last_line(self.stdout) or 'no output'


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), '')


def run(*command: str, seconds: float) -> Outcome:
    """Run a program; raise StepFailed if it cannot be started or does not end in time."""
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace',
                                timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise StepFailed(f'{" ".join(command)} did not end within {seconds:g} s') from None
    except OSError as error:
        raise StepFailed(f'{command[0]} cannot be started: {error.strerror}') from None
    return Outcome(result.returncode, result.stdout, result.stderr)


def output(*command: str, seconds: float) -> str:
    """Return the stdout of a program; raise StepFailed with its last line if it fails."""
    outcome = run(*command, seconds=seconds)
    if outcome.code:
        raise StepFailed(f'{" ".join(command)} ended with {outcome.code}: {outcome.last_line}')
    return outcome.stdout
