"""The paths that visitors and their programs request: the page, its numbers, the badge, the version."""

from typing import Any

from flask import Blueprint, current_app, jsonify, render_template, request, Response

from visitors.badge import parts_of
from visitors.headers import CACHED_A_DAY, CACHED_A_MINUTE, shared, uncached
from visitors.services import current_services
from visitors.statistics import Statistics

views = Blueprint('views', __name__)


@views.get('/')
def index() -> Response:
    """Show the page and count the visit; after a process's first view, visitors/shortcut.py does that for GET."""
    body, headers = current_services().page.answer(request.environ)
    return Response(body, headers=headers)


@views.get('/stats.json')
def stats() -> Response:
    """Return the page's numbers as JSON; nothing is counted."""
    return shared(uncached(jsonify(numbers_of(_statistics()))))


def _statistics() -> Statistics:
    services = current_services()
    return services.breaker.call(services.counter.statistics)


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
    """Draw the total as a picture for other pages; nothing is counted."""
    label, number = parts_of(_statistics().total)
    drawing = Response(render_template('badge.svg', label=label, number=number), mimetype='image/svg+xml')
    drawing.headers['Cache-Control'] = CACHED_A_MINUTE
    return shared(drawing)


@views.get('/favicon.ico')
def favicon() -> Response:
    """Send the icon to browsers that request it without a link to it."""
    icon = current_app.send_static_file('favicon.ico')
    icon.headers['Cache-Control'] = CACHED_A_DAY
    return icon


@views.get('/robots.txt')
def robots() -> Response:
    """Allow crawlers everything; none of them counts as a visitor."""
    rules = Response('User-agent: *\nAllow: /\n', mimetype='text/plain')
    rules.headers['Cache-Control'] = CACHED_A_DAY
    return rules


@views.get('/version')
def version() -> Response:
    """Report the version that runs, the commit and time of its build, and the newest schema revision that it knows."""
    services = current_services()
    build = services.version
    return uncached(jsonify(version=build.version, commit=build.commit, build_time=build.build_time,
                            schema=services.revisions.head))
