"""An instance metadata service on this machine, version 2: nothing is told to who has no token."""

from collections.abc import Iterable
import json
import secrets
import threading
import time
from types import TracebackType
from typing import Any

from werkzeug.serving import make_server, WSGIRequestHandler
from werkzeug.wrappers import Request, Response


class MetadataService:
    def __init__(self, tree: dict[str, str]) -> None:
        """Tell an instance what stands in this tree, by its path."""
        self.tree = tree
        self.refused = 0
        # What goes wrong with a path, question by question: a status instead of the answer, or seconds before it.
        self.trouble: dict[str, list[float]] = {}
        self._tokens: set[str] = set()
        self._server = make_server('127.0.0.1', 0, self, threaded=True, request_handler=Silent)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> 'MetadataService':
        """Return the service, which answers from now on."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """The URL of the service."""
        return f'http://127.0.0.1:{self._server.port}'

    def give_role(self, role: str) -> None:
        """Give the instance the credentials of a role."""
        self.tree['latest/meta-data/iam/security-credentials/'] = role
        self.tree[f'latest/meta-data/iam/security-credentials/{role}'] = json.dumps({
            'Code': 'Success', 'Type': 'AWS-HMAC', 'AccessKeyId': 'ASIAOFTHEROLE',
            'SecretAccessKey': 'of-the-role',  # pragma: allowlist secret
            'Token': 'session-of-the-role', 'Expiration': '2099-01-01T00:00:00Z',
            'LastUpdated': '2026-01-01T00:00:00Z',
        })

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        trouble = self.trouble.get(request.path.lstrip('/'))
        wrong = trouble.pop(0) if trouble else 0
        if isinstance(wrong, int) and wrong:
            return Response(status=wrong)
        time.sleep(wrong)
        if request.method == 'PUT' and request.path == '/latest/api/token':
            token = secrets.token_urlsafe()
            self._tokens.add(token)
            return Response(token)
        if request.headers.get('X-aws-ec2-metadata-token') not in self._tokens:
            self.refused += 1
            return Response(status=401)
        known = self.tree.get(request.path.lstrip('/'))
        return Response(status=404) if known is None else Response(known)


class Silent(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_request(self, code: int | str = '-', size: int | str = '-') -> None:
        """Write nothing."""
