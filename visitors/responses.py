"""What every answer carries, and the small pages for what goes wrong."""

from typing import Any

from flask import current_app, Flask, jsonify, render_template, request, Response
from werkzeug.exceptions import HTTPException

from visitors.compression import accepts_gzip, gzipped, LEAST_BYTES
from visitors.database_errors import DatabaseUnavailable
from visitors.settings import Settings
from visitors.version import Version

# Nothing but this site's own style sheet and pictures: no script, no form, no frame, no other host. Without a script
# nothing on the page can connect; an audit, which asks for /robots.txt on the page's behalf, can.
CONTENT_SECURITY_POLICY = ("default-src 'none'; style-src 'self'; img-src 'self'; connect-src 'self'; "
                           "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
SECURITY_HEADERS = {
    'Content-Security-Policy': CONTENT_SECURITY_POLICY,
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
}
# A page that a cache answers is a visit that nobody counts.
NOT_CACHED = ('Cache-Control', 'no-store')
CACHED_FOR_EVER = 'public, max-age=31536000, immutable'
CACHED_A_MINUTE = 'public, max-age=60'
CACHED_A_DAY = 'public, max-age=86400'
COMPRESSED = {'text/html', 'text/css', 'application/json', 'image/svg+xml'}
RETRY_AFTER_SECONDS = 2
AWAY = 'The database cannot be reached, so this visit was not counted. Please try again in a moment.'


def init_app(app: Flask) -> None:
    """Give an application its security headers and error pages."""
    # The last of these is the first to see an answer.
    app.after_request(_compress)
    app.after_request(_secure)
    app.after_request(_limit_caching)
    app.register_error_handler(HTTPException, _show_error)
    app.register_error_handler(DatabaseUnavailable, _show_away)


def context_of(settings: Settings, version: Version) -> dict[str, Any]:
    """Return what every page shows, whatever its subject."""
    return {'version': version.version, 'site_name': settings.site_name, 'user_name': settings.user_name,
            'user_url': settings.user_url}


def uncached(response: Response) -> Response:
    """Return a response that no cache keeps."""
    response.headers.set(*NOT_CACHED)
    return response


def shared(response: Response) -> Response:
    """Return a response that pages of other hosts may show and read."""
    response.headers['Access-Control-Allow-Origin'] = '*'
    response.headers['Cross-Origin-Resource-Policy'] = 'cross-origin'
    return response


def _limit_caching(response: Response) -> Response:
    """Keep a static file from caches beyond the release that it belongs to.

    While a release replaces another, an instance of either may be asked for a file of the other: it has only its own.
    """
    versions = request.args.getlist('v')
    if request.endpoint != 'static' or response.status_code != 200 or not versions:
        return response

    own = versions == [current_app.extensions['version'].version] and not current_app.debug
    response.headers['Cache-Control'] = CACHED_FOR_EVER if own else NOT_CACHED[1]
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
        # The same content in other bytes: that is what a weak validator says.
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


def _show_away(_error: DatabaseUnavailable) -> Response:
    response = _explain(503, 'Service Unavailable', AWAY)
    response.headers['Retry-After'] = str(RETRY_AFTER_SECONDS)
    return response


def _explain(status: int, title: str, message: str) -> Response:
    if request.path.endswith('.json'):
        response = jsonify(error=title, message=message)
    else:
        context = context_of(current_app.config['SETTINGS'], current_app.extensions['version'])
        response = Response(render_template('error.html', title=title, message=message, **context))
    response.status_code = status
    return uncached(response)
