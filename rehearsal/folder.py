"""The folder of a rehearsal that is up: its lock, its log and its facts, such as the endpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import json
import os
from pathlib import Path
import shutil
import tempfile
import time
from typing import Any, TextIO

from rehearsal.databases.sweep import end_servers
from rehearsal.naming import Names

PATIENCE_SECONDS = 1


def root() -> Path:
    """Return the folder of all rehearsals of this user."""
    if os.geteuid() == 0:
        return Path('/run/rehearsal')
    return Path(os.environ.get('XDG_RUNTIME_DIR') or tempfile.gettempdir()) / f'rehearsal-{os.geteuid()}'


class Folder:
    """The folder, lock and log of one rehearsal; they need not exist."""

    def __init__(self, names: Names) -> None:
        """Name the paths."""
        self.path = root() / names.rehearsal
        self._lock = root() / f'{names.rehearsal}.lock'
        self.log = root() / f'{names.rehearsal}.log'

    def open_log(self) -> TextIO:
        """Return a new file for the log of the server."""
        root().mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(self.log, 'w', encoding='utf-8', opener=private)

    @property
    def is_held(self) -> bool:
        """Whether a server runs this rehearsal; the kernel releases the lock of one that was killed."""
        try:
            with self._lock.open('r') as file:
                return not lock(file)
        except FileNotFoundError:
            return False

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the lock of the rehearsal for the time of the block, and give whether this process got it."""
        self._lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock.open('a') as file:
            is_mine = lock_patiently(file) and is_at(file, self._lock)
            try:
                yield is_mine
            finally:
                if is_mine:
                    self._lock.unlink()

    def write(self, **facts: Any) -> None:
        """Write the facts about the running server."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        partial = self.path / 'facts.partial'
        with open(partial, 'w', encoding='utf-8', opener=private) as file:
            json.dump(facts, file)
        partial.replace(self.path / 'facts.json')

    @property
    def authority(self) -> Path:
        """The file with the certificate of the authority."""
        return self.path / 'authority.pem'

    def facts(self) -> dict[str, Any]:
        """Return the facts about the running server: its process from the start, its endpoint once it answers."""
        try:
            return dict(json.loads((self.path / 'facts.json').read_text(encoding='utf-8')))
        except FileNotFoundError:
            return {}

    def remove(self) -> None:
        """Delete folder and log, unless another server holds the lock."""
        with self.held() as is_mine:
            if is_mine:
                self.forget()
                self.log.unlink(missing_ok=True)

    @property
    def databases(self) -> Path:
        """The folder of the database servers."""
        return self.path / 'databases'

    def forget(self) -> None:
        """Delete the facts, and the database servers of a server that was killed."""
        end_servers(self.databases)
        shutil.rmtree(self.path, ignore_errors=True)


def private(path: str, flags: int) -> int:
    """Open a file that only its owner can read, because users of database servers may enter the folder."""
    return os.open(path, flags, 0o600)


def lock(file: TextIO) -> bool:
    """Try to lock a file, and return whether this process has the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_patiently(file: TextIO) -> bool:
    """Try to lock a file for a second, because a process that only asks whether it is locked holds it for a moment."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not lock(file):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def is_at(file: TextIO, path: Path) -> bool:
    """Return whether an open file is the one at a path, because a former holder of the lock deletes the file."""
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
