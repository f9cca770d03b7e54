"""Virtual machines: their disks, the addresses that they reach, and their end without remains."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import os
from pathlib import Path
import re
import stat
import subprocess
import sys
from threading import Thread
from typing import BinaryIO

import psutil
import pytest

from rehearsal.errors import RehearsalError
from rehearsal.machines.debian import root_filesystem
from rehearsal.machines.engine import Engine
from rehearsal.virtual.disk import BYTES, disk_of, name_of, Part
from rehearsal.virtual.image import parts_of
from rehearsal.virtual.kernel import debian_kernel, Kernel
from rehearsal.virtual.machine import ADDRESS, ConsoleError, smbios, Specification, VirtualMachine
from tests.support.containers.engine import unique
from tests.support.server import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.vm

# Emulation is ten times slower than a processor, and a busy machine doubles it.
BOOT_SECONDS = 120
BODY = 'what this machine may read'
# The only process of a guest: it prints its findings, reboots once, and powers off the second time.
FIRST_PROCESS = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
echo "kernel $(uname -r)"
echo "serial $(cat /sys/class/dmi/id/product_serial)"
echo "memory $(stat --file-system --format=%T /dev/shm) root $(stat --file-system --format=%T /)"
modprobe overlay && echo "a module is loaded"
card=$(ls /sys/class/net | grep -v lo)
ip link set "$card" up
ip address add {address}/16 dev "$card"
ip route add default via 169.254.0.2
echo "given $(curl --silent --max-time 20 http://169.254.169.254/)"
curl --silent --max-time 3 http://169.254.0.2:{port}/ || echo "loopback of the host: out of reach"
curl --silent --max-time 3 http://169.254.169.254:{port}/ || echo "another port: out of reach"
curl --silent --max-time 3 http://{outside}/ || echo "the network of the host: out of reach"
[ -e /second ] && echo o > /proc/sysrq-trigger && sleep 60
touch /second
sync
echo b > /proc/sysrq-trigger
sleep 60
"""
# CAP_NET_RAW, permitted and effective, as the kernel writes it.
CAPABILITY = bytes.fromhex('0100000200200000000000000000000000000000')
# Starts a machine, or begins to make its disk, and waits to be killed.
STARTER = """
import sys
from rehearsal.virtual import disk
from rehearsal.virtual.image import parts_of
from rehearsal.virtual.kernel import debian_kernel
from rehearsal.virtual.machine import Specification, VirtualMachine

disk.FOLDER = sys.argv[1]
with debian_kernel() as kernel, disk.disk_of(disk.Part(sys.argv[2:])) as filled:
    with VirtualMachine(Specification(kernel, filled, 'i-of-the-killed')) as machine:
        print('started', flush=True)
        machine.wait_until_off(600)
"""


class Answers(BaseHTTPRequestHandler):
    """A handler that answers every request alike."""

    def do_GET(self) -> None:
        """Answer every request alike."""
        self.send_response(200)
        self.send_header('Content-Length', str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY.encode())

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture(scope='module')
def kernel() -> Iterator[Kernel]:
    """Give the kernel that guests boot."""
    with debian_kernel() as kernel_13:
        yield kernel_13


@pytest.fixture(scope='module')
def server() -> Iterator[int]:
    """Give the port of a server on the host's loopback."""
    with ThreadingHTTPServer(('0.0.0.0', 0), Answers) as listening:
        thread = Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_port
        listening.shutdown()
        thread.join()


@pytest.fixture(scope='module')
def disk(kernel: Kernel, server: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BinaryIO]:
    """Give a disk with a small Debian, whose first process is a script."""
    listed = subprocess.run(['hostname', '--all-ip-addresses'], capture_output=True, text=True, check=True).stdout
    script = FIRST_PROCESS.format(address=ADDRESS, port=server, outside=f'{listed.split()[0]}:{server}')
    debian = Part(['cat', str(root_filesystem('virtual-guest', ('curl', 'iproute2', 'kmod')))])
    files = part_of({'usr/sbin/init': script}, tmp_path_factory.mktemp('files'))
    with disk_of(debian, kernel.modules, files) as filled:
        yield filled


@pytest.fixture(scope='module')
def console(kernel: Kernel, disk: BinaryIO, server: int) -> str:
    """Give the console of a guest that ran until it powered itself off."""
    with VirtualMachine(Specification(kernel, disk, 'i-1234', {'169.254.169.254:80': server})) as machine:
        return machine.wait_until_off(2 * BOOT_SECONDS)


def part_of(files: Mapping[str, str], folder: Path) -> Part:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding='utf-8')
        path.chmod(0o755)
    return Part(['tar', '--create', f'--directory={folder}', '.'])


