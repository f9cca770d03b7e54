"""A process that follows a container to its end: a docker client may die with the engine, the container lives on."""

from collections.abc import Sequence
import signal
import subprocess
import sys
import time
from types import FrameType

# Only the standard library is imported, because the process lives as long as its container.
# systemd restarts a dead engine within seconds; with live-restore its containers run on meanwhile.
ENGINE_SECONDS = 120.0
POLL_SECONDS = 0.2
INSPECT_SECONDS = 30
ENGINE_LOST, UNKNOWN, INTERRUPTED = 1, 125, 128


class EngineLost(Exception):
    """The failure of an engine that has not answered for so long that its containers are out of control."""


class Follower:
    """The docker client of one container, replaced by another one for as long as the container runs."""

    def __init__(self, name: str) -> None:
        """Keep the name of the container."""
        self._name = name
        self._client: subprocess.Popen[bytes] | None = None
        self._signal = 0

    def follow(self, command: Sequence[str]) -> int:
        """Run the client that starts the container, or attaches to it, and return the container's exit code."""
        is_attached = command == attach(self._name)
        while not self._signal:
            self._client = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            code = self._client.wait()
            if self._signal or not image_of(self._name):
                # Exit code 1 of a container means a bad setting, so systemd does not restart the unit after it. Exit
                # code 1 of `docker attach` is the client's own and says nothing about the container.
                return UNKNOWN if is_attached and code == 1 else code
            print(f'the docker client of {self._name} ended with {code}; the container is still running',
                  file=sys.stderr, flush=True)
            time.sleep(POLL_SECONDS)
            command, is_attached = attach(self._name), True
        return INTERRUPTED + self._signal

    def end(self, number: int, _frame: FrameType | None) -> None:
        """Forward a signal to the client, which forwards it to the container."""
        self._signal = number
        if self._client and self._client.poll() is None:
            self._client.send_signal(number)


def image_of(name: str) -> str:
    """Return the image id of a running container, nothing if it does not run; wait until the engine answers."""
    command = ('docker', 'container', 'inspect', '--format={{.State.Running}} {{.Image}}', name)
    end = time.monotonic() + ENGINE_SECONDS
    while True:
        failure = f'{" ".join(command)} did not end within {INSPECT_SECONDS} s'
        try:
            result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                                    timeout=INSPECT_SECONDS)
            if not result.returncode:
                running, image = result.stdout.split()
                return image if running == 'true' else ''
            failure = result.stderr.strip()
        except subprocess.TimeoutExpired:
            pass
        if 'no such container' in failure.lower():
            return ''
        if time.monotonic() > end:
            raise EngineLost(f'the engine has not answered for {ENGINE_SECONDS:.0f} s: {failure}')
        time.sleep(POLL_SECONDS)


def attach(name: str) -> list[str]:
    """Return the command that attaches to a running container."""
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
