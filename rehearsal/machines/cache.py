"""A cache of files that take a minute to make, outside the tree, under the hash of their inputs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import fcntl
import os
from pathlib import Path
import time

from rehearsal.naming import short_hash

# Long enough that work on two branches does not rebuild everything at each change.
KEPT_SECONDS = 7 * 24 * 3600


def cache_folder() -> Path:
    """Return the folder of the cache; deleting it costs time and nothing else."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    folder = Path(base) / 'rehearsal'
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def kept(name: str, inputs: str, make: Callable[[Path], None]) -> Path:
    """Return the file that `make` writes for these inputs: made once, even when several runs need it at a time."""
    folder = cache_folder()
    path = folder / f'{name}-{short_hash(inputs)}'
    with locked(folder / f'{name}.lock'):
        if not path.exists():
            partial = folder / f'{name}.partial'
            make(partial)
            for other in folder.glob(f'{name}-' + '[0-9a-f]' * 12):
                if other.stat().st_atime < time.time() - KEPT_SECONDS:
                    other.unlink()
            # It gets its name last, so that a run killed half-way leaves nothing that looks finished.
            partial.replace(path)
        os.utime(path, (time.time(), path.stat().st_mtime))  # most mounts do not record reads
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel releases even when this process is killed."""
    with path.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
