"""Files with secrets: in memory, readable by the containers' user and root alone."""

import os
from pathlib import Path

from instance.container import USER

FOLDER_MODE = 0o710  # the group may enter, only root may list
FILE_MODE = 0o400


def make_folder(folder: Path) -> None:
    """Make a folder for secrets and its parent, so that the containers' user can enter both."""
    for path in (folder.parent, folder):
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, 0, USER)
        path.chmod(FOLDER_MODE)


def write(path: Path, value: str) -> None:
    """Replace a file with a secret atomically, because a container may be reading the old one."""
    partial = path.with_name(f'.{path.name}.{os.getpid()}')
    partial.unlink(missing_ok=True)
    # The mode is set before the content is written.
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with open(descriptor, 'w', encoding='utf-8') as file:
        os.chown(descriptor, USER, USER)
        file.write(value)
    partial.replace(path)
