"""Requests to the page, as a roll checks it: bounded, and not counted as visits. The verdict is pure."""

from collections.abc import Sequence
from dataclasses import dataclass
import http.client
import json
import urllib.error
import urllib.request

SECONDS = 5.0
# By its name the application takes it for a health checker, so it is no visitor.
AGENT = 'visitors-release-healthcheck/1'
SAMPLES = 20
LEAST_FAILURES = 3
LEAST_ANSWERS = 3  # of the new release, without which a sample says nothing about it
PATHS = ('/version', '/')


@dataclass(frozen=True)
class Answer:
    """An answer of the page; a missing one has the status 0."""

    path: str
    status: int = 0
    version: str = ''
    trouble: str = ''

    @property
    def is_failure(self) -> bool:
        """Whether the page itself failed. A missing answer is missing data, and never a verdict."""
        return self.status >= 500


def ask(url: str, path: str) -> Answer:
    """Return the answer to one request."""
    request = urllib.request.Request(f'{url.rstrip("/")}{path}', headers={'User-Agent': AGENT})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            body = response.read()
            return Answer(path, response.status, _version(body) if path == '/version' else '')
    except urllib.error.HTTPError as error:
        return Answer(path, error.code, trouble=str(error))
    except (OSError, http.client.HTTPException) as error:
        return Answer(path, trouble=str(error))


def sample(url: str) -> list[Answer]:
    """Return the answers to a bounded number of requests for the version and the page."""
    # One path after the other: in turns, a load balancer with two instances would give each path to one of them.
    return [ask(url, path) for path in PATHS for _ in range(SAMPLES // len(PATHS))]


def objection(answers: Sequence[Answer]) -> str:
    """Return the reason to abort a roll; empty unless enough answers are failures."""
    failures = [answer for answer in answers if answer.is_failure]
    if len(failures) < LEAST_FAILURES:
        return ''
    return f'{len(failures)} of {len(answers)} requests failed, such as {failures[0].path}: {failures[0].trouble}'


def _version(body: bytes) -> str:
    try:
        return str(json.loads(body).get('version', ''))
    except (ValueError, AttributeError):
        return ''
