"""The services of an application: what its views and error pages share."""

from dataclasses import dataclass

from flask import current_app, Flask

from visitors.breaker import Breaker
from visitors.counting import Counter
from visitors.page import Page
from visitors.readiness import Readiness
from visitors.schema import CodeRevisions
from visitors.version import Version

KEY = 'visitors'


@dataclass(frozen=True)
class Services:
    """What create_app makes once for an application."""

    version: Version
    revisions: CodeRevisions
    counter: Counter
    breaker: Breaker
    readiness: Readiness
    page: Page


def init_app(app: Flask, services: Services) -> None:
    """Give an application its services."""
    app.extensions[KEY] = services


def current_services() -> Services:
    """Return the services of the application that handles this request."""
    services: Services = current_app.extensions[KEY]
    return services
