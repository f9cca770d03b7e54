"""The application with a neighbour on its own origin, by which Chromium prefetches or prerenders the front page."""

from collections.abc import Iterable
from typing import Any

import app

PATH = '/neighbour'
# `immediate` waits for no hint that the link will be followed.
DOCUMENT = """<!DOCTYPE html><html lang="en"><title>Neighbour</title>
<script type="speculationrules">{{"{act}": [{{"urls": ["/"], "eagerness": "immediate"}}]}}</script>
<p><a href="/">To the page</a></p></html>"""


def create_app() -> Any:
    """Return the application, and its neighbour at /neighbour?prefetch and /neighbour?prerender."""
    application = app.create_app()

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ['PATH_INFO'] != PATH:
            return application(environ, start_response)

        start_response('200 OK', [('Content-Type', 'text/html'), ('Cache-Control', 'no-store')])
        return [DOCUMENT.format(act=environ['QUERY_STRING']).encode()]

    return answer
