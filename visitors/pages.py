"""What a visitor sees: the page, its numbers as JSON, and the version."""

import re
from typing import Any

from flask import Blueprint, current_app, jsonify, render_template, request, Response

from visitors.address import client_network, visitor_id
from visitors.agents import reason_not_to_count
from visitors.chart import lay_out
from visitors.counting import Counter, Visit
from visitors.database import Breaker
from visitors.responses import context_of, uncached
from visitors.settings import Settings
from visitors.statistics import Statistics
from visitors.version import Version

pages = Blueprint('pages', __name__)

# What differs from one view to the next is written into the rendered page at these marks.
VISIT_MARK, SENTENCE_MARK, NUMBER_MARK = 'mark-of-visit', 'mark-of-total', 'mark-of-number'
MARKS = re.compile(f'({VISIT_MARK}|{SENTENCE_MARK}|{NUMBER_MARK})')


class Page:
    def __init__(self, settings: Settings, key: bytes, counter: Counter, breaker: Breaker, version: Version) -> None:
        """Show the page of these parts; the part of it that all views share is rendered once a second."""
        self._settings = settings
        self._key = key
        self._counter = counter
        self._breaker = breaker
        self._context = context_of(settings, version)
        self._rendered: dict[str | None, tuple[Statistics, list[str]]] = {}

    def view(self, environ: dict[str, Any]) -> str:
        """Count the visit that a request is, if it is one, and return the page; raise DatabaseAway."""
        visitor, reason = self._visitor(environ)
        visit, statistics = self._breaker.call(lambda: self._numbers(visitor))
        total = visit.total if visit else statistics.total
        values = {SENTENCE_MARK: f'Total visitors: {total}', NUMBER_MARK: f'{total:,}'}
        if visit:
            values[VISIT_MARK] = f'You have visited this page {visit.visits} time{"" if visit.visits == 1 else "s"}'
        return ''.join([values.get(part, part) for part in self._parts(statistics, reason)])

    def _visitor(self, environ: dict[str, Any]) -> tuple[bytes | None, str | None]:
        reason = reason_not_to_count(environ)
        if reason:
            return None, reason

        forwarded_for = environ.get('HTTP_X_FORWARDED_FOR', '')
        network = client_network(environ.get('REMOTE_ADDR', ''), forwarded_for, self._settings.trusted_proxies)
        return (visitor_id(self._key, network), None) if network else (None, 'address')

    def _numbers(self, visitor: bytes | None) -> tuple[Visit | None, Statistics]:
        # First the visit: where statistics are loaded for it, they include it.
        visit = self._counter.visit(visitor) if visitor else None
        return visit, self._counter.statistics()

    def _parts(self, statistics: Statistics, reason: str | None) -> list[str]:
        known = self._rendered.get(reason)
        if known and known[0] is statistics:
            return known[1]

        parts = MARKS.split(self._render(statistics, reason))
        self._rendered[reason] = statistics, parts
        return parts

    def _render(self, statistics: Statistics, reason: str | None) -> str:
        return render_template(
            'page.html', statistics=statistics, chart=lay_out(statistics.days), counted=reason,
            visit_sentence=VISIT_MARK, total_sentence=SENTENCE_MARK, total_number=NUMBER_MARK, **self._context)


@pages.get('/')
def index() -> Response:
    """Show the page and count the visit."""
    return uncached(Response(current_app.extensions['page'].view(request.environ), mimetype='text/html'))


@pages.get('/stats.json')
def stats() -> Response:
    """Tell the page's numbers as JSON; nothing is counted."""
    breaker, counter = current_app.extensions['breaker'], current_app.extensions['counter']
    return uncached(jsonify(numbers_of(breaker.call(counter.statistics))))


def numbers_of(statistics: Statistics) -> dict[str, Any]:
    """Return statistics by the keys of /stats.json, which docs/stats.md promises."""
    return {
        'today': statistics.today,
        'last_7_days': statistics.week,
        'last_30_days': statistics.month,
        'total': statistics.total,
        'days': [{'day': day.day.isoformat(), 'visitors': day.visitors, 'newcomers': day.newcomers}
                 for day in statistics.days],
    }


@pages.get('/version')
def version() -> Response:
    """Tell the version that runs, what it was built from, and the newest schema revision that it knows."""
    known: Version = current_app.extensions['version']
    return uncached(jsonify(version=known.version, commit=known.commit, build_time=known.build_time,
                            schema=current_app.extensions['readiness'].code_head))
