"""Views of the page, answered before the framework sees them."""

from collections.abc import Iterable
from typing import Any

from flask import Flask

from visitors.page import Page
from visitors.responses import answer_to_failure


class Shortcut:
    """A WSGI application that answers views of the page itself and leaves all else to the framework's.

    The framework's way from request to response costs more processor time than counting does. The first view of a
    process goes that way all the same, because an embedded database may have no schema before.
    """

    def __init__(self, app: Flask, page: Page) -> None:
        """Take the place of an application's wsgi_app."""
        self._app = app
        self._framework = app.wsgi_app
        self._page = page

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        if environ['PATH_INFO'] != '/' or environ['REQUEST_METHOD'] != 'GET' or not self._page.is_rendered:
            return self._framework(environ, start_response)

        try:
            body, headers = self._page.answer(environ)
        except Exception as error:
            # The framework must not call the view as well: the visit may be counted already.
            return answer_to_failure(self._app, environ, error)(environ, start_response)
        start_response('200 OK', headers)
        return [body]
