"""A file with the password of a database role, and with the role's name where both change together."""

from collections.abc import Callable
from dataclasses import dataclass, field
import json
from pathlib import Path
import re
import socket
import time
from typing import TypeVar

import psycopg2


# What servers say, with whichever method they check a password or a token.
REFUSAL = re.compile('authentication failed')
# How long a new connection waits for another password, and what it keeps of its time for connecting once more.
RENEWAL_SECONDS, REST_SECONDS, LOOK_SECONDS = 5.0, 0.3, 0.05
Result = TypeVar('Result')


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
    if '\0' in text:
        raise psycopg2.OperationalError(f'password file {path}: it holds a NUL, more likely it is UTF-16')
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


@dataclass(frozen=True)
class SignIn:
    """One attempt to sign in with what a password file holds, until a moment of the monotonic clock.

    A password that was rotated is no outage: a refusal asks for the new one, which is waited for and tried.
    """

    path: Path
    asked: Path | None
    until: float | None

    def connect(self, connect: Callable[[dict[str, str]], Result]) -> Result:
        """Return a connection that is made with the arguments that the file holds."""
        refused = read(self.path)
        try:
            return connect(refused.arguments)
        except psycopg2.OperationalError as error:
            renewed = self._renewed(refused) if REFUSAL.search(str(error)) else None
            if not renewed:
                raise
        return connect(renewed.arguments)

    def _renewed(self, refused: Credentials) -> Credentials | None:
        """Return what the file holds instead of what was refused, None if that stays for too long."""
        if self.asked:
            ask(self.asked)
        until = time.monotonic() + (RENEWAL_SECONDS if self.asked else 0)
        if self.until is not None:
            until = min(until, self.until - REST_SECONDS)
        while (known := read(self.path)) == refused:
            if time.monotonic() >= until:
                return None
            time.sleep(LOOK_SECONDS)
        return known


def ask(address: Path) -> None:
    """Ask whatever listens on a socket to renew the password; if nothing does, the file is renewed in its own time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        try:
            asking.sendto(b'refused', str(address))
        except OSError:
            pass
