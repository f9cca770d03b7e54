"""Composition root: settings become an application."""

import os

from flask import Flask
from flask_migrate import Migrate

from visitors.database import db
from visitors.settings import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application for these settings, or for those of the environment; the network is not touched."""
    settings = settings or Settings.from_environ(os.environ)
    app = Flask(__name__)
    app.config['SETTINGS'] = settings
    app.config['SQLALCHEMY_DATABASE_URI'] = settings.database_url
    db.init_app(app)
    Migrate(app, db)
    return app
