"""What every answer carries, and the small pages for what goes wrong."""

from typing import Any

from flask import current_app, Flask, jsonify, render_template, request, Response
from werkzeug.exceptions import HTTPException

from visitors.database import DatabaseAway
from visitors.settings import Settings
from visitors.version import Version

# Nothing but this site's own style sheet and pictures: no script, no form, no frame, no other host.
CONTENT_SECURITY_POLICY = ("default-src 'none'; style-src 'self'; img-src 'self'; "
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
RETRY_AFTER_SECONDS = 2
AWAY = 'The database cannot be reached, so this visit was not counted. Please try again in a moment.'


def init_app(app: Flask) -> None:
    """Give an application its security headers and error pages."""
    app.after_request(_secure)
    app.register_error_handler(HTTPException, _show_error)
    app.register_error_handler(DatabaseAway, _show_away)


def context_of(settings: Settings, version: Version) -> dict[str, Any]:
    """Return what every page shows, whatever its subject."""
    return {'version': version.version, 'user_name': settings.user_name, 'user_url': settings.user_url}


def uncached(response: Response) -> Response:
    """Return a response that no cache keeps."""
    response.headers.set(*NOT_CACHED)
    return response


def _secure(response: Response) -> Response:
    response.headers.extend(SECURITY_HEADERS)
    # The address of a static file names the version that it belongs to, so it never changes under that address.
    if request.endpoint == 'static' and 'v' in request.args and response.status_code == 200:
        response.headers['Cache-Control'] = CACHED_FOR_EVER
    return response


def _show_error(error: HTTPException) -> Response:
    response = _explain(error.code or 500, error.name, error.description or '')
    for name, value in error.get_headers():
        if name.lower() not in ('content-type', 'content-length'):
            response.headers[name] = value
    return response


def _show_away(_error: DatabaseAway) -> Response:
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
