"""A copy of the embedded database, made while visits are counted."""

from contextlib import closing
import os
from pathlib import Path
import sqlite3


class BackupRefused(Exception):
    """The error of a copy that cannot be made; the message names the file and the remedy."""


def back_up(database: Path, target: Path) -> int:
    """Copy an SQLite database as of one moment into a new file, complete or not at all, and return its size in bytes.

    SQLite's own online backup reads the state of one moment, including the journal beside the file; writers go on.
    """
    if not database.is_file():
        raise BackupRefused(f'{database} does not exist; check DATABASE_URL')
    if target.exists():
        raise BackupRefused(f'{target} exists; name a new file')
    unfinished = target.with_name(f'{target.name}.unfinished-{os.getpid()}')
    try:
        # Only its owner may read the copy, because it holds hashes of addresses.
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            _copy(database, unfinished)
            os.link(unfinished, target)  # a rename would replace the file of another backup
        finally:
            unfinished.unlink()
    except FileExistsError:
        raise BackupRefused(f'{target} exists; name a new file') from None
    except OSError as error:
        raise BackupRefused(f'{target}: {error.strerror}; name a file in a folder that you may write to') from None
    except sqlite3.Error as error:
        raise BackupRefused(f'{database} cannot be copied to {target}: {error}') from None
    return target.stat().st_size


def _copy(database: Path, target: Path) -> None:
    with closing(sqlite3.connect(f'{database.resolve().as_uri()}?mode=ro', uri=True)) as source:
        with closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            copy.execute('PRAGMA journal_mode=DELETE')  # one file, without a journal beside it