def looked_at(disk: BinaryIO, command: str) -> str:
    """Return the output of a command in the root of a disk."""
    script = 'mount -o loop,ro "$0" /mnt; cd /mnt; eval "$1"; cd /; umount /mnt'
    result = subprocess.run(['unshare', '--mount', 'sh', '-euc', script, name_of(disk), command],
                            pass_fds=[disk.fileno()], capture_output=True, text=True, check=True)
    return result.stdout.strip()


def attribute(path: str, name: str) -> str:
    return f"{sys.executable} -c 'import os; print(os.getxattr(\"{path}\", \"{name}\"))'"


def emulators(instance: str) -> list[psutil.Process]:
    """Return the processes that emulate an instance; a dead one has no command line."""
    serial = smbios(instance)[-1]
    return [process for process in psutil.process_iter(['cmdline'])
            if any(serial in argument for argument in process.info['cmdline'] or ())]


def loops(folder: Path) -> str:
    """Return the loop devices of files of a folder, with and without a name."""
    listed = subprocess.run(['losetup', '--list', '--noheadings', '--output=BACK-FILE'], capture_output=True,
                            text=True, check=True).stdout
    return '\n'.join(line for line in listed.splitlines() if str(folder) in line)


@contextmanager
def starter(folder: Path, *archive: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, '-c', STARTER, str(folder), *archive]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


@contextmanager
def power(kernel: Kernel, disk: BinaryIO, seconds: int = 60) -> Iterator[VirtualMachine]:
    with VirtualMachine(Specification(kernel, disk, 'i-5678', seconds=seconds)) as machine:
        yield machine


def test_a_guest_boots_debians_kernel_for_clouds(console: str) -> None:
    assert re.search(r'^kernel 6\.[0-9.]+\+deb13-cloud-amd64$', console, re.MULTILINE)


def test_a_guest_loads_modules_of_its_kernel_from_its_disk(console: str) -> None:
    assert 'a module is loaded' in console


def test_the_root_of_a_guest_is_ext4(console: str) -> None:
    assert 'root ext2/ext3' in console


def test_the_firmware_of_a_guest_identifies_ec2(console: str) -> None:
    assert re.search('^serial ec2[0-9a-f-]{33}$', console, re.MULTILINE)


def test_a_guest_comes_back_from_a_reboot_with_its_files(console: str) -> None:
    assert console.count('\nkernel 6.') == 2


def test_a_guest_reads_its_metadata_at_the_metadata_address(console: str) -> None:
    assert console.count(f'given {BODY}') == 2


@pytest.mark.parametrize('place', ['loopback of the host', 'another port', 'the network of the host'])
def test_a_guest_reaches_nothing_else(console: str, place: str) -> None:
    assert console.count(f'{place}: out of reach') == 2


def test_the_changes_of_a_guest_end_with_it(console: str, disk: BinaryIO) -> None:
    assert 'given' in console
    assert looked_at(disk, 'test -e second || echo none') == 'none'


def test_a_console_without_the_expected_text_is_reported_with_its_last_lines(kernel: Kernel,
                                                                             disk: BinaryIO) -> None:
    with power(kernel, disk) as machine:
        machine.wait_for('kernel 6.', BOOT_SECONDS)
        with pytest.raises(ConsoleError, match=r"(?s)not in 1 s: 'never' 1 times\n.*kernel 6\."):
            machine.wait_for('never', 1)


def test_a_guest_that_goes_on_for_ever_ends_when_its_seconds_have_passed(kernel: Kernel, disk: BinaryIO) -> None:
    with power(kernel, disk, seconds=2) as machine:
        with pytest.raises(ConsoleError, match='QEMU ended with .*, not by the machine'):
            machine.wait_until_off(30)
        eventually(lambda: not emulators('i-5678'), 'the emulator is gone')


def test_a_guest_ends_with_the_block_that_it_was_started_for(kernel: Kernel, disk: BinaryIO) -> None:
    with power(kernel, disk) as machine:
        eventually(lambda: machine.is_on and bool(emulators('i-5678')), 'the emulator runs')
    eventually(lambda: not emulators('i-5678'), 'the emulator is gone')


def test_nothing_is_left_of_a_guest_whose_starter_is_killed(tmp_path: Path) -> None:
    with starter(tmp_path, 'tar', '--create', '--files-from=/dev/null') as process:
        assert process.stdout
        assert process.stdout.readline() == b'started\n'
        eventually(lambda: bool(emulators('i-of-the-killed')), 'the emulator runs')
    eventually(lambda: not emulators('i-of-the-killed'), 'the emulator is gone')
    assert (list(tmp_path.iterdir()), loops(tmp_path)) == ([], '')


