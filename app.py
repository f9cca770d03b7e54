"""Composition root: makes the application from its settings."""

import sys
import threading
import time

try:
    from flask import Flask, request
    from flask_migrate import Migrate
except ModuleNotFoundError as missing:
    sys.exit(f'{missing.name} is not installed for {sys.executable}: use `make run`, or .venv/bin/python after it')

from visitors import commands, health, logs, responses, schema, services, views
from visitors.breaker import Breaker, RETRY_SECONDS
from visitors.counting import Counter
from visitors.deadline import REQUEST_SECONDS
from visitors.engines import engine_options, prepare_engine
from visitors.key import visitor_key
from visitors.listening import obstacle
from visitors.models import db
from visitors.page import Page
from visitors.prefix import Prefix
from visitors.readiness import Readiness
from visitors.schema.revisions import MIGRATIONS
from visitors.settings import exit_if_bad, is_embedded, load_or_exit, Settings
from visitors.shortcut import Shortcut
from visitors.version import read_version


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application for these settings, or for those of the environment, without using the network."""
    settings = settings or load_or_exit()
    key = exit_if_bad(lambda: visitor_key(settings))
    app = Flask(__name__)
    app.config.update(
        SETTINGS=settings,
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings),
    )
    db.init_app(app)
    Migrate(app, db, directory=str(MIGRATIONS))
    with app.app_context():
        engine = db.engine
    prepare_engine(engine, settings)

    version, revisions = read_version(), schema.CodeRevisions.load()
    counter = Counter(engine, zone=settings.time_zone)
    breaker = Breaker(counter.has_connection)
    page = Page(app, settings, key, counter, breaker)
    services.init_app(app, services.Services(
        version, revisions, counter, breaker, Readiness(engine, settings.time_zone, revisions), page))
    app.register_blueprint(health.health)
    app.register_blueprint(views.views)
    logs.init_app(app)
    responses.init_app(app, settings, version)
    commands.init_app(app)
    schema.init_app(app)
    app.wsgi_app = Prefix(Shortcut(app, page), settings.url_prefix)  # type: ignore[method-assign]
    if is_embedded(settings.database_url):
        # Its schema needs no leader among instances, so every start of a server (`flask run`, too) brings it up.
        app.before_request(_Embedded(settings))
    return app


class _Embedded:
    """The schema of an embedded database, brought up before the first request that needs it."""

    def __init__(self, settings: Settings) -> None:
        """Store the settings; nothing is brought up yet."""
        self._settings = settings
        self._fits = False
        self._tried_at = float('-inf')
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Bring the schema up unless an earlier request did; after a failure the next try waits for a second."""
        if self._fits or request.endpoint == health.LIVE:  # that one touches no database
            return
        with self._lock:
            if self._fits or time.monotonic() - self._tried_at < RETRY_SECONDS:
                return
            self._fits = schema.bring_up(self._settings, schema.Options(timeout=REQUEST_SECONDS)) is schema.Exit.FITS
            self._tried_at = time.monotonic()


if __name__ == '__main__':
    settings_of_process = load_or_exit()
    problem = obstacle(settings_of_process.host, settings_of_process.port)
    if problem:
        sys.exit(problem)
    create_app(settings_of_process).run(settings_of_process.host, settings_of_process.port)
