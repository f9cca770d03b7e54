"""The disk of a virtual machine: archives unpacked into a file without a name, which ends with its user."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import os
import subprocess
import tempfile
from typing import BinaryIO

from rehearsal.errors import RehearsalError

# The size of the disk in Debian's AMI. Only written blocks take space.
BYTES = 8 * 2 ** 30
# /tmp may be in memory, and small.
FOLDER = '/var/tmp'
# Only these processes see the mount, and the loop device ends with it, so even a killed process leaves nothing.
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
    """A part of a disk: the command that writes its archive, the folder to unpack it in, and tar's options."""

    command: Sequence[str]
    place: str = '.'
    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def disk_of(*parts: Part) -> Iterator[BinaryIO]:
    """Give a disk without partitions that holds these parts, the later ones over the earlier."""
    with tempfile.TemporaryFile(dir=FOLDER) as disk:
        disk.truncate(BYTES)
        subprocess.run(['mkfs.ext4', '-q', '-F', name_of(disk)], pass_fds=[disk.fileno()], check=True)
        for part in parts:
            _unpack(part, disk)
        yield disk


def name_of(file: BinaryIO) -> str:
    """Return a name for a file without one, valid in processes that have it open."""
    return f'/dev/fd/{file.fileno()}'


def _unpack(part: Part, disk: BinaryIO) -> None:
    command = [*PRIVATELY, UNPACK, name_of(disk), part.place, *part.options]
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(part.command, env={**os.environ, **part.environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=errors) as writer:
            tar = subprocess.run(command, pass_fds=[disk.fileno()], stdin=writer.stdout, stderr=errors, check=False)
        if writer.returncode or tar.returncode:
            errors.seek(0)
            codes = f'{" ".join(part.command)} ended with {writer.returncode}, unpacking with {tar.returncode}'
            raise RehearsalError(f'no disk can be made: {codes}\n{errors.read().decode(errors="replace")}')
