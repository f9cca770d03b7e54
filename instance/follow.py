"""A container is followed to its own end: its docker client may die with the engine, while the container lives on."""

from collections.abc import Sequence
import signal
import subprocess
import sys
import time
from types import FrameType

# Standard library only: the process stays for as long as its container does.
# systemd starts an engine that has died within seconds; with live-restore its containers run on meanwhile.
ENGINE_SECONDS = 120.0
POLL_SECONDS = 0.2
ASK_SECONDS = 30
ENGINE_LOST, UNKNOWN, INTERRUPTED = 1, 125, 128


class EngineLost(Exception):
    """The engine has not answered for so long that its containers cannot be managed any longer."""


class Follower:
    def __init__(self, name: str) -> None:
        """Follow the container of this name."""
        self._name = name
        self._client: subprocess.Popen[bytes] | None = None
        self._ended_by = 0

    def follow(self, command: Sequence[str]) -> int:
        """Run the client that starts a container, or attaches to it, and return the container's exit code."""
        is_attached = command == attach(self._name)
        while not self._ended_by:
            self._client = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            code = self._client.wait()
            if self._ended_by or not image_of(self._name):
                # A container's 1 is a bad setting, for which a new start is no cure; that of `attach` is only its own.
                return UNKNOWN if is_attached and code == 1 else code
            print(f'the docker client of {self._name} ended with {code}, its container runs on', file=sys.stderr,
                  flush=True)
            time.sleep(POLL_SECONDS)
            command, is_attached = attach(self._name), True
        return INTERRUPTED + self._ended_by

    def end(self, number: int, _frame: FrameType | None) -> None:
        """Pass a signal on to the client, which passes it on to the container."""
        self._ended_by = number
        if self._client and self._client.poll() is None:
            self._client.send_signal(number)


def image_of(name: str) -> str:
    """Return the id of the image of a running container, nothing where none runs; waits for the engine to answer."""
    command = ('docker', 'container', 'inspect', '--format={{.State.Running}} {{.Image}}', name)
    until = time.monotonic() + ENGINE_SECONDS
    while True:
        failure = f'{" ".join(command)} did not end within {ASK_SECONDS} s'
        try:
            asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                                   timeout=ASK_SECONDS)
            if not asked.returncode:
                running, image = asked.stdout.split()
                return image if running == 'true' else ''
            failure = asked.stderr.strip()
        except subprocess.TimeoutExpired:
            pass
        if 'no such container' in failure.lower():
            return ''
        if time.monotonic() > until:
            raise EngineLost(f'the engine has not answered for {ENGINE_SECONDS:.0f} s: {failure}')
        time.sleep(POLL_SECONDS)


def attach(name: str) -> list[str]:
    """Return the command that follows a container that runs already."""
    return ['docker', 'attach', '--no-stdin', name]


def main(name: str, command: Sequence[str]) -> int:
    """Follow a container and return its exit code."""
    follower = Follower(name)
    signal.signal(signal.SIGTERM, follower.end)
    try:
        return follower.follow(command)
    except (EngineLost, OSError) as error:
        print(f'{name}: {error}', file=sys.stderr, flush=True)
        return ENGINE_LOST


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], sys.argv[2:]))
