"""The path below which a proxy publishes the application: a setting that no request changes."""

from collections.abc import Callable, Iterable
from typing import Any


class Prefix:
    """A WSGI application published below a path, which a proxy strips from its requests or keeps."""

    def __init__(self, application: Callable[..., Iterable[bytes]], path: str) -> None:
        """Store the application and its path."""
        self._application = application
        self._path = path

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Answer a request with links that begin with the path."""
        environ['SCRIPT_NAME'] = self._path
        below = environ['PATH_INFO'].removeprefix(self._path)
        if below[:1] in ('', '/'):
            environ['PATH_INFO'] = below or '/'
        return self._application(environ, start_response)