def test_nothing_is_left_of_a_disk_whose_maker_is_killed(tmp_path: Path) -> None:
    with starter(tmp_path, 'sh', '-c', 'sleep 2') as process:
        eventually(lambda: bool(loops(tmp_path)), 'the disk is mounted')
        assert process.poll() is None
    eventually(lambda: not loops(tmp_path), 'the disk is no longer mounted')
    assert not list(tmp_path.iterdir())


def test_a_disk_keeps_owners_modes_links_and_attributes(tmp_path: Path) -> None:
    file, opaque = tmp_path / 'file', tmp_path / 'opaque'
    file.write_text('content\n', encoding='utf-8')
    os.chown(file, 10001, 65534)
    file.chmod(0o4750)
    os.setxattr(file, 'security.capability', CAPABILITY)
    (tmp_path / 'link').symlink_to('/file')
    # The means of an engine's layers: a file that hides another, and a folder that hides another's content.
    os.mknod(tmp_path / 'removed', stat.S_IFCHR, os.makedev(0, 0))
    opaque.mkdir()
    os.setxattr(opaque, 'trusted.overlay.opaque', b'y')
    with disk_of(Part(['tar', '--create', '--xattrs', '--xattrs-include=*', f'--directory={tmp_path}', '.'])) as disk:
        assert looked_at(disk, 'stat --format="%u %g %a" file') == '10001 65534 4750'
        assert looked_at(disk, attribute('file', 'security.capability')) == str(CAPABILITY)
        assert looked_at(disk, 'readlink link') == '/file'
        assert looked_at(disk, 'stat --format=%F,%t,%T removed') == 'character special file,0,0'
        assert looked_at(disk, attribute('opaque', 'trusted.overlay.opaque')) == "b'y'"


def test_a_later_part_lies_over_an_earlier_one_at_its_place(tmp_path: Path) -> None:
    first = part_of({'data/name': 'first\n', 'data/kept': ''}, tmp_path / 'first')
    second = part_of({'name': 'second\n'}, tmp_path / 'second')
    with disk_of(first, Part(second.command, place='data')) as disk:
        assert looked_at(disk, 'cat data/name; ls -A data').split() == ['second', 'kept', 'name']


def test_an_image_and_its_volume_lie_on_a_disk_without_the_mark_of_a_container(engine: Engine, tmp_path: Path) -> None:
    root, label = part_of({'etc/name': 'image\n', 'none': ''}, tmp_path / 'root'), {'test': unique('image')}
    archive = tmp_path / 'root.tar'
    archive.write_bytes(subprocess.run(root.command, capture_output=True, check=True).stdout)
    image = engine.docker('import', str(archive))
    volume = engine.docker('volume', 'create')
    try:
        layer = Path(engine.docker('volume', 'inspect', '--format={{.Mountpoint}}', volume)) / 'overlay2'
        layer.mkdir()
        os.setxattr(layer, 'trusted.overlay.opaque', b'y')
        with parts_of(engine, image, volume, label) as parts, disk_of(*parts) as disk:
            assert looked_at(disk, 'cat etc/name') == 'image'
            assert looked_at(disk, attribute('var/lib/docker/overlay2', 'trusted.overlay.opaque')) == "b'y'"
            assert looked_at(disk, 'ls -A | grep docker || echo none') == 'none'
        assert engine.docker('ps', '--all', '--quiet', *(f'--filter=label={key}={label[key]}' for key in label)) == ''
    finally:
        engine.docker('volume', 'rm', volume)
        engine.docker('image', 'rm', image)


def test_an_archive_that_cannot_be_written_makes_no_disk() -> None:
    with pytest.raises(RehearsalError, match='no disk can be made: tar .* ended with 2, .*\n.*/missing: Cannot open'):
        with disk_of(Part(['tar', '--create', '--directory=/missing', '.'])):
            pass


def test_an_archive_that_is_none_makes_no_disk() -> None:
    with pytest.raises(RehearsalError, match='no disk can be made: echo .* ended with 0, unpacking with 2\n'):
        with disk_of(Part(['echo', 'this is no archive'])):
            pass


def test_a_disk_takes_only_the_space_of_its_files(tmp_path: Path) -> None:
    with disk_of(part_of({'file': 'small'}, tmp_path)) as disk:
        assert looked_at(disk, 'cat file') == 'small'
        blocks = int(subprocess.run(['stat', '--dereference', '--format=%b', name_of(disk)], text=True,
                                    pass_fds=[disk.fileno()], capture_output=True, check=True).stdout)
        assert 512 * blocks < BYTES / 20
