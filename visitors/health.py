"""The addresses for health checks: /livez and /readyz."""

from flask import Blueprint, jsonify, Response

from visitors.headers import uncached
from visitors.services import current_services

health = Blueprint('health', __name__)
LIVE = 'health.live'


@health.get('/livez')
def live() -> Response:
    """Answer without the database: an outage of the database must not end processes that recover by themselves."""
    return uncached(jsonify(alive=True))


@health.get('/readyz')
def ready() -> tuple[Response, int]:
    """Report whether visitors can be served, and why not."""
    verdict = current_services().readiness.verdict()
    answer = jsonify(ready=verdict.ready, reason=verdict.reason, schema=verdict.schema)
    return uncached(answer), 200 if verdict.ready else 503
