"""The headers and the compression of the framework's answers, and the small pages of errors."""

from typing import Any

from flask import current_app, Flask, jsonify, render_template, request, Response
from werkzeug.exceptions import HTTPException

from visitors.compression import accepts_gzip, gzipped, LEAST_BYTES
from visitors.database_errors import DatabaseUnavailable
from visitors.headers import CACHED_FOR_EVER, NOT_CACHED, SECURITY_HEADERS, uncached
from visitors.services import current_services
from visitors.settings import Settings
from visitors.version import Version

COMPRESSED = {'text/html', 'text/css', 'application/json', 'image/svg+xml'}
RETRY_AFTER_SECONDS = 2
UNAVAILABLE = 'The database cannot be reached, so this visit was not counted. Please try again in a moment.'


def init_app(app: Flask, settings: Settings, version: Version) -> None:
    """Give an application its security headers, its error pages, and the context of all its templates."""
    # The last of these is the first to see an answer.
    app.after_request(_compress)
    app.after_request(_secure)
    app.after_request(_limit_caching)
    app.register_error_handler(HTTPException, _show_error)
    app.register_error_handler(DatabaseUnavailable, _show_unavailable)
    context = {'version': version.version, 'site_name': settings.site_name, 'user_name': settings.user_name,
               'user_url': settings.user_url, 'has_public_url': bool(settings.public_url)}
    app.context_processor(lambda: context)


def answer_to_failure(app: Flask, environ: dict[str, Any], error: Exception) -> Response:
    """Return the answer to a request that failed outside the framework, as if a view had raised the error."""
    with app.request_context(environ):
        try:
            return app.finalize_request(app.handle_user_exception(error))
        except Exception as unexpected:
            return app.handle_exception(unexpected)


def _limit_caching(response: Response) -> Response:
    """Limit how long caches keep a static file to the release that it belongs to.

    While a release replaces another, an instance of either may get a request for a file of the other, and has only its
    own.
    """
    versions = request.args.getlist('v')
    if request.endpoint != 'static' or response.status_code != 200 or not versions:
        return response

    is_own = versions == [current_services().version.version] and not current_app.debug
    response.headers['Cache-Control'] = CACHED_FOR_EVER if is_own else NOT_CACHED[1]
    return response


def _secure(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _compress(response: Response) -> Response:
    if response.mimetype not in COMPRESSED or response.status_code == 206:
        return response

    response.vary.add('Accept-Encoding')
    if 'Content-Encoding' in response.headers or not accepts_gzip(request.headers.get('Accept-Encoding', '')):
        return response

    response.direct_passthrough = False
    content = response.get_data()
    if len(content) >= LEAST_BYTES:
        response.set_data(gzipped(content))
        response.headers['Content-Encoding'] = 'gzip'
        # A weak validator, because the same content now has other bytes.
        etag, _ = response.get_etag()
        if etag:
            response.set_etag(etag, weak=True)
    return response


def _show_error(error: HTTPException) -> Response:
    response = _explain(error.code or 500, error.name, error.description or '')
    for name, value in error.get_headers():
        if name.lower() not in ('content-type', 'content-length'):
            response.headers[name] = value
    return response


def _show_unavailable(_error: DatabaseUnavailable) -> Response:
    response = _explain(503, 'Service Unavailable', UNAVAILABLE)
    response.headers['Retry-After'] = str(RETRY_AFTER_SECONDS)
    return response


def _explain(status: int, title: str, message: str) -> Response:
    if request.path.endswith('.json'):
        response = jsonify(error=title, message=message)
    else:
        response = Response(render_template('error.html', title=title, message=message))
    response.status_code = status
    return uncached(response)
