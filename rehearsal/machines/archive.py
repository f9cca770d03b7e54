"""Debian's package archive for machines: a proxy in this process, since no request of a machine leaves its network."""

from collections.abc import Iterable, Mapping
from typing import Any

import requests
from werkzeug.wrappers import Request, Response

# The archive's hosts in the package sources of machines, without TLS because the server has no certificate of theirs.
HOSTS = ('deb.debian.org', 'security.debian.org')
REQUEST_HEADERS = ('Accept', 'If-Modified-Since', 'If-Range', 'Range', 'User-Agent')
RESPONSE_HEADERS = ('Accept-Ranges', 'Content-Length', 'Content-Range', 'Content-Type', 'ETag', 'Last-Modified')
SECONDS = (10, 60)


class Archive:
    """An application that fetches the files below a folder, such as /debian, from a mirror of this host."""

    def __init__(self, mirrors: Mapping[str, str], proxies: Mapping[str, str]) -> None:
        """Use these mirrors by folder, and these proxies by scheme."""
        self._mirrors = mirrors
        self._proxies = dict(proxies)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request of apt."""
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        folder, _, rest = request.path.lstrip('/').partition('/')
        if request.method not in ('GET', 'HEAD') or folder not in self._mirrors or '..' in rest.split('/'):
            return Response("only Debian's package archive can be read here\n", 403)

        headers = {name: request.headers[name] for name in REQUEST_HEADERS if name in request.headers}
        try:
            answer = requests.request(request.method, f'{self._mirrors[folder]}/{rest}', headers=headers, stream=True,
                                      timeout=SECONDS, proxies=self._proxies)
        except requests.RequestException as error:
            return Response(f"Debian's archive cannot be reached: {error}\n", 502)
        headers = {name: answer.headers[name] for name in RESPONSE_HEADERS if name in answer.headers}
        content = answer.raw.stream(65536, decode_content=False)
        return Response(content, answer.status_code, headers, direct_passthrough=True)
