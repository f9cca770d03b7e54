"""The containers of the image on this instance: their limits, mounts and environment, and how they end."""

from collections.abc import Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import sys

from instance import subprocesses, urls
from instance.errors import StepFailed
from instance.machine import Image, Machine

USER = 10001  # the user of the image
# Longer than gunicorn's graceful_timeout, shorter than the unit's TimeoutStopSec.
STOP_SECONDS = 15
SECONDS = 60
MEBIBYTE = 1 << 20
# Memory for the system, the engine and the step logs.
SYSTEM_SHARE = 10
SYSTEM_MINIMUM = 320 * MEBIBYTE
APPLICATION_MINIMUM = 192 * MEBIBYTE
COMMAND_MEMORY = 256 * MEBIBYTE
WORKERS = range(2, 9)
# A silent resolver costs a look-up two seconds instead of ten; resolv.conf(5).
RESOLVER_OPTIONS = 'timeout:1 attempts:2'


@dataclass(frozen=True)
class Size:
    """The size of an instance: its processors, and its memory in bytes."""

    processors: int
    memory: int

    @classmethod
    def of_this_instance(cls) -> 'Size':
        """Return the size of the instance that runs this process."""
        return cls(len(os.sched_getaffinity(0)), os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))

    @property
    def workers(self) -> int:
        """The number of server processes: one for each processor, at least two, so that one may be replaced."""
        return min(max(self.processors, WORKERS[0]), WORKERS[-1])

    @property
    def application_memory(self) -> int:
        """The memory limit of the application in bytes, so that a leak ends the application and not the instance."""
        left = self.memory - max(SYSTEM_MINIMUM, self.memory // SYSTEM_SHARE)
        if left < APPLICATION_MINIMUM:
            needed = SYSTEM_MINIMUM + APPLICATION_MINIMUM
            raise StepFailed(f'this instance has {self.memory // MEBIBYTE} MiB of memory; the application needs '
                             f'{needed // MEBIBYTE} MiB at least: use a larger instance type')
        return left


@dataclass(frozen=True)
class Container:
    """A container of the image: its name, its memory, the role of its variables, and the roles of its secrets."""

    name: str
    memory: int
    role: str = 'application'
    secrets: tuple[str, ...] = ('application',)


def run_arguments(machine: Machine, image: Image, container: Container, command: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a container in the foreground; it contains no secret."""
    return [
        'docker', 'run', '--rm', f'--name={container.name}',
        # The network of the instance: the load balancer connects to the application's own address and port, and the
        # metadata service needs no second hop.
        '--network=host',
        '--read-only', '--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=64m',
        '--cap-drop=ALL', '--security-opt=no-new-privileges', '--pids-limit=512',
        f'--memory={container.memory}', f'--memory-swap={container.memory}',
        # The id names the content, so no registry is needed.
        '--pull=never',
        # The unit that started the client writes the output to the journal, so the engine must not write it again.
        '--log-driver=none',
        # No program reads the result of the image's own check, which starts a Python every ten seconds.
        '--no-healthcheck',
        f'--stop-timeout={STOP_SECONDS}',
        # As in the settings of systemd in this AMI, which a container does not get.
        f'--env=RES_OPTIONS={RESOLVER_OPTIONS}',
        f'--env-file={machine.variables(container.role)}',
        *_mounts(machine, container),
        image.image_id, *command,
    ]


def followed(name: str, command: Sequence[str]) -> list[str]:
    """Return the command that follows a container to its end, even if the engine restarts meanwhile."""
    return [sys.executable, '-m', 'instance.follow', name, *command]


def _mounts(machine: Machine, container: Container) -> list[str]:
    # Folders and not files: a container would keep seeing the old file after its replacement.
    folders = [f'type=bind,source={machine.secrets(role)},target={inside(machine, machine.secrets(role))},readonly'
               for role in container.secrets]
    if container.role == 'application':
        # A process can write to a socket on a read-only file system.
        folders.append(f'type=bind,source={machine.requests},target={inside(machine, machine.requests)},readonly')
    if machine.user_data.selftest:
        folders.append(f'type=bind,source={machine.data},target=/app/data')
    if machine.authorities.is_file():
        # A file is enough here: it belongs to the AMI and is never replaced.
        folders.append(f'type=bind,source={machine.authorities},target={urls.AUTHORITIES},readonly')
    return [f'--mount={folder}' for folder in folders]


def inside(machine: Machine, path: Path) -> Path:
    """Return the path at which a container sees a file of this instance."""
    return Path('/') / path.relative_to(machine.root)


def check_image(image: Image) -> None:
    """Raise StepFailed unless the engine holds the image of the bake."""
    outcome = subprocesses.run('docker', 'image', 'inspect', '--format={{.Id}}', image.name, seconds=SECONDS)
    if outcome.code:
        raise StepFailed(f'image {image.name}: {outcome.last_line}')
    if outcome.stdout.strip() != image.image_id:
        raise StepFailed(f'image {image.name} has the id {outcome.stdout.strip()}, and not {image.image_id} as in '
                         'image.json: it is not the image of the bake')


def remove(name: str) -> None:
    """Remove a container that a power loss or a killed engine left behind.

    A running container is stopped first, so that it finishes its answers.
    """
    stop(name)
    outcome = subprocesses.run('docker', 'rm', '--force', name, seconds=SECONDS)
    if outcome.code and 'No such container' not in outcome.stderr:
        raise StepFailed(f'docker rm {name}: {outcome.last_line}')


def stop(name: str) -> None:
    """Stop a container and wait for its end; after its time the engine kills it."""
    outcome = subprocesses.run('docker', 'stop', f'--time={STOP_SECONDS}', name, seconds=STOP_SECONDS + 5)
    if outcome.code and 'No such container' not in outcome.stderr:
        raise StepFailed(f'docker stop {name}: {outcome.last_line}')
