"""Files with secrets: in memory, for the containers' user to read and for nobody else but root."""

import os
from pathlib import Path

from instance.container import USER

FOLDER_MODE = 0o710  # the group may pass, nobody but root may look what there is
FILE_MODE = 0o400


def make_folder(folder: Path) -> None:
    """Make a folder for secrets, and the one above it, reachable for the containers' user."""
    for each in (folder.parent, folder):
        each.mkdir(parents=True, exist_ok=True)
        os.chown(each, 0, USER)
        each.chmod(FOLDER_MODE)


def write(path: Path, value: str) -> None:
    """Put a secret into a file, at once and complete: a container may be reading the one before."""
    partial = path.with_name(f'.{path.name}.{os.getpid()}')
    partial.unlink(missing_ok=True)
    # Its mode is right before anything is in it.
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with open(descriptor, 'w', encoding='utf-8') as file:
        os.chown(descriptor, USER, USER)
        file.write(value)
    partial.replace(path)
