"""A virtual machine: QEMU without help of the processor, its serial console, and an end in every case."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
import os
from pathlib import Path
import shlex
import shutil
import subprocess
import sys
import tempfile
from threading import Timer
import time
from types import TracebackType
from typing import BinaryIO
from uuid import UUID

from rehearsal.errors import RehearsalError
from rehearsal.virtual.disk import name_of
from rehearsal.virtual.kernel import Kernel

FORWARD = Path(__file__).with_name('forward.py')
# The kernel kills it when its parent ends, in whatever way. If the parent ends before this request to the kernel, the
# process has another parent already, and does not start.
TIED = ('setpriv', '--pdeathsig=KILL', 'sh', '-c', 'test "$PPID" = "$0" && exec "$@"')
# Two threads and a large buffer of translated code make software emulation bearable.
EMULATION = ('-machine', 'q35', '-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max')
BARE = ('-no-user-config', '-nodefaults', '-display', 'none', '-serial', 'stdio', '-device', 'virtio-rng-pci')
# The machine has link-local addresses: it reaches those that are named here and, by `restrict`, nothing else. Its own
# comes by DHCP, as on EC2.
NETWORK, ADDRESS, MAC = '169.254.0.0/16', '169.254.0.15', '52:54:00:12:34:56'
CABLE = f'user,id=cable,net={NETWORK},host=169.254.0.2,dns=169.254.0.3,dhcpstart={ADDRESS},ipv6=off,restrict=on'
CARD = f'virtio-net-pci,netdev=cable,romfile=,mac={MAC}'
# The kernel's own lines would get into those of other programs; systemd's must be visible.
COMMAND_LINE = ('root=/dev/vda', 'rw', 'rootfstype=ext4', 'console=ttyS0', 'quiet', 'systemd.show_status=1',
                'mitigations=off')
LAST_LINES = 40


class ConsoleError(RehearsalError):
    """The error that a console does not show an expected text; the message ends with the console's last lines."""


@dataclass(frozen=True)
class Specification:
    """The description of a virtual machine, and the longest time that it may run."""

    kernel: Kernel
    disk: BinaryIO
    instance: str
    # Addresses that the machine reaches, as ADDRESS:PORT, and the ports of this host's loopback that answer there.
    ways: Mapping[str, int] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    processors: int = 2
    megabytes: int = 1536
    seconds: int = 900


class VirtualMachine:
    """A running virtual machine, whose changes to its disk end with it.

    It ends with the thread that started it, or at the latest when its seconds have passed.
    """

    def __init__(self, specification: Specification) -> None:
        """Start the machine."""
        self._console = tempfile.TemporaryFile()
        # QEMU wants a name for its disk; this one opens the file once more, for reading only.
        with open(name_of(specification.disk), 'rb') as disk:
            files = [disk.fileno(), specification.kernel.image.fileno(), specification.kernel.initial.fileno()]
            self._process = subprocess.Popen(_command(specification, *files), pass_fds=files, stdin=subprocess.DEVNULL,
                                             stdout=self._console, stderr=subprocess.STDOUT)
        self._limit = Timer(specification.seconds, self._process.kill)
        self._limit.daemon = True
        self._limit.start()

    def __enter__(self) -> 'VirtualMachine':
        """Return the started machine."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Power the machine off, and delete its console."""
        self.end()
        self._console.close()

    @property
    def is_on(self) -> bool:
        """Whether the machine is on."""
        return self._process.poll() is None

    def console(self) -> str:
        """Return the serial console since the start."""
        size = os.fstat(self._console.fileno()).st_size
        return os.pread(self._console.fileno(), size, 0).decode(errors='replace').replace('\r\n', '\n')

    def wait_for(self, text: str, seconds: float, times: int = 1) -> str:
        """Return the console when it shows a text so many times; raise ConsoleError if it does not in time."""
        self._wait(lambda: self.console().count(text) >= times or not self.is_on, seconds, f'{text!r} {times} times')
        if self.console().count(text) < times:
            raise ConsoleError(f'the machine went off without {text!r} {times} times\n{self._last_lines()}')
        return self.console()

    def wait_until_off(self, seconds: float) -> str:
        """Return the console when the machine has powered itself off."""
        self._wait(lambda: not self.is_on, seconds, 'the machine is off')
        if self._process.returncode:
            raise ConsoleError(f'QEMU ended with {self._process.returncode}, not by the machine\n{self._last_lines()}')
        return self.console()

    def end(self) -> None:
        """Power the machine off, if it is on."""
        self._limit.cancel()
        self._process.kill()
        self._process.wait()

    def _wait(self, holds: Callable[[], bool], seconds: float, condition: str) -> None:
        until = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > until:
                raise ConsoleError(f'not in {seconds} s: {condition}\n{self._last_lines()}')
            time.sleep(0.2)

    def _last_lines(self) -> str:
        return '\n'.join(self.console().splitlines()[-LAST_LINES:])


def _command(specification: Specification, disk: int, image: int, initial: int) -> list[str]:
    program = shutil.which('qemu-system-x86_64')
    if not program:
        raise RehearsalError('qemu-system-x86_64, the emulator, is missing: apt-get install qemu-system-x86')
    return [*TIED, str(os.getpid()), program, *EMULATION, *BARE,
            '-smp', str(specification.processors), '-m', str(specification.megabytes),
            '-kernel', f'/dev/fd/{image}', '-initrd', f'/dev/fd/{initial}',
            '-append', ' '.join([*COMMAND_LINE, *specification.arguments]),
            '-add-fd', f'fd={disk},set=1',
            # With `snapshot` the machine writes to a file without a name.
            '-drive', 'file=/dev/fdset/1,format=raw,if=virtio,snapshot=on,cache=unsafe',
            '-smbios', ','.join(['type=1', *smbios(specification.instance)]),
            '-netdev', ','.join([CABLE, *_ways(specification.ways)]), '-device', CARD]


def smbios(instance: str) -> list[str]:
    """Return the fields of an instance's firmware by which software recognises EC2.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html
    """
    number = UUID(hex=f'ec2{sha256(instance.encode()).hexdigest()[:29]}')
    return ['manufacturer=Amazon EC2', 'product=t3.small', f'uuid={number}', f'serial={number}']


def _ways(ways: Mapping[str, int]) -> list[str]:
    forward = shlex.join([sys.executable, '-I', '-S', str(FORWARD)]).replace(',', ',,')
    return [f'guestfwd=tcp:{address}-cmd:{forward} {port}' for address, port in ways.items()]
