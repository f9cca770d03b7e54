"""The addresses a visitor or a visitor's program asks: the page, its numbers as JSON, and the version."""

from typing import Any

from flask import Blueprint, current_app, jsonify, render_template, request, Response

from visitors.badge import parts_of
from visitors.page import FAILURE
from visitors.responses import CACHED_A_DAY, CACHED_A_MINUTE, shared, uncached
from visitors.schema import CodeRevisions
from visitors.statistics import Statistics
from visitors.version import Version

views = Blueprint('views', __name__)


@views.get('/')
def index() -> Response:
    """Show the page and count the visit."""
    if FAILURE in request.environ:
        raise request.environ[FAILURE]
    body, encoding = current_app.extensions['page'].view(request.environ)
    return uncached(Response(body, headers=encoding, mimetype='text/html'))


@views.get('/stats.json')
def stats() -> Response:
    """Tell the page's numbers; nothing is counted."""
    return shared(uncached(jsonify(numbers_of(_statistics()))))


def _statistics() -> Statistics:
    statistics: Statistics = current_app.extensions['breaker'].call(current_app.extensions['counter'].statistics)
    return statistics


def numbers_of(statistics: Statistics) -> dict[str, Any]:
    """Return statistics by the keys that /stats.json promises: docs/reference.md lists them."""
    best = statistics.best_day
    return {
        'as_of': statistics.as_of.isoformat(timespec='seconds'),
        'time_zone': statistics.time_zone,
        'today': statistics.today,
        'last_7_days': statistics.week,
        'last_30_days': statistics.month,
        'total': statistics.total,
        'undated': statistics.undated,
        'since': statistics.since and statistics.since.isoformat(),
        'best_day': best and {'day': best.day.isoformat(), 'visitors': best.visitors, 'newcomers': best.newcomers},
        'days': [{'day': day.day.isoformat(), 'visitors': day.visitors, 'newcomers': day.newcomers}
                 for day in statistics.days],
        'weeks': [{'monday': week.monday.isoformat(), 'visitor_days': week.visitor_days, 'newcomers': week.newcomers}
                  for week in statistics.weeks],
    }


@views.get('/badge.svg')
def badge() -> Response:
    """Draw the total for other pages; nothing is counted."""
    label, number = parts_of(_statistics().total)
    drawing = Response(render_template('badge.svg', label=label, number=number), mimetype='image/svg+xml')
    drawing.headers['Cache-Control'] = CACHED_A_MINUTE
    return shared(drawing)


@views.get('/favicon.ico')
def favicon() -> Response:
    """Send the icon to those who ask for it unbidden."""
    icon = current_app.send_static_file('favicon.ico')
    icon.headers['Cache-Control'] = CACHED_A_DAY
    return icon


@views.get('/robots.txt')
def robots() -> Response:
    """Let crawlers read everything; they count as no visitor."""
    rules = Response('User-agent: *\nAllow: /\n', mimetype='text/plain')
    rules.headers['Cache-Control'] = CACHED_A_DAY
    return rules


@views.get('/version')
def version() -> Response:
    """Tell the version that runs, what it was built from, and the newest schema revision that it knows."""
    known: Version = current_app.extensions['version']
    return uncached(jsonify(version=known.version, commit=known.commit, build_time=known.build_time,
                            schema=CodeRevisions.load().head))
