"""The way from a machine to Debian's package archive, and to nothing else; this process goes it, not the machine."""

from collections.abc import Iterable, Mapping
from typing import Any

import requests
from werkzeug.wrappers import Request, Response

# How the archive is called in machines: in their sources, and in the certificates of none, so without TLS.
HOSTS = ('deb.debian.org', 'security.debian.org')
ASKED = ('Accept', 'If-Modified-Since', 'If-Range', 'Range', 'User-Agent')
TOLD = ('Accept-Ranges', 'Content-Length', 'Content-Range', 'Content-Type', 'ETag', 'Last-Modified')
SECONDS = (10, 60)


class Archive:
    def __init__(self, mirrors: Mapping[str, str], proxies: Mapping[str, str]) -> None:
        """Fetch what is asked for below a folder, such as /debian, from the mirror that has it."""
        self._mirrors = mirrors
        self._proxies = dict(proxies)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request of apt's."""
        return self._answer(Request(environ))(environ, start_response)

    def _answer(self, request: Request) -> Response:
        folder, _, rest = request.path.lstrip('/').partition('/')
        if request.method not in ('GET', 'HEAD') or folder not in self._mirrors or '..' in rest.split('/'):
            return Response("only Debian's package archive can be read here\n", 403)

        asked = {name: request.headers[name] for name in ASKED if name in request.headers}
        try:
            found = requests.request(request.method, f'{self._mirrors[folder]}/{rest}', headers=asked, stream=True,
                                     timeout=SECONDS, proxies=self._proxies)
        except requests.RequestException as error:
            return Response(f"Debian's archive cannot be reached: {error}\n", 502)
        told = {name: found.headers[name] for name in TOLD if name in found.headers}
        content = found.raw.stream(65536, decode_content=False)
        return Response(content, found.status_code, told, direct_passthrough=True)
