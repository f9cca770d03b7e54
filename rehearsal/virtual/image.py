"""The image of a container machine as parts of a disk: its root file system, and its engine's data."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rehearsal.machines.engine import Engine
from rehearsal.virtual.disk import Part

DATA = 'var/lib/docker'
# What the engine's layers are made of hides files by attributes that tar keeps only when it is told so.
ARCHIVE = ('tar', '--create', '--numeric-owner', '--xattrs', '--xattrs-include=*')
# By this file a machine takes itself for a container, and leaves out what it thinks a container has no need of.
MARK = '.dockerenv'


@contextmanager
def parts_of(engine: Engine, image: str, volume: str, labels: Mapping[str, str]) -> Iterator[list[Part]]:
    """Give an image and the volume of its engine's data as parts of a disk, unchanged but for one mark."""
    marks = [f'--label={name}={value}' for name, value in labels.items()]
    container = engine.docker('create', '--network=none', *marks, image, 'none')
    try:
        folder = engine.docker('volume', 'inspect', '--format={{.Mountpoint}}', volume)
        yield [Part(['docker', 'export', container], options=[f'--exclude={MARK}'], environment=engine.environment),
               Part([*ARCHIVE, f'--directory={folder}', '.'], place=DATA)]
    finally:
        engine.docker('rm', '--force', container)
