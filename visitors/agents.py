"""Requests that are served and not counted, as their own headers declare."""

from collections.abc import Mapping
from functools import lru_cache
import re

from crawleruseragents import is_crawler

# The user agent of a browser begins with one of these; nearly every other agent names a program.
BROWSER_OPENINGS = ('Mozilla/5.0 (', '"Mozilla/5.0 (', 'Opera/')
# Words of crawlers, monitors and previews whose agent begins like a browser's: their address, but not an @ before a
# version, and "compatible;", but not in Internet Explorer. Recall and false positives:
# docs/decisions/0002-who-is-a-visitor.md.
DECLARED_PROGRAM = re.compile(
    r'bot|crawl|spider|https?:|www\.|@(?![0-9])|headless|preview|scan|monitor|compatible;(?! msie)', re.IGNORECASE)
# Only so many characters of an agent are compared with the public list of crawlers: the time grows with the length,
# and a browser's agent is shorter.
LISTED_WITHIN = 512
# With one of these headers a browser declares that it fetches, renders or photographs a page before its user opens it:
# Chromium and Firefox send the first, older browsers and Safari the others.
ADVANCE_HEADERS = ('HTTP_SEC_PURPOSE', 'HTTP_PURPOSE', 'HTTP_X_MOZ', 'HTTP_X_PURPOSE')
ADVANCE = re.compile('prefetch|prerender|preview', re.IGNORECASE)
# The reason for which a request is neither counted nor served: a person could see its answer later.
IN_ADVANCE = 'prefetch'


def reason_not_to_count(environ: Mapping[str, str]) -> str | None:
    """Return the reason why a WSGI request is not a visit: head, prefetch, gpc, dnt or bot; None for a visit."""
    if environ['REQUEST_METHOD'] == 'HEAD':
        return 'head'
    if _is_in_advance(environ):
        return IN_ADVANCE
    if environ.get('HTTP_SEC_GPC', '').strip() == '1':
        return 'gpc'
    if environ.get('HTTP_DNT', '').strip() == '1':
        return 'dnt'
    return 'bot' if is_program(environ.get('HTTP_USER_AGENT', '')) else None


def _is_in_advance(environ: Mapping[str, str]) -> bool:
    return any(name in environ and ADVANCE.search(environ[name]) for name in ADVANCE_HEADERS)


@lru_cache(maxsize=1024)
def is_program(user_agent: str) -> bool:
    """Return whether a User-Agent declares a program (crawler, health checker, tool) instead of a browser."""
    if not user_agent.startswith(BROWSER_OPENINGS) or DECLARED_PROGRAM.search(user_agent):
        return True
    return bool(is_crawler(user_agent[:LISTED_WITHIN]))
