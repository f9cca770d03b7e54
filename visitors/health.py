"""Whether this process answers, and whether it could serve a visitor now."""

from dataclasses import dataclass
import threading
import time
from typing import Any

from flask import Blueprint, current_app, jsonify, Response
from sqlalchemy import Engine

from visitors.database import Breaker, DatabaseAway
from visitors.responses import uncached
from visitors.schema import bring_up, CodeRevisions, Fitness
from visitors.settings import is_embedded, Settings

health = Blueprint('health', __name__)

FRESH_SECONDS = 1.0


@dataclass(frozen=True)
class Verdict:
    """Whether visitors can be served, and why not."""

    ready: bool
    reason: str
    schema: str | None = None


class Readiness:
    def __init__(self, engine: Engine, settings: Settings, breaker: Breaker) -> None:
        """Tell whether the database can be reached and its schema fits this code."""
        self._engine = engine
        self._settings = settings
        self._breaker = breaker
        self._code = CodeRevisions.load()
        self._verdict: Verdict | None = None
        self._checked_at = 0.0
        self._checking = threading.Lock()

    @property
    def code_head(self) -> str:
        """The newest schema revision that this code knows."""
        return self._code.head

    def verdict(self) -> Verdict:
        """Return the verdict, at most a second old; many callers at once share one check."""
        with self._checking:
            if not self._verdict or time.monotonic() - self._checked_at >= FRESH_SECONDS:
                self._verdict = self._check()
                self._checked_at = time.monotonic()
            return self._verdict

    def _check(self) -> Verdict:
        try:
            fitness = self._breaker.call(self._read)
        except DatabaseAway as error:
            return Verdict(False, f'database: {error}')
        return Verdict(fitness.fits, fitness.reason, fitness.state.name)
