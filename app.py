"""Composition root: settings become an application."""

from collections.abc import Callable
from functools import cache
import sys

try:
    from flask import Flask, request
    from flask_migrate import Migrate
except ModuleNotFoundError as missing:
    sys.exit(f'{missing.name} is not installed for {sys.executable}: use `make run`, or .venv/bin/python after it')

from visitors import commands, health, logs, responses, schema, views
from visitors.counting import Counter
from visitors.database import Breaker, db, engine_options, prepare_engine
from visitors.key import visitor_key
from visitors.listening import obstacle
from visitors.page import Page, Shortcut
from visitors.prefix import Prefix
from visitors.settings import is_embedded, load_or_exit, Settings
from visitors.version import read_version


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application for these settings, or for those of the environment; the network is not touched."""
    settings = settings or load_or_exit()
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

    breaker, counter, version = Breaker(), Counter(engine, zone=settings.time_zone), read_version()
    readiness = health.Readiness(engine, settings.time_zone)
    page = Page(settings, visitor_key(settings), counter, breaker, version)
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
        app.before_request(_once(lambda: schema.bring_up(settings)))
    return app


def _once(act: Callable[[], object]) -> Callable[[], None]:
    done = cache(act)

    def before_request() -> None:
        if request.endpoint != health.LIVE:  # that one touches nothing
            done()  # what it returns must not become the answer to the request

    return before_request


if __name__ == '__main__':
    given = load_or_exit()
    problem = obstacle(given.host, given.port)
    if problem:
        sys.exit(problem)
    create_app(given).run(given.host, given.port)
