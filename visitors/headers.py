"""The headers of answers: security, and how long caches may keep them."""

from flask import Response

# Nothing but this site's own style sheet and pictures: no script, form, frame or other host. Without a script nothing
# on the page can connect, but an audit can: it requests /robots.txt on the page's behalf.
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
# A page that a cache answers is a visit that is not counted.
NOT_CACHED = ('Cache-Control', 'no-store')
CACHED_FOR_EVER = 'public, max-age=31536000, immutable'
CACHED_A_MINUTE = 'public, max-age=60'
CACHED_A_DAY = 'public, max-age=86400'
# All headers of the page but those that differ from one view to the next.
PAGE_HEADERS = (('Content-Type', 'text/html; charset=utf-8'), NOT_CACHED, ('Vary', 'Accept-Encoding'),
                *SECURITY_HEADERS.items())


def uncached(response: Response) -> Response:
    """Return a response that no cache keeps."""
    response.headers.set(*NOT_CACHED)
    return response


def shared(response: Response) -> Response:
    """Return a response that pages of other hosts may show and read."""
    response.headers['Access-Control-Allow-Origin'] = '*'
    response.headers['Cross-Origin-Resource-Policy'] = 'cross-origin'
    return response
