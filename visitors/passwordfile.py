"""A file with the password of a database role, and with the role's name if both change together."""

from collections.abc import Callable
from dataclasses import dataclass, field
import json
from pathlib import Path
import re
import socket
import time
from typing import TypeVar

import psycopg2

# The text of a server's refusal, whichever method checks the password or the token.
REFUSAL = re.compile('authentication failed')
# The wait of a new connection for another password, the rest of its time for a second connect, and the pause between
# two reads of the file.
RENEWAL_SECONDS, REST_SECONDS, LOOK_SECONDS = 5.0, 0.3, 0.05
Result = TypeVar('Result')


@dataclass(frozen=True)
class Credentials:
    """A password, and the role that it belongs to if the file names one."""

    password: str = field(repr=False)
    user: str | None = None

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments of a connection, which add to those of its URL or replace them."""
        return {'password': self.password, **({'user': self.user} if self.user else {})}


def read(path: Path) -> Credentials:
    """Return the current contents of a password file; raise the driver's error for a failed connection."""
    try:
        text = path.read_text(encoding='utf-8').strip()
    except OSError as error:
        raise psycopg2.OperationalError(f'password file {path}: {error.strerror}') from error
    except UnicodeDecodeError:
        raise psycopg2.OperationalError(f'password file {path}: it is not UTF-8') from None
    if '\0' in text:
        raise psycopg2.OperationalError(f'password file {path}: it holds a NUL, so it is probably UTF-16')
    return _named(text) or Credentials(text)


def _named(text: str) -> Credentials | None:
    """Return the username and password of an object in Secrets Manager's form; None for any other text."""
    try:
        secret = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(secret, dict):
        return None
    user, password = secret.get('username'), secret.get('password')
    return Credentials(password, user) if isinstance(user, str) and isinstance(password, str) else None


@dataclass(frozen=True)
class SignIn:
    """One attempt to sign in with the contents of a password file, until a moment of the monotonic clock.

    A rotated password is no outage: after a refusal the attempt requests the new password, waits for it and uses it.
    """

    path: Path
    renewer: Path | None
    until: float | None

    def connect(self, connect: Callable[[dict[str, str]], Result]) -> Result:
        """Return a connection that is made with the file's credentials."""
        credentials = read(self.path)
        try:
            return connect(credentials.arguments)
        except psycopg2.OperationalError as error:
            renewed = self._renewed(credentials) if REFUSAL.search(str(error)) else None
            if not renewed:
                raise
        return connect(renewed.arguments)

    def _renewed(self, refused: Credentials) -> Credentials | None:
        """Return the credentials that replace refused ones in the file, or None if that takes too long."""
        if self.renewer:
            request_renewal(self.renewer)
        until = time.monotonic() + (RENEWAL_SECONDS if self.renewer else 0)
        if self.until is not None:
            until = min(until, self.until - REST_SECONDS)
        while (credentials := read(self.path)) == refused:
            if time.monotonic() >= until:
                return None
            time.sleep(LOOK_SECONDS)
        return credentials


def request_renewal(path: Path) -> None:
    """Ask the listener on a socket to renew the password; without a listener the file is renewed in its own time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as request:
        request.setblocking(False)
        try:
            request.sendto(b'refused', str(path))
        except OSError:
            pass
