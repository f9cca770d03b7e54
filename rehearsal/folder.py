"""The folder of a rehearsal that is up: who runs it, what it has written, and where it can be reached."""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import json
import os
from pathlib import Path
import shutil
import tempfile
from typing import Any, TextIO

from rehearsal.naming import Names


def root() -> Path:
    """Return the folder of all rehearsals of this user."""
    if os.geteuid() == 0:
        return Path('/run/rehearsal')
    return Path(os.environ.get('XDG_RUNTIME_DIR') or tempfile.gettempdir()) / f'rehearsal-{os.geteuid()}'


class Folder:
    def __init__(self, names: Names) -> None:
        """Speak of the folder of a rehearsal; it need not exist."""
        self.path = root() / names.rehearsal
        self._lock = root() / f'{names.rehearsal}.lock'
        self.log = root() / f'{names.rehearsal}.log'

    def open_log(self) -> TextIO:
        """Return a new file for what the server is going to write."""
        root().mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.log.open('w', encoding='utf-8')

    @property
    def is_held(self) -> bool:
        """Whether a server runs this rehearsal; the kernel knows it also of one that was killed."""
        if not self._lock.exists():
            return False
        with self._lock.open('a') as file:
            return not lock(file)

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the rehearsal for the time of the block, and give whether nobody else does."""
        self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock.open('a') as file:
            is_mine = lock(file)
            yield is_mine
            if is_mine:
                self._lock.unlink()

    def tell(self, **facts: Any) -> None:
        """Write down how the running server can be reached."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        partial = self.path / 'facts.partial'
        partial.write_text(json.dumps(facts), encoding='utf-8')
        partial.replace(self.path / 'facts.json')

    def facts(self) -> dict[str, Any] | None:
        """Return how the running server can be reached, once it can."""
        try:
            return dict(json.loads((self.path / 'facts.json').read_text(encoding='utf-8')))
        except FileNotFoundError:
            return None

    def remove(self) -> None:
        """Delete the folder and what the server has written."""
        self.forget()
        self.log.unlink(missing_ok=True)

    def forget(self) -> None:
        """Delete what tells how the server can be reached."""
        shutil.rmtree(self.path, ignore_errors=True)


def lock(file: TextIO) -> bool:
    """Return whether a file's lock is this process's now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Whoever had it before may have deleted the file on leaving: then it is not the one that others lock.
    return os.path.exists(file.name) and os.path.samestat(os.fstat(file.fileno()), os.stat(file.name))
