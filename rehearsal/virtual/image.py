"""The disks of an AMI as parts of one: the root file system, and the data of the machine's engine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rehearsal.machines.engine import Engine
from rehearsal.virtual.disk import Part

DATA = 'var/lib/docker'
# The engine's layers hide files by extended attributes, which tar keeps only with these options.
ARCHIVE = ('tar', '--create', '--numeric-owner', '--xattrs', '--xattrs-include=*')
# With this file a machine takes itself for a container, and skips the services that a container does not need.
MARK = '.dockerenv'


@contextmanager
def parts_of(engine: Engine, image: str, volume: str, labels: Mapping[str, str]) -> Iterator[list[Part]]:
    """Give an image and the volume of its engine's data as parts of a disk, unchanged except for one mark."""
    marks = [f'--label={name}={value}' for name, value in labels.items()]
    container = engine.docker('create', '--network=none', *marks, image, 'none')
    try:
        folder = engine.docker('volume', 'inspect', '--format={{.Mountpoint}}', volume)
        yield [Part(['docker', 'export', container], options=[f'--exclude={MARK}'], environment=engine.environment),
               Part([*ARCHIVE, f'--directory={folder}', '.'], place=DATA)]
    finally:
        engine.docker('rm', '--force', container)
