"""Composition root: settings become an application."""

import sys
import threading
import time

try:
    from flask import Flask, request
    from flask_migrate import Migrate
except ModuleNotFoundError as missing:
    sys.exit(f'{missing.name} is not installed for {sys.executable}: use `make run`, or .venv/bin/python after it')

from visitors import commands, health, logs, responses, schema, views
from visitors.breaker import Breaker, RETRY_SECONDS
from visitors.counting import Counter
from visitors.deadline import REQUEST_SECONDS
from visitors.engines import engine_options, prepare_engine
from visitors.key import visitor_key
from visitors.listening import obstacle
from visitors.models import db
from visitors.page import Page, Shortcut
from visitors.prefix import Prefix
from visitors.settings import exit_if_bad, is_embedded, load_or_exit, Settings
from visitors.version import read_version


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application for these settings, or for those of the environment; the network is not touched."""
    settings = settings or load_or_exit()
    key = exit_if_bad(lambda: visitor_key(settings))
    app = Flask(__name__)
    app.config.update(
        SETTINGS=settings,
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings),
    )
    db.init_app(app)
    Migrate(app, db)
    with app.app_context():
        engine = db.engine
    prepare_engine(engine, settings)

    counter, version = Counter(engine, zone=settings.time_zone), read_version()
    breaker = Breaker(counter.has_connection)
    readiness = health.Readiness(engine, settings.time_zone)
    page = Page(settings, key, counter, breaker, version)
    app.extensions.update(breaker=breaker, counter=counter, version=version, readiness=readiness, page=page)
    app.register_blueprint(health.health)
    app.register_blueprint(views.views)
    logs.init_app(app)
    responses.init_app(app)
    commands.init_app(app)
    schema.init_app(app)
    app.wsgi_app = Prefix(Shortcut(app.wsgi_app, page), settings.url_prefix)  # type: ignore[method-assign]
    if is_embedded(settings.database_url):
        # Its schema needs no leader among instances, so whoever starts the server (flask run, too) gets it.
        app.before_request(_Embedded(settings))
    return app


class _Embedded:
    """The schema of an embedded database, brought up before the first request that needs it."""

    def __init__(self, settings: Settings) -> None:
        """Begin with nothing brought up."""
        self._settings = settings
        self._fits = False
        self._tried_at = float('-inf')
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Bring it up if no request has; one that cannot is tried again after a second, and the visit fails."""
        if self._fits or request.endpoint == health.LIVE:  # that one touches nothing
            return
        with self._lock:
            if self._fits or time.monotonic() - self._tried_at < RETRY_SECONDS:
                return
            self._fits = schema.bring_up(self._settings, schema.Options(timeout=REQUEST_SECONDS)) is schema.Exit.FITS
            self._tried_at = time.monotonic()


if __name__ == '__main__':
    given = load_or_exit()
    problem = obstacle(given.host, given.port)
    if problem:
        sys.exit(problem)
    create_app(given).run(given.host, given.port)
