"""Debian's own kernel, which a rehearsal's AMI lacks, and the initial file system that finds the disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
import subprocess
import tempfile
from typing import BinaryIO

from rehearsal.machines.debian import ESSENTIALS, root_filesystem
from rehearsal.virtual.disk import Part

# The flavour that Debian's own AMIs have: https://wiki.debian.org/Cloud/AmazonEC2Image
PACKAGES = ('initramfs-tools', 'linux-image-cloud-amd64', 'zstd')
# By default initramfs-tools takes the modules for the hardware that it runs on, which is not the one that boots.
MODULES = ('ext4', 'virtio_blk', 'virtio_net', 'virtio_pci', 'virtio_rng')
SETTINGS = ('mkdir --parents "$1"/etc/initramfs-tools/conf.d',
            'printf "MODULES=list\\nCOMPRESS=zstd\\n" > "$1"/etc/initramfs-tools/conf.d/virtual',
            f'printf "%s\\n" {" ".join(MODULES)} > "$1"/etc/initramfs-tools/modules')
OPTIONS = (*ESSENTIALS, *(f'--essential-hook={setting}' for setting in SETTINGS))


@dataclass(frozen=True)
class Kernel:
    """A kernel, its initial file system, and the Debian whose package it comes from."""

    image: BinaryIO
    initial: BinaryIO
    debian: Path

    @property
    def modules(self) -> Part:
        """The part of a disk with the modules that the kernel may load."""
        return Part(['cat', str(self.debian)], options=['./usr/lib/modules'])


@contextmanager
def debian_kernel() -> Iterator[Kernel]:
    """Give the kernel of Debian 13 for clouds, which is fetched once and kept."""
    debian = root_filesystem('virtual-kernel', PACKAGES, options=OPTIONS)
    # Files without a name, which end with this process.
    with tempfile.TemporaryFile() as image, tempfile.TemporaryFile() as initial:
        _unpack(debian, 'vmlinuz', image)
        _unpack(debian, 'initrd.img', initial)
        yield Kernel(image, initial, debian)


def _unpack(archive: Path, name: str, target: BinaryIO) -> None:
    subprocess.run(['tar', '--extract', '--to-stdout', f'--file={archive}', '--wildcards', f'./boot/{name}-*'],
                   stdout=target, check=True)
