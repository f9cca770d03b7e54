"""A virtual machine: QEMU without any help of the processor, its serial console, and an end that is always reached."""

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
# The kernel kills it when its parent is gone, however that has ended. Where that was before the kernel had been asked,
# its parent is another one already.
TIED = ('setpriv', '--pdeathsig=KILL', 'sh', '-c', 'test "$PPID" = "$0" && exec "$@"')
# Two threads and a large buffer of translated code are what makes software emulation bearable.
EMULATION = ('-machine', 'q35', '-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max')
BARE = ('-no-user-config', '-nodefaults', '-display', 'none', '-serial', 'stdio', '-device', 'virtio-rng-pci')
# The machine lives among the addresses that only mean something on one cable: it reaches what is named here and, by
# `restrict`, nothing else. Its address comes by DHCP, as on EC2.
NETWORK, ADDRESS, MAC = '169.254.0.0/16', '169.254.0.15', '52:54:00:12:34:56'
CABLE = f'user,id=cable,net={NETWORK},host=169.254.0.2,dns=169.254.0.3,dhcpstart={ADDRESS},ipv6=off,restrict=on'
CARD = f'virtio-net-pci,netdev=cable,romfile=,mac={MAC}'
# The kernel's own lines would get into those of others; systemd's are to be seen.
COMMAND_LINE = ('root=/dev/vda', 'rw', 'rootfstype=ext4', 'console=ttyS0', 'quiet', 'systemd.show_status=1',
                'mitigations=off')
LAST_LINES = 40


class ConsoleError(RehearsalError):
    """A machine's console did not come to say what was waited for; the message ends with what it said last."""


@dataclass(frozen=True)
class Specification:
    """What a virtual machine is made from, and for how long it may run whatever happens."""

    kernel: Kernel
    disk: BinaryIO
    instance: str
    # Addresses that the machine reaches, as ADDRESS:PORT, and the ports of this machine's loopback that answer there.
    ways: Mapping[str, int] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    processors: int = 2
    megabytes: int = 1536
    seconds: int = 900


class VirtualMachine:
    def __init__(self, specification: Specification) -> None:
        """Start a machine; what it writes to its disk is forgotten with it.

        It ends with the thread that has started it, at the latest when its seconds have passed.
        """
        self._console = tempfile.TemporaryFile()
        # QEMU takes a name for its disk: this one opens the file once more, and only for reading.
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
        """Pull the plug, and forget the console too."""
        self.end()
        self._console.close()

    @property
    def is_on(self) -> bool:
        """Whether the machine has power."""
        return self._process.poll() is None

    def console(self) -> str:
        """Return what the machine has written to its serial console since it was started."""
        size = os.fstat(self._console.fileno()).st_size
        return os.pread(self._console.fileno(), size, 0).decode(errors='replace').replace('\r\n', '\n')

    def wait_for(self, text: str, seconds: float, times: int = 1) -> str:
        """Return the console once it has said something, so many times; raise ConsoleError when it does not."""
        self._wait(lambda: self.console().count(text) >= times or not self.is_on, seconds, f'{text!r} {times} times')
        if self.console().count(text) < times:
            raise ConsoleError(f'the machine went off without {text!r} {times} times\n{self._last_lines()}')
        return self.console()

    def wait_until_off(self, seconds: float) -> str:
        """Return all that the console has said when the machine has switched itself off."""
        self._wait(lambda: not self.is_on, seconds, 'the machine is off')
        if self._process.returncode:
            raise ConsoleError(f'QEMU ended with {self._process.returncode}, not by the machine\n{self._last_lines()}')
        return self.console()

    def end(self) -> None:
        """Pull the plug; does nothing where the machine is off."""
        self._limit.cancel()
        self._process.kill()
        self._process.wait()

    def _wait(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        until = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > until:
                raise ConsoleError(f'not in {seconds} s: {what}\n{self._last_lines()}')
            time.sleep(0.2)

    def _last_lines(self) -> str:
        return '\n'.join(self.console().splitlines()[-LAST_LINES:])


def _command(specification: Specification, disk: int, image: int, initial: int) -> list[str]:
    program = shutil.which('qemu-system-x86_64')
    if not program:
        raise RehearsalError('no qemu-system-x86_64, which emulates a machine: apt-get install qemu-system-x86')
    return [*TIED, str(os.getpid()), program, *EMULATION, *BARE,
            '-smp', str(specification.processors), '-m', str(specification.megabytes),
            '-kernel', f'/dev/fd/{image}', '-initrd', f'/dev/fd/{initial}',
            '-append', ' '.join([*COMMAND_LINE, *specification.arguments]),
            '-add-fd', f'fd={disk},set=1',
            # With `snapshot` what is written goes to a file without a name.
            '-drive', 'file=/dev/fdset/1,format=raw,if=virtio,snapshot=on,cache=unsafe',
            '-smbios', ','.join(['type=1', *smbios(specification.instance)]),
            '-netdev', ','.join([CABLE, *_ways(specification.ways)]), '-device', CARD]


def smbios(instance: str) -> list[str]:
    """Return what the firmware of an instance says of itself, by which EC2 is known.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html
    """
    number = UUID(hex=f'ec2{sha256(instance.encode()).hexdigest()[:29]}')
    return ['manufacturer=Amazon EC2', 'product=t3.small', f'uuid={number}', f'serial={number}']


def _ways(ways: Mapping[str, int]) -> list[str]:
    forward = shlex.join([sys.executable, '-I', '-S', str(FORWARD)]).replace(',', ',,')
    return [f'guestfwd=tcp:{address}-cmd:{forward} {port}' for address, port in ways.items()]
