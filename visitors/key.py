"""The key of the address hash that an embedded database keeps beside itself."""

import os
from pathlib import Path
import secrets
import tempfile

from visitors.errors import SettingsError
from visitors.settings import checked_key, Settings


LOST_KEY = ('put the key of a backup there: with another one every visitor is new. If there is no backup, remove the '
            'file and a new key is made')


def visitor_key(settings: Settings) -> bytes:
    """Return the key that was given, or the kept one, which is made at the first start."""
    return settings.visitor_key or _kept_key(settings.kept_key_file)


def _kept_key(path: Path) -> bytes:
    try:
        if not path.exists():
            _keep_new_key(path)
        text = path.read_text(encoding='utf-8').strip()
    except OSError as error:
        raise SettingsError(f'the key of the address hash cannot be kept in {path}: {error.strerror}; let the folder '
                            'be written to, or set VISITOR_KEY_FILE') from None
    except UnicodeDecodeError:
        raise SettingsError(f'{path}: not text; {LOST_KEY}') from None
    if not text:
        raise SettingsError(f'{path} is empty; {LOST_KEY}')
    return checked_key(str(path), text)


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
