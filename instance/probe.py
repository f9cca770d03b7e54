"""Requests to the application on this instance."""

from http.client import HTTPConnection, HTTPException
import json
from typing import Any

from instance.errors import StepFailed
from instance.machine import Machine

SECONDS = 5
AGENT = 'visitors-instance'  # the user agent of a program, whose requests are not counted
BROWSER = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'


def port(machine: Machine) -> int:
    """Return the port of the application."""
    path = machine.variables('application')
    try:
        # Split as Docker does.
        lines = path.read_text(encoding='utf-8').rstrip('\n').split('\n')
    except OSError as error:
        raise StepFailed(f'{path}: {error.strerror}; the step config writes it') from None
    return int(dict(line.split('=', 1) for line in lines)['PORT'])


def get(port: int, path: str, agent: str = AGENT) -> tuple[int, str]:
    """Return the status and the text of an answer; raise StepFailed if no answer comes."""
    connection = HTTPConnection('127.0.0.1', port, timeout=SECONDS)
    try:
        connection.request('GET', path, headers={'User-Agent': agent})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors='replace')
    except (OSError, HTTPException) as error:
        raise StepFailed(f'{path} does not answer: {error!r}') from None
    finally:
        connection.close()


def answers(port: int, path: str) -> bool:
    """Return whether a path answers with 200."""
    try:
        return get(port, path)[0] == 200
    except StepFailed:
        return False


def get_json(port: int, path: str) -> dict[str, Any]:
    """Return the JSON object of an answer; raise StepFailed for any other answer."""
    status, text = get(port, path)
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if status != 200 or not isinstance(answer, dict):
        raise StepFailed(f'{path} answers {status}: {text[:200]}')
    return answer
