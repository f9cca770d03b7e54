"""How every part of the application connects to PostgreSQL: libpq's arguments, and the password from its file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, URL

from visitors import libpq, passwordfile

NAME_LENGTH = 63  # PostgreSQL cuts longer names there
# libpq's own limits for a server that vanished, for connections that have no deadline.
LIMITS = {
    'connect_timeout': 5,
    'keepalives': 1,
    'keepalives_idle': 10,
    'keepalives_interval': 5,
    'keepalives_count': 3,
    'tcp_user_timeout': 20_000,
}


def session_name(role: str, instance_id: str) -> str:
    """Return the name of a session in the server's list of sessions."""
    return f'{role}-{instance_id}'[:NAME_LENGTH]


def arguments(url: URL, name: str, server_settings: Mapping[str, str]) -> dict[str, Any]:
    """Return libpq's arguments of a session beside its URL: the limits, its name, and the server's settings for it."""
    return {**LIMITS, 'application_name': name, 'options': libpq.options_of(url, server_settings)}


def sign_in(engine: Engine, password_file: Path | None, renewer: Path | None = None,
            deadline: Callable[[], float | None] = lambda: None) -> None:
    """Make an engine sign in with a password file, if there is one; `renewer` is the socket that renews the password.

    Each new connection reads the file, because it changes when the password is rotated or a token is renewed.
    """
    if not password_file:
        return

    @event.listens_for(engine, 'do_connect')
    def connect(dialect: Any, _record: Any, positional: Any, parameters: dict[str, Any]) -> Any:
        attempt = passwordfile.SignIn(password_file, renewer, deadline())
        return attempt.connect(lambda credentials: dialect.connect(*positional, **{**parameters, **credentials}))
