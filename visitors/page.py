"""The page that counts: rendered once a second, and for each view only its own numbers are written into it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
import re
from typing import Any

from flask import current_app, render_template
from werkzeug.exceptions import ServiceUnavailable

from visitors.address import client_network, visitor_id
from visitors.agents import IN_ADVANCE, reason_not_to_count
from visitors.breaker import Breaker
from visitors.chart import days_counted, lay_out_days, lay_out_weeks, weeks_counted
from visitors.compression import accepts_gzip, joined, packed, stored
from visitors.counting import Counter, Visit
from visitors.responses import context_of, NOT_CACHED, SECURITY_HEADERS
from visitors.settings import Settings
from visitors.statistics import Statistics
from visitors.version import Version

# What differs from one view to the next is written into the rendered page at these marks.
GREETING_MARK, TOTAL_MARK = 'mark-of-greeting', 'mark-of-total'
MARKS = re.compile(f'({GREETING_MARK}|{TOTAL_MARK})')
VARIES = ('Vary', 'Accept-Encoding')
FAILURE = 'visitors.failure'

Environ = dict[str, Any]
Answer = tuple[bytes, tuple[tuple[str, str], ...]]  # a body, and the headers that say how it is encoded


class InAdvance(ServiceUnavailable):
    """A browser asks for the page before its user does; refused, it asks again when the user opens the page."""

    description = 'This page counts its visits, so it is not served in advance. Opening it counts the visit.'


@dataclass(frozen=True)
class Rendered:
    """The page for some statistics without what is a view's own: the parts between the marks, and the marks.

    `greetings` are the texts of the greeting by whether the visit is a visitor's first, None for one not counted.
    """

    statistics: Statistics
    parts: tuple[bytes, ...]
    greetings: dict[bool | None, str]

    @cached_property
    def blocks(self) -> tuple[bytes, ...]:
        """Return the parts compressed; what stands for marks is of no use."""
        return tuple(packed(part) for part in self.parts)

    def answer(self, visit: Visit | None, accept_encoding: str) -> Answer:
        """Return the page as one view shows it, compressed if the client accepts that."""
        total = visit.total if visit else self.statistics.total
        greeting = self.greetings[visit.visits == 1 if visit else None]
        own = {GREETING_MARK.encode(): greeting.format(visits=visit.visits if visit else 0, total=total).encode(),
               TOTAL_MARK.encode(): f'{total:,}'.encode()}
        content = [own.get(part, part) for part in self.parts]
        if not accepts_gzip(accept_encoding):
            return b''.join(content), (VARIES,)

        blocks = [stored(own[part]) if part in own else block for part, block in zip(self.parts, self.blocks)]
        return joined(content, blocks), (VARIES, ('Content-Encoding', 'gzip'))


class Page:
    def __init__(self, settings: Settings, key: bytes, counter: Counter, breaker: Breaker, version: Version) -> None:
        """Show the page of these parts."""
        self._trusted_proxies = settings.trusted_proxies
        self._root = f'http://localhost{settings.url_prefix}/'
        self._key = key
        self._counter = counter
        self._breaker = breaker
        self._context = context_of(settings, version)
        self._rendered: dict[str | None, Rendered] = {}

    def view(self, environ: Environ) -> Answer:
        """Count the visit of a request, if it is one, and return the page; raise DatabaseUnavailable or InAdvance."""
        visitor, reason = self._who(environ)
        if reason == IN_ADVANCE:
            raise InAdvance

        visit, statistics = self._breaker.call(lambda: self._numbers(visitor))
        return self._fresh(statistics, reason).answer(visit, environ.get('HTTP_ACCEPT_ENCODING', ''))

    def view_if_rendered(self, environ: Environ) -> Answer | None:
        """Do the same where the page's shared part is at hand and fresh; else do nothing and return None."""
        visitor, reason = self._who(environ)
        statistics = self._counter.fresh_statistics()
        rendered = self._rendered.get(reason)
        if not statistics or not rendered or rendered.statistics is not statistics:
            return None

        visit = self._breaker.call(lambda: self._counter.visit(visitor)) if visitor else None
        return rendered.answer(visit, environ.get('HTTP_ACCEPT_ENCODING', ''))

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

    def _fresh(self, statistics: Statistics, reason: str | None) -> Rendered:
        known = self._rendered.get(reason)
        if not known or known.statistics is not statistics:
            known = self._rendered[reason] = self._render(statistics, reason)
        return known

    def _render(self, statistics: Statistics, reason: str | None) -> Rendered:
        # In a request of its own: the page is kept for others, so nothing of the visitor's request may get into it.
        with current_app.test_request_context(base_url=self._root):
            days, weeks = days_counted(statistics), weeks_counted(statistics)
            page = render_template(
                'page.html', statistics=statistics, days=days, weeks=weeks, chart_of_days=lay_out_days(days),
                chart_of_weeks=lay_out_weeks(weeks), greeting=GREETING_MARK, total=TOTAL_MARK, **self._context)
            greetings = {first: render_template('greeting.html', first=first, reason=reason)
                         for first in ((None,) if reason else (True, False))}
        return Rendered(statistics, tuple(part.encode() for part in MARKS.split(page)), greetings)


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
        answer = self._view(environ) if environ['PATH_INFO'] == '/' and environ['REQUEST_METHOD'] == 'GET' else None
        if answer is None:
            return self._application(environ, start_response)

        body, encoding = answer
        start_response('200 OK', [*self.HEADERS, *encoding, ('Content-Length', str(len(body)))])
        return [body]

    def _view(self, environ: Environ) -> Answer | None:
        try:
            return self._page.view_if_rendered(environ)
        except Exception as error:
            # The application shows and logs it as any other failure. It must not count the visit again.
            environ[FAILURE] = error
            return None
