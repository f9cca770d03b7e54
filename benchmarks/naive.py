"""The page as one would write it first: select, insert or update, COUNT(*), a template for each view."""

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from jinja2 import Template
from sqlalchemy import func, Integer, select, String
from sqlalchemy.orm import Mapped, mapped_column

from visitors.settings import load_or_exit

# Less than half of the real page and without its chart, so the comparison is in favour of this one.
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Visitors</title></head>
<body>
<h1>You have visited this page {{ visits }} time{{ '' if visits == 1 else 's' }}</h1>
<p>Total visitors: {{ total }}</p>
</body>
</html>
""")

db = SQLAlchemy()


class Visitor(db.Model):  # type: ignore[name-defined]
    """One address, in clear, and how often it came; the table is the one that the first revision makes."""

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    ip: Mapped[str] = mapped_column(String(40), unique=True)
    visits: Mapped[int]


def create_app() -> Flask:
    """Return the naive application for the same settings as the real one."""
    app = Flask(__name__)
    app.config['SQLALCHEMY_DATABASE_URI'] = load_or_exit().database_url
    db.init_app(app)
    app.add_url_rule('/', view_func=index)
    return app


def index() -> str:
    """Show the page and count the visit, as long as no other visitor comes at the same moment."""
    address = request.headers.get('X-Forwarded-For', request.remote_addr or '')
    visitor = db.session.scalar(select(Visitor).where(Visitor.ip == address))
    if visitor:
        visitor.visits += 1
    else:
        visitor = Visitor(ip=address, visits=1)
        db.session.add(visitor)
    db.session.commit()
    total = db.session.scalar(select(func.count()).select_from(Visitor))
    return PAGE.render(visits=visitor.visits, total=total)
