"""The metadata service in its second version, which answers only requests with a token.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html and, for the answers,
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
"""

from collections.abc import Callable, Iterable, Mapping
import re
import secrets
import time
from typing import Any

from werkzeug.wrappers import Request, Response

from rehearsal.machines.metadata.tree import Tree

VERSION = re.compile('latest|20[0-9]{2}-[0-9]{2}-[0-9]{2}')
VERSIONS = ('2009-04-04', '2021-03-23', '2024-04-11', 'latest')
TOKEN, LIFETIME = 'X-aws-ec2-metadata-token', 'X-aws-ec2-metadata-token-ttl-seconds'
LONGEST = 21600


class MetadataService:
    """The metadata service of one instance, as an application."""

    def __init__(self, tree: Callable[[], Tree], options: Callable[[], Any],
                 clock: Callable[[], float] = time.monotonic) -> None:
        """Serve the present tree by the present metadata options of the instance."""
        self._tree = tree
        self._options = options
        self._clock = clock
        self._ends: dict[str, float] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if self._options().http_endpoint == 'disabled':
            return refusal(403)
        if request.method == 'PUT' and request.path == '/latest/api/token':
            return self._issue_token(request)
        if request.method not in ('GET', 'HEAD'):
            return refusal(405)
        if not self._may_read(request.headers.get(TOKEN)):
            return refusal(401)
        return read(self._tree(), request.path)

    def _issue_token(self, request: Request) -> Response:
        # A request through a proxy may come from elsewhere.
        if 'X-Forwarded-For' in request.headers:
            return refusal(403)
        lifetime = request.headers.get(LIFETIME, '')
        if not re.fullmatch('[0-9]{1,5}', lifetime) or not 1 <= int(lifetime) <= LONGEST:
            return refusal(400)

        token = secrets.token_urlsafe(42)
        self._ends = {issued: end for issued, end in self._ends.items() if end > self._clock()}
        self._ends[token] = self._clock() + int(lifetime)
        return Response(token, mimetype='text/plain', headers={LIFETIME: lifetime})

    def _may_read(self, token: str | None) -> bool:
        if token is None:
            return bool(self._options().http_tokens == 'optional')
        return self._ends.get(token, 0) > self._clock()


def read(tree: Tree, path: str) -> Response:
    """Return the text at a path of the tree, or the names below it."""
    version, *names = [part for part in path.split('/') if part] or ['']
    if not version:
        return Response('\n'.join(VERSIONS), mimetype='text/plain')

    node: Tree | str | bytes | None = tree if VERSION.fullmatch(version) else None
    for name in names:
        node = step(node, name) if isinstance(node, Mapping) else None
    if node is None:
        return refusal(404)
    return Response(listing(node) if isinstance(node, Mapping) else node, mimetype='text/plain')


def step(tree: Tree, name: str) -> Tree | str | bytes | None:
    """Return the node below a name; a key is listed as 0=name and requested as 0."""
    return tree.get(name, next((node for key, node in tree.items() if key.startswith(f'{name}=')), None))


def listing(tree: Tree) -> str:
    """Return the names below a node, with a slash after each that has names below itself."""
    return '\n'.join(f'{name}/' if isinstance(node, Mapping) and '=' not in name else name
                     for name, node in sorted(tree.items()))


def refusal(status: int) -> Response:
    """Return an empty answer with an error's status."""
    return Response(status=status, mimetype='text/plain')
