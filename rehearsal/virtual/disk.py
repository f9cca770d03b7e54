"""The disk of a virtual machine: root file systems unpacked into a file that has no name and is gone with its user."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import os
import subprocess
import tempfile
from typing import BinaryIO

from rehearsal.errors import RehearsalError

# What EC2 gives a machine of Debian's AMI when nobody asks for more. Only what is written takes room.
BYTES = 8 * 2 ** 30
# /tmp may be memory, and small.
FOLDER = '/var/tmp'
# The mount is seen by these processes only, and the loop device ends with it: nothing is left even of one killed.
PRIVATELY = ('unshare', '--mount', '--propagation=private', 'sh', '-euc')
UNPACK = """
mount -o loop "$0" /mnt
mkdir --parents "/mnt/$1"
cd "/mnt/$1"
shift
tar --extract --numeric-owner --preserve-permissions --xattrs --xattrs-include='*' "$@"
cd /
umount /mnt
"""


@dataclass(frozen=True)
class Part:
    """An archive that a command writes, and the folder of the disk that it is unpacked in; options are tar's."""

    command: Sequence[str]
    place: str = '.'
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def disk_of(*parts: Part) -> Iterator[BinaryIO]:
    """Give a disk that holds these parts, the later ones over the earlier; it is one file system from end to end."""
    with tempfile.TemporaryFile(dir=FOLDER) as disk:
        disk.truncate(BYTES)
        subprocess.run(['mkfs.ext4', '-q', '-F', name_of(disk)], pass_fds=[disk.fileno()], check=True)
        for part in parts:
            _unpack(part, disk)
        yield disk


def name_of(file: BinaryIO) -> str:
    """Return a name for a file that has none, for processes that have it open."""
    return f'/dev/fd/{file.fileno()}'


def _unpack(part: Part, disk: BinaryIO) -> None:
    command = [*PRIVATELY, UNPACK, name_of(disk), part.place, *part.options]
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(part.command, env={**os.environ, **part.environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=said) as writer:
            unpacked = subprocess.run(command, pass_fds=[disk.fileno()], stdin=writer.stdout, stderr=said, check=False)
        if writer.returncode or unpacked.returncode:
            said.seek(0)
            what = f'{" ".join(part.command)} ended with {writer.returncode}, unpacking with {unpacked.returncode}'
            raise RehearsalError(f'no disk can be made: {what}\n{said.read().decode(errors="replace")}')
