"""The smallest WSGI application: the cost of gunicorn itself."""

from collections.abc import Callable
from typing import Any

BODY = b'hello\n'
HEADERS = [('Content-Type', 'text/plain'), ('Content-Length', str(len(BODY)))]


def application(_environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    """Answer every request alike."""
    start_response('200 OK', HEADERS)
    return [BODY]
