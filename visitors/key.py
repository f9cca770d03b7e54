"""The key of the address hash that an embedded database keeps beside itself."""

import os
from pathlib import Path
import secrets
import tempfile

from visitors.settings import checked_key, Settings


def visitor_key(settings: Settings) -> bytes:
    """Return the key that was given, or the kept one, which is made at the first start."""
    return settings.visitor_key or _kept_key(settings.kept_key_file)


def _kept_key(path: Path) -> bytes:
    if not path.exists():
        _keep_new_key(path)
    return checked_key(str(path), path.read_text(encoding='utf-8').strip())


def _keep_new_key(path: Path) -> None:
    """Put a new key at a path, complete at once and once only, however many processes start there together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix='.key-')
    try:
        with open(descriptor, 'w', encoding='utf-8') as file:
            file.write(secrets.token_hex(32) + '\n')
        os.link(name, path)
    except FileExistsError:
        pass  # another process was faster; its key is the one
    finally:
        os.unlink(name)
