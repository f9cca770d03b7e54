"""How containers of the application image run on this machine: what they may use, see and never see."""

from collections.abc import Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import sys

from instance import subprocesses, urls
from instance.errors import StepFailed
from instance.machine import Image, Machine

USER = 10001  # the image's
# gunicorn's graceful_timeout is shorter, the unit's TimeoutStopSec longer.
STOP_SECONDS = 15
SECONDS = 60
MEBIBYTE = 1 << 20
# What the system, the engine and the sending of logs need for themselves.
SYSTEM_SHARE = 10
SYSTEM_LEAST = 320 * MEBIBYTE
LEAST = 192 * MEBIBYTE
COMMAND_MEMORY = 256 * MEBIBYTE
WORKERS = range(2, 9)


@dataclass(frozen=True)
class Size:
    """How large this machine is: processors, and bytes of memory."""

    processors: int
    memory: int

    @classmethod
    def of_this_machine(cls) -> 'Size':
        """Return how large the machine is that this runs on."""
        return cls(len(os.sched_getaffinity(0)), os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))

    @property
    def workers(self) -> int:
        """How many processes the server has: one a processor, and two at least, so that one may be replaced."""
        return min(max(self.processors, WORKERS[0]), WORKERS[-1])

    @property
    def application_memory(self) -> int:
        """How many bytes the application may use, so that it dies of a leak and not the machine."""
        left = self.memory - max(SYSTEM_LEAST, self.memory // SYSTEM_SHARE)
        if left < LEAST:
            raise StepFailed(f'this machine has {self.memory // MEBIBYTE} MiB of memory; the application needs '
                             f'{(SYSTEM_LEAST + LEAST) // MEBIBYTE} MiB at least: use a larger instance type')
        return left


@dataclass(frozen=True)
class Container:
    """A container of the application image: its name, its memory, and which kinds of variables and secrets it gets."""

    name: str
    memory: int
    role: str = 'application'
    secrets: tuple[str, ...] = ('application',)


def run_arguments(machine: Machine, image: Image, container: Container, command: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a container in the foreground; nothing of it is secret."""
    return [
        'docker', 'run', '--rm', f'--name={container.name}',
        # The network of the machine: the load balancer's address and port are the application's own, and the
        # metadata service needs no second hop.
        '--network=host',
        '--read-only', '--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=64m',
        '--cap-drop=ALL', '--security-opt=no-new-privileges', '--pids-limit=512',
        f'--memory={container.memory}', f'--memory-swap={container.memory}',
        # By its id, which names its content; no registry is asked.
        '--pull=never',
        # What it writes goes to the unit that started it, and so into the journal, once.
        '--log-driver=none',
        # Nobody reads the image's own check here, and it starts a Python each ten seconds.
        '--no-healthcheck',
        f'--stop-timeout={STOP_SECONDS}',
        f'--env-file={machine.variables(container.role)}',
        *_mounts(machine, container),
        image.image_id, *command,
    ]


def followed(name: str, command: Sequence[str]) -> list[str]:
    """Return the command that runs a docker client for as long as its container lives, whatever the engine does."""
    return [sys.executable, '-m', 'instance.follow', name, *command]


def _mounts(machine: Machine, container: Container) -> list[str]:
    # Folders and not files: a file that is replaced would stay the old one in the container.
    folders = [f'type=bind,source={machine.secrets(role)},target={inside(machine, machine.secrets(role))},readonly'
               for role in container.secrets]
    if container.role == 'application':
        # Writing to a socket needs no file system that can be written to.
        folders.append(f'type=bind,source={machine.requests},target={inside(machine, machine.requests)},readonly')
    if machine.user_data.selftest:
        folders.append(f'type=bind,source={machine.data},target=/app/data')
    if machine.authorities.is_file():
        # A file of the AMI, which is never replaced.
        folders.append(f'type=bind,source={machine.authorities},target={urls.AUTHORITIES},readonly')
    return [f'--mount={folder}' for folder in folders]


def inside(machine: Machine, path: Path) -> Path:
    """Return where a container sees a file of this machine."""
    return Path('/') / path.relative_to(machine.root)


def check_image(image: Image) -> None:
    """Raise StepFailed unless the engine holds the very image that this machine was made with."""
    found = subprocesses.outcome('docker', 'image', 'inspect', '--format={{.Id}}', image.name, seconds=SECONDS)
    if found.code:
        raise StepFailed(f'image {image.name}: {found.last_words}')
    if found.stdout.strip() != image.image_id:
        raise StepFailed(f'image {image.name} has the id {found.stdout.strip()}, and not {image.image_id} as in '
                         'image.json: it is not the one that was baked')


def remove(name: str) -> None:
    """Remove what a machine that lost its power, or an engine that was killed, has left of a container.

    A running one is stopped first, so that it finishes its answers.
    """
    stop(name)
    ended = subprocesses.outcome('docker', 'rm', '--force', name, seconds=SECONDS)
    if ended.code and 'No such container' not in ended.stderr:
        raise StepFailed(f'docker rm {name}: {ended.last_words}')


def stop(name: str) -> None:
    """Tell a container to end, and return when it has; after its time it is killed."""
    ended = subprocesses.outcome('docker', 'stop', f'--time={STOP_SECONDS}', name, seconds=STOP_SECONDS + 5)
    if ended.code and 'No such container' not in ended.stderr:
        raise StepFailed(f'docker stop {name}: {ended.last_words}')
