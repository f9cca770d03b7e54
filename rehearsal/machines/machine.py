"""A real machine: a container whose first process is systemd, in the network namespace of a second one, its card."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
import subprocess
import time
from typing import Any

import docker
from docker.errors import APIError
from docker.types import LogConfig, Mount
import requests

from rehearsal.listeners import Application, Listener
from rehearsal.machines.addresses import listen
from rehearsal.machines.namespace import Namespace
from rehearsal.machines.network import Networks
from rehearsal.machines.sweep import remove
from rehearsal.naming import Names

# systemd(1): powers off, as on the power button that EC2 presses.
POWER_OFF, SECONDS_TO_NOTICE = 'SIGRTMIN+4', 5
CARD_COMMAND = ['/usr/bin/sleep', 'infinity']
# PID 1 of a container reads its arguments as the kernel's command line, and so does cloud-init.
KERNEL = ['/lib/systemd/systemd', 'ds=ec2', 'network-config=disabled']
# Without them systemd 256 and later refuses to start on a kernel with the first version of cgroups.
LEGACY_CGROUPS = ['systemd.unified_cgroup_hierarchy=0', 'SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1']
# Units for hardware that a container lacks. They are masked in the machine and not in its image, because the same
# image must boot on real hardware.
MASKED = ('console-getty.service', 'getty.target', 'systemd-networkd.service', 'systemd-networkd.socket',
          'systemd-networkd-wait-online.service', 'systemd-resolved.service', 'systemd-timesyncd.service',
          'systemd-udevd.service', 'systemd-udevd-control.socket', 'systemd-udevd-kernel.socket',
          'systemd-udev-trigger.service', 'systemd-logind.service')
# New network cards at run time are ignored, because cloud-init would wait for udev, which is masked.
NO_HOTPLUG = ['cc:', 'updates:', '{network:', '{when:', '[boot-new-instance]}}', 'end_cc']
# Settings of the kernel that all machines share with this host. A machine reads them, and changes its network's only.
READ_ONLY = ['/proc/bus', '/proc/irq', '/proc/sys/abi', '/proc/sys/debug', '/proc/sys/dev', '/proc/sys/fs',
             '/proc/sys/kernel', '/proc/sys/user', '/proc/sys/vm', '/proc/sysrq-trigger']
# The engine in a machine needs a real file system; the container's own consists of layers.
DATA = '/var/lib/docker'
FILES = Path(__file__).parent / 'files' / 'machine'
# Files over a machine's own ones, which so get into no image. Docker's resolver would ask servers beyond the network,
# or wait for them. The card has its address already, and cloud-init would wait for a lease of another one.
OVERLAYS = {f'/{path.relative_to(FILES)}': str(path) for path in FILES.rglob('*')
            if path.is_file() and path.parent.name != '__pycache__'}
OVERLAYS |= {'/usr/sbin/dhcpcd': '/bin/false'}
CGROUPS = Path('/sys/fs/cgroup')


@dataclass(frozen=True)
class Specification:
    """The description of a machine: its disks, its place in the network, its memory."""

    instance: str
    image: str
    data: str | None
    card_image: str
    block: IPv4Network
    address: str
    mac: str
    hostname: str
    memory: int
    hosts: Mapping[str, str]
    # Further files over the machine's own ones, beside OVERLAYS.
    overlays: Mapping[str, str] = field(default_factory=dict)


class DockerMachine:
    """A machine: a container for systemd, in the network namespace of a second container, its card."""

    def __init__(self, client: docker.DockerClient, names: Names, networks: Networks, specification: Specification,
                 applications: Mapping[str, Application],
                 protect: Callable[[Namespace], Callable[[], None]]) -> None:
        """Describe a machine, in whose namespace applications answer at their addresses; nothing of it exists yet.

        `protect` puts a packet filter into the namespace, and returns a function that releases it.
        """
        self._client = client
        self._names = names
        self._networks = networks
        self._specification = specification
        self._applications = applications
        self._protect = protect
        self._protection = ExitStack()
        self._listeners: list[Listener] = []
        self.container: Any = None
        self._console = ''

    def create(self) -> None:
        """Make the machine, cut off from everything but its network, without starting it."""
        namespace = self._insert_card()
        self._networks.check_is_closed(self._specification.block)
        namespace.shut()
        namespace.check_has_no_way_out()
        self._protection.callback(self._protect(namespace))
        self._listeners = listen(namespace, self._applications)
        self.container = self._make()

    def boot(self) -> Callable[[], int]:
        """Start the machine, and return a function that waits for its end and returns its exit code."""
        self.container.start()
        return self._wait

    def shut_down(self, seconds: int) -> None:
        """Shut the machine down in order, and power it off when it takes longer than this."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._press_power_button():
                return
        self.container.stop(timeout=0)

    def console(self) -> str:
        """Return the console of the machine since it was made, even after its removal."""
        return self._console + (self._read_console() if self.container else '')

    def say(self, line: str) -> None:
        """Add a line to the console of a machine that cannot write it itself."""
        self._console += f'{line}\n'

    def remove(self) -> None:
        """Remove everything of the machine but its console."""
        self._console, self.container = self.console(), None
        instance = self._specification.instance
        for name in (self._names.machine(instance), self._names.card(instance)):
            remove(self._client.containers, name, force=True, v=True)
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        self._protection.close()
        remove(self._client.volumes, self._volume, force=True)

    def _press_power_button(self) -> bool:
        """Press it, and return whether the machine ends soon after; one that begins to boot ignores it."""
        try:
            self.container.kill(POWER_OFF)
            self.container.wait(timeout=SECONDS_TO_NOTICE)
        except (requests.ReadTimeout, requests.ConnectionError):
            return False
        except APIError:  # the machine ended at the same moment
            self.container.wait(timeout=SECONDS_TO_NOTICE)
        return True

    @property
    def data_folder(self) -> str:
        """The folder on this host with the data of the machine's own engine."""
        return self._mountpoint(self._volume)

    @property
    def _volume(self) -> str:
        return self._names.volume(self._specification.instance)

    def _insert_card(self) -> Namespace:
        specification, network = self._specification, self._networks.of(self._specification.block)
        endpoint = self._client.api.create_endpoint_config(ipv4_address=specification.address)
        card = self._client.containers.create(
            specification.card_image, CARD_COMMAND, entrypoint=[], name=self._names.card(specification.instance),
            hostname=specification.hostname, mac_address=specification.mac, network=network,
            networking_config={network: endpoint}, extra_hosts=dict(specification.hosts), labels=self._names.labels)
        card.start()
        card.reload()
        return Namespace(card.attrs['State']['Pid'])

    def _make(self) -> Any:
        specification = self._specification
        volume = self._client.volumes.create(self._volume, labels=self._names.labels)
        if specification.data:
            copy_folder(self._mountpoint(specification.data), volume.attrs['Mountpoint'])
        overlays = {**OVERLAYS, **specification.overlays}
        mounts = [Mount(target, source, type='bind', read_only=True) for target, source in overlays.items()]
        mounts += [Mount(DATA, self._volume), *(Mount(path, path, type='bind') for path in hierarchies())]
        settings = self._client.api.create_host_config(
            network_mode=f'container:{self._names.card(specification.instance)}', mounts=mounts,
            tmpfs=memory_file_systems(), cap_add=['ALL'], cap_drop=['SYS_RESOURCE'], cgroupns='host',
            mem_limit=specification.memory,
            security_opt=['seccomp=unconfined', 'apparmor=unconfined'], device_cgroup_rules=['c *:* rwm', 'b *:* m'],
            log_config=LogConfig(type='json-file', config={'max-size': '4m', 'max-file': '2'}))
        settings |= {'MaskedPaths': [], 'ReadonlyPaths': READ_ONLY}
        container = self._client.api.create_container(
            specification.image, kernel_command_line(has_unified_cgroups()),
            name=self._names.machine(specification.instance), entrypoint=[], tty=True, stop_signal=POWER_OFF,
            environment={'container': 'docker'}, labels=self._names.labels, host_config=settings)
        return self._client.containers.get(container['Id'])

    def _mountpoint(self, volume: str) -> str:
        return str(self._client.volumes.get(volume).attrs['Mountpoint'])

    def _wait(self) -> int:
        return int(self.container.wait(timeout=None)['StatusCode'])

    def _read_console(self) -> str:
        return str(self.container.logs().decode(errors='replace').replace('\r', ''))


