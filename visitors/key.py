"""The key of the address hash beside an embedded database."""

import os
from pathlib import Path
import secrets
import tempfile

from visitors.errors import SettingsError
from visitors.settings import checked_key, Settings


LOST_KEY = ('restore the key from a backup: with another key every visitor is new. If there is no backup, remove the '
            'file, and the next start makes a new key')


def visitor_key(settings: Settings) -> bytes:
    """Return the key of the settings, or else the kept one, which the first start makes."""
    return settings.visitor_key or _kept_key(settings.kept_key_file)


def _kept_key(path: Path) -> bytes:
    try:
        if not path.exists():
            _keep_new_key(path)
        text = path.read_text(encoding='utf-8').strip()
    except OSError as error:
        raise SettingsError(f'the key of the address hash cannot be kept in {path}: {error.strerror}; make the folder '
                            'writable, or set VISITOR_KEY_FILE') from None
    except UnicodeDecodeError:
        raise SettingsError(f'{path}: not text; {LOST_KEY}') from None
    if not text:
        raise SettingsError(f'{path} is empty; {LOST_KEY}')
    return checked_key(str(path), text)


def _keep_new_key(path: Path) -> None:
    """Write a new key to a path, whole and only once, even if several processes start there at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix='.key-')
    try:
        with open(descriptor, 'w', encoding='utf-8') as file:
            file.write(secrets.token_hex(32) + '\n')
        os.link(name, path)
    except FileExistsError:
        pass  # another process was faster; its key counts
    finally:
        os.unlink(name)
