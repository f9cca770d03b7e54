"""The page that counts: rendered once a second, and each view's own numbers are written into it."""

from dataclasses import dataclass
from functools import cached_property
import re
from typing import Any

from flask import Flask, render_template
from werkzeug.exceptions import ServiceUnavailable

from visitors.address import client_network, visitor_id
from visitors.agents import IN_ADVANCE, reason_not_to_count
from visitors.breaker import Breaker
from visitors.chart import days_counted, lay_out_days, lay_out_weeks, weeks_counted
from visitors.compression import accepts_gzip, joined, packed, stored
from visitors.counting import Counter
from visitors.headers import PAGE_HEADERS
from visitors.logs import REFUSED_IN_ADVANCE
from visitors.settings import Settings
from visitors.sharing import Visit
from visitors.statistics import Statistics

# Each view's own text is written into the rendered page at these marks.
GREETING_MARK, TOTAL_MARK = 'mark-of-greeting', 'mark-of-total'
MARKS = re.compile(f'({GREETING_MARK}|{TOTAL_MARK})')
NO_ADDRESS = 'address'
# The reasons why a request is served and not counted: those of visitors/agents.py that are not refused, and our own.
REASONS = ('head', 'gpc', 'dnt', 'bot', NO_ADDRESS)

Environ = dict[str, Any]
Answer = tuple[bytes, list[tuple[str, str]]]  # body and headers


class InAdvance(ServiceUnavailable):
    """A browser requests the page before its user opens it; a refused browser repeats the request at the click."""

    description = 'This page counts its visits, so it is not served in advance. Opening it counts the visit.'


@dataclass(frozen=True)
class Rendered:
    """The page for some statistics without the numbers of a view: the parts between the marks, and the marks.

    `greetings` holds the greeting of a first visit (True), of a later visit (False), and of each reason not to count.
    """

    statistics: Statistics
    parts: tuple[bytes, ...]
    greetings: dict[bool | str | None, str]

    @cached_property
    def blocks(self) -> tuple[bytes, ...]:
        """The parts as compressed blocks; those of the marks are not used."""
        return tuple(packed(part) for part in self.parts)

    def answer(self, visit: Visit | None, reason: str | None, accept_encoding: str) -> Answer:
        """Return the page as one view shows it, compressed if the client accepts that."""
        total = visit.total if visit else self.statistics.total
        greeting = self.greetings[visit.visits == 1 if visit else reason]
        own = {GREETING_MARK.encode(): greeting.format(visits=visit.visits if visit else 0, total=total).encode(),
               TOTAL_MARK.encode(): f'{total:,}'.encode()}
        content = [own.get(part, part) for part in self.parts]
        if not accepts_gzip(accept_encoding):
            body = b''.join(content)
            return body, [*PAGE_HEADERS, ('Content-Length', str(len(body)))]

        blocks = [stored(own[part]) if part in own else block for part, block in zip(self.parts, self.blocks)]
        body = joined(content, blocks)
        return body, [*PAGE_HEADERS, ('Content-Encoding', 'gzip'), ('Content-Length', str(len(body)))]


class Page:
    """The page of an application."""

    def __init__(self, app: Flask, settings: Settings, key: bytes, counter: Counter, breaker: Breaker) -> None:
        """Store the application that renders the page, the key of the hash, the counter and its breaker."""
        self._app = app
        self._trusted_proxies = settings.trusted_proxies
        # Only the links of a page with a public address hold a scheme and a host.
        self._root = settings.public_url or f'http://localhost{settings.url_prefix}/'
        self._key = key
        self._counter = counter
        self._breaker = breaker
        self._rendered: Rendered | None = None

    @property
    def is_rendered(self) -> bool:
        """Whether this process has shown the page before, so that its database has worked."""
        return self._rendered is not None

    def answer(self, environ: Environ) -> Answer:
        """Count the visit of a request, if it is one, and return the page; raise DatabaseUnavailable or InAdvance."""
        visitor, reason = self._client(environ)
        if reason == IN_ADVANCE:
            environ[REFUSED_IN_ADVANCE] = True
            raise InAdvance

        visit, statistics = None, self._counter.fresh_statistics()
        if visitor or not statistics:
            visit, statistics = self._breaker.call(lambda: self._numbers(visitor, statistics))
        rendered = self._rendered
        if not rendered or rendered.statistics is not statistics:
            rendered = self._rendered = self._render(statistics)
        answer = rendered.answer(visit, reason, environ.get('HTTP_ACCEPT_ENCODING', ''))
        if visit:
            self._counter.fold_if_needed()
        return answer

    def _client(self, environ: Environ) -> tuple[bytes | None, str | None]:
        """Return the visitor that a request counts for, or None and the reason why the request is not counted."""
        reason = reason_not_to_count(environ)
        if reason:
            return None, reason

        forwarded_for = environ.get('HTTP_X_FORWARDED_FOR', '')
        network = client_network(environ.get('REMOTE_ADDR', ''), forwarded_for, self._trusted_proxies)
        return (visitor_id(self._key, network), None) if network else (None, NO_ADDRESS)

    def _numbers(self, visitor: bytes | None, fresh: Statistics | None) -> tuple[Visit | None, Statistics]:
        # The visit comes first, because statistics that are loaded for it must include it.
        visit = self._counter.visit(visitor) if visitor else None
        return visit, fresh or self._counter.statistics()

    def _render(self, statistics: Statistics) -> Rendered:
        # In a request of its own, because the page is kept for others: nothing of a visitor's request may get into it.
        with self._app.test_request_context(base_url=self._root):
            days, weeks = days_counted(statistics), weeks_counted(statistics)
            page = render_template(
                'page.html', statistics=statistics, days=days, weeks=weeks, chart_of_days=lay_out_days(days),
                chart_of_weeks=lay_out_weeks(weeks), greeting=GREETING_MARK, total=TOTAL_MARK)
            greetings: dict[bool | str | None, str] = {
                first: render_template('greeting.html', first=first) for first in (True, False)}
            greetings.update((reason, render_template('greeting.html', first=None, reason=reason))
                             for reason in REASONS)
        return Rendered(statistics, tuple(part.encode() for part in MARKS.split(page)), greetings)
