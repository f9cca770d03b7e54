"""The path below which a proxy publishes the application: a setting, whatever a request says of it."""

from collections.abc import Callable, Iterable
from typing import Any


class Prefix:
    """A WSGI application published below a path, which a proxy strips from its requests or leaves there."""

    def __init__(self, application: Callable[..., Iterable[bytes]], path: str) -> None:
        """Stand before a WSGI application."""
        self._application = application
        self._path = path

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Answer a request whose links begin with the path."""
        environ['SCRIPT_NAME'] = self._path
        below = environ['PATH_INFO'].removeprefix(self._path)
        if below[:1] in ('', '/'):
            environ['PATH_INFO'] = below or '/'
        return self._application(environ, start_response)