def kernel_command_line(unified_cgroups: bool) -> Sequence[str]:
    """Return the command of the first process, which is also its kernel command line."""
    masks = [f'systemd.mask={unit}' for unit in MASKED]
    return [*KERNEL, *([] if unified_cgroups else LEGACY_CGROUPS), *masks, *NO_HOTPLUG]


def has_unified_cgroups() -> bool:
    """Return whether this host's kernel has the second version of cgroups only."""
    return (CGROUPS / 'cgroup.controllers').exists()


def hierarchies() -> list[str]:
    """Return the mounts of this host's cgroups: one, or one for each controller in the first version."""
    if has_unified_cgroups():
        return [str(CGROUPS)]
    return [str(path) for path in sorted(CGROUPS.iterdir()) if path.is_mount()]


def memory_file_systems() -> dict[str, str]:
    """Return the file systems that are empty at each boot."""
    # In the first version systemd makes links beside the controllers, for which it gets a folder of its own.
    own = {} if has_unified_cgroups() else {str(CGROUPS): 'mode=0755'}
    return {'/run': '', '/run/lock': '', **own}


def copy_folder(source: str, target: str) -> None:
    """Copy the content of a folder, with owners and links."""
    subprocess.run(['cp', '--archive', '--reflink=auto', f'{source}/.', target], check=True, capture_output=True)
