"""The application as it answers on this machine."""

from http.client import HTTPConnection, HTTPException
import json
from typing import Any

from instance.errors import StepFailed
from instance.machine import Machine

SECONDS = 5
AGENT = 'visitors-instance'  # a program, so it is not counted
BROWSER = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'


def port(machine: Machine) -> int:
    """Return the port that the application was told to listen on."""
    path = machine.variables('application')
    try:
        # As Docker splits it.
        lines = path.read_text(encoding='utf-8').rstrip('\n').split('\n')
    except OSError as error:
        raise StepFailed(f'{path}: {error.strerror}; the step config writes it') from None
    return int(dict(line.split('=', 1) for line in lines)['PORT'])


def get(at: int, path: str, agent: str = AGENT) -> tuple[int, str]:
    """Return the status and the text of an answer; raise StepFailed where there is none."""
    connection = HTTPConnection('127.0.0.1', at, timeout=SECONDS)
    try:
        connection.request('GET', path, headers={'User-Agent': agent})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors='replace')
    except (OSError, HTTPException) as error:
        raise StepFailed(f'{path} does not answer: {error!r}') from None
    finally:
        connection.close()


def answers(at: int, path: str) -> bool:
    """Return whether a path answers with 200."""
    try:
        return get(at, path)[0] == 200
    except StepFailed:
        return False


def get_json(at: int, path: str) -> dict[str, Any]:
    """Return the object that a path answers with; raise StepFailed for any other answer."""
    status, text = get(at, path)
    try:
        known = json.loads(text)
    except ValueError:
        known = None
    if status != 200 or not isinstance(known, dict):
        raise StepFailed(f'{path} answers {status}: {text[:200]}')
    return known
