"""A file with the password of a database role, and with the role's name where both change together."""

from dataclasses import dataclass, field
import json
from pathlib import Path

import psycopg2


@dataclass(frozen=True)
class Credentials:
    """A password, and the role that it belongs to where the file names one."""

    password: str = field(repr=False)
    user: str | None = None

    @property
    def arguments(self) -> dict[str, str]:
        """What a connection needs of it, besides or instead of what its URL says."""
        return {'password': self.password, **({'user': self.user} if self.user else {})}


def read(path: Path) -> Credentials:
    """Return what a password file holds as of now; raise the driver's error for a connection that cannot be made."""
    try:
        text = path.read_text(encoding='utf-8').strip()
    except OSError as error:
        raise psycopg2.OperationalError(f'password file {path}: {error.strerror}') from error
    except UnicodeDecodeError:
        raise psycopg2.OperationalError(f'password file {path}: it is not UTF-8') from None
    return _named(text) or Credentials(text)


def _named(text: str) -> Credentials | None:
    """Return the username and password of an object as Secrets Manager keeps it; None for any other text."""
    try:
        known = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(known, dict):
        return None
    user, password = known.get('username'), known.get('password')
    return Credentials(password, user) if isinstance(user, str) and isinstance(password, str) else None
