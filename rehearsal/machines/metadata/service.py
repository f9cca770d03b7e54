"""The metadata service in its second version: nothing is told to who has not fetched a token first.

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
    def __init__(self, tree: Callable[[], Tree], options: Callable[[], Any],
                 clock: Callable[[], float] = time.monotonic) -> None:
        """Answer for one instance; `options` gives its metadata options as they are at the time."""
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
            return self._give_token(request)
        if request.method not in ('GET', 'HEAD'):
            return refusal(405)
        if not self._may_read(request.headers.get(TOKEN)):
            return refusal(401)
        return read(self._tree(), request.path)

    def _give_token(self, request: Request) -> Response:
        # What came through a proxy may come from elsewhere.
        if 'X-Forwarded-For' in request.headers:
            return refusal(403)
        lifetime = request.headers.get(LIFETIME, '')
        if not re.fullmatch('[0-9]{1,5}', lifetime) or not 1 <= int(lifetime) <= LONGEST:
            return refusal(400)

        token = secrets.token_urlsafe(42)
        self._ends = {known: end for known, end in self._ends.items() if end > self._clock()}
        self._ends[token] = self._clock() + int(lifetime)
        return Response(token, mimetype='text/plain', headers={LIFETIME: lifetime})

    def _may_read(self, token: str | None) -> bool:
        if token is None:
            return bool(self._options().http_tokens == 'optional')
        return self._ends.get(token, 0) > self._clock()


def read(tree: Tree, path: str) -> Response:
    """Return what the tree has at a path: a text, or the names below it."""
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
    """Return what is below a name; keys are listed as 0=name and asked for as 0."""
    return tree.get(name, next((node for key, node in tree.items() if key.startswith(f'{name}=')), None))


def listing(tree: Tree) -> str:
    """Return the names below a node, with a slash where there is more below."""
    return '\n'.join(f'{name}/' if isinstance(node, Mapping) and '=' not in name else name
                     for name, node in sorted(tree.items()))


def refusal(status: int) -> Response:
    """Return an answer that says no."""
    return Response(status=status, mimetype='text/plain')
