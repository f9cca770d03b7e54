"""Which requests are served but not counted, by what the client says of itself."""

from collections.abc import Mapping
from functools import lru_cache
import re

from crawleruseragents import is_crawler

# Browsers introduce themselves with one of these; nearly everything else is a program that says so.
BROWSER_OPENINGS = ('Mozilla/5.0 (', '"Mozilla/5.0 (', 'Opera/')
# Words by which crawlers, monitors and previews that open like a browser give themselves away: their address, unless
# the @ stands before a version, and "compatible;", but for Internet Explorer. Recall and false positives:
# docs/decisions/0002-who-is-a-visitor.md.
DECLARED_PROGRAM = re.compile(
    r'bot|crawl|spider|https?:|www\.|@(?![0-9])|headless|preview|scan|monitor|compatible;(?! msie)', re.IGNORECASE)
# The public list of crawlers is looked through only so far: the time it takes grows with an agent's length, and a
# browser's agent is shorter.
LISTED_WITHIN = 512
# By these a browser says that it fetches, renders or photographs a page before its user wants to see it: Chromium and
# Firefox by the first, older ones and Safari by the others.
ADVANCE_HEADERS = ('HTTP_SEC_PURPOSE', 'HTTP_PURPOSE', 'HTTP_X_MOZ', 'HTTP_X_PURPOSE')
ADVANCE = re.compile('prefetch|prerender|preview', re.IGNORECASE)
# Why a request is not counted and not served either: what it gets could be shown to a person later.
IN_ADVANCE = 'prefetch'


def reason_not_to_count(environ: Mapping[str, str]) -> str | None:
    """Return why a WSGI request is not a visit: head, prefetch, gpc, dnt or bot; None if it is one."""
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
