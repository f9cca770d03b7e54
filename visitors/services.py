"""The services that the views and error pages of an application share."""

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
    """The services of an application, made once by create_app."""

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
