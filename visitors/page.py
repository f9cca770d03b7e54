"""The page that counts: rendered once a second, and for each view only its own numbers are written into it."""

from collections.abc import Callable, Iterable
import re
from typing import Any

from flask import current_app, render_template
from werkzeug.exceptions import ServiceUnavailable

from visitors.address import client_network, visitor_id
from visitors.agents import IN_ADVANCE, reason_not_to_count
from visitors.chart import lay_out
from visitors.counting import Counter, Visit
from visitors.database import Breaker
from visitors.responses import context_of, NOT_CACHED, SECURITY_HEADERS
from visitors.settings import Settings
from visitors.statistics import Statistics
from visitors.version import Version

# What differs from one view to the next is written into the rendered page at these marks.
VISIT_MARK, SENTENCE_MARK, NUMBER_MARK = 'mark-of-visit', 'mark-of-total', 'mark-of-number'
MARKS = re.compile(f'({VISIT_MARK}|{SENTENCE_MARK}|{NUMBER_MARK})')
FAILURE = 'visitors.failure'

Environ = dict[str, Any]
Parts = list[bytes]


class InAdvance(ServiceUnavailable):
    """A browser asks for the page before its user does; refused, it asks again when the user opens the page."""

    description = 'This page counts its visits, so it is not served in advance. Opening it counts the visit.'


class Page:
    def __init__(self, settings: Settings, key: bytes, counter: Counter, breaker: Breaker, version: Version) -> None:
        """Show the page of these parts."""
        self._trusted_proxies = settings.trusted_proxies
        self._root = f'http://localhost{settings.url_prefix}/'
        self._key = key
        self._counter = counter
        self._breaker = breaker
        self._context = context_of(settings, version)
        self._rendered: dict[str | None, tuple[Statistics, Parts]] = {}

    def view(self, environ: Environ) -> bytes:
        """Count the visit that a request is, if it is one, and return the page; raise DatabaseAway or InAdvance."""
        visitor, reason = self._who(environ)
        if reason == IN_ADVANCE:
            raise InAdvance

        visit, statistics = self._breaker.call(lambda: self._numbers(visitor))
        return _filled(self._parts(statistics, reason), visit, statistics)

    def view_if_rendered(self, environ: Environ) -> bytes | None:
        """Do the same where the page's shared part is at hand and fresh; else do nothing and return None."""
        visitor, reason = self._who(environ)
        statistics = self._counter.fresh_statistics()
        rendered = self._rendered.get(reason)
        if not statistics or not rendered or rendered[0] is not statistics:
            return None

        visit = self._breaker.call(lambda: self._counter.visit(visitor)) if visitor else None
        return _filled(rendered[1], visit, statistics)

    def _who(self, environ: Environ) -> tuple[bytes | None, str | None]:
        """Return the visitor, or None and why the request is not counted."""
        reason = reason_not_to_count(environ)
        if reason:
            return None, reason

        forwarded_for = environ.get('HTTP_X_FORWARDED_FOR', '')
        network = client_network(environ.get('REMOTE_ADDR', ''), forwarded_for, self._trusted_proxies)
        return (visitor_id(self._key, network), None) if network else (None, 'address')

    def _numbers(self, visitor: bytes | None) -> tuple[Visit | None, Statistics]:
        # First the visit: where statistics are loaded for it, they include it.
        visit = self._counter.visit(visitor) if visitor else None
        return visit, self._counter.statistics()

    def _parts(self, statistics: Statistics, reason: str | None) -> Parts:
        known = self._rendered.get(reason)
        if known and known[0] is statistics:
            return known[1]

        parts = [part.encode() for part in MARKS.split(self._render(statistics, reason))]
        self._rendered[reason] = statistics, parts
        return parts

    def _render(self, statistics: Statistics, reason: str | None) -> str:
        # In a request of its own: the page is kept for others, so nothing of the visitor's request may get into it.
        with current_app.test_request_context(base_url=self._root):
            return render_template(
                'page.html', statistics=statistics, chart=lay_out(statistics.days), counted=reason,
                visit_sentence=VISIT_MARK, total_sentence=SENTENCE_MARK, total_number=NUMBER_MARK, **self._context)


def _filled(parts: Parts, visit: Visit | None, statistics: Statistics) -> bytes:
    total = visit.total if visit else statistics.total
    values = {SENTENCE_MARK.encode(): b'Total visitors: %d' % total, NUMBER_MARK.encode(): f'{total:,}'.encode()}
    if visit:
        times = b'time' if visit.visits == 1 else b'times'
        values[VISIT_MARK.encode()] = b'You have visited this page %d %s' % (visit.visits, times)
    return b''.join([values.get(part, part) for part in parts])


class Shortcut:
    """Answers a view of the page by itself while its shared part is fresh, and leaves all else to the application.

    A framework's way from request to response costs more processor time than counting does.
    """

    HEADERS = (('Content-Type', 'text/html; charset=utf-8'), NOT_CACHED, *SECURITY_HEADERS.items())

    def __init__(self, application: Callable[..., Iterable[bytes]], page: Page) -> None:
        """Stand before a WSGI application."""
        self._application = application
        self._page = page

    def __call__(self, environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
        """Answer a request."""
        body = self._view(environ) if environ['PATH_INFO'] == '/' and environ['REQUEST_METHOD'] == 'GET' else None
        if body is None:
            return self._application(environ, start_response)

        start_response('200 OK', [*self.HEADERS, ('Content-Length', str(len(body)))])
        return [body]

    def _view(self, environ: Environ) -> bytes | None:
        try:
            return self._page.view_if_rendered(environ)
        except Exception as error:
            # The application shows and logs it as any other failure. It must not count the visit again.
            environ[FAILURE] = error
            return None
