"""The programs of this machine, started with a time limit."""

from dataclasses import dataclass
import subprocess

from instance.errors import StepFailed


@dataclass(frozen=True)
class Outcome:
    """How a program has ended and what it has written."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_words(self) -> str:
        """The last line that says anything; one of its errors, if it has written any."""
        return last_line(self.stderr) or last_line(self.stdout) or 'it said nothing'


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), '')


def outcome(*command: str, seconds: float) -> Outcome:
    """Return how a program has ended; raise StepFailed when there is no such program or it takes too long."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace',
                              timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise StepFailed(f'{" ".join(command)} did not end within {seconds:g} s') from None
    except OSError as error:
        raise StepFailed(f'{command[0]} cannot be started: {error.strerror}') from None
    return Outcome(done.returncode, done.stdout, done.stderr)


def output(*command: str, seconds: float) -> str:
    """Return what a program prints; raise StepFailed with its last words when it does not end well."""
    ended = outcome(*command, seconds=seconds)
    if ended.code:
        raise StepFailed(f'{" ".join(command)} ended with {ended.code}: {ended.last_words}')
    return ended.stdout
