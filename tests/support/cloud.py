"""The API of AWS on this machine: moto behind a server that can go away, refuse, and answer a group's hooks."""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from io import BytesIO
import logging
import threading
from typing import Any
from urllib.parse import parse_qs

import boto3
from moto.backends import get_backend
from moto.moto_server.werkzeug_app import create_backend_app, DomainDispatcherApplication, MotoRequestHandler
import requests
from werkzeug.serving import BaseWSGIServer, make_server

from tests.support.postgresql import free_port

REGION, ACCOUNT = 'eu-central-1', '123456789012'
KEYS = {'AWS_ACCESS_KEY_ID': 'testing', 'AWS_SECRET_ACCESS_KEY': 'testing'}
XMLNS = 'http://autoscaling.amazonaws.com/doc/2011-01-01/'
Answer = tuple[int, str]
# One for all, because each reads the descriptions of the services anew, which takes longer than to ask them.
SESSION = boto3.Session('testing', 'testing', region_name=REGION)


class Cloud:
    def __init__(self) -> None:
        """Begin an AWS of which nothing exists yet."""
        self.port = free_port()
        self.calls: list[tuple[str, str]] = []
        # What an action is answered with, instead of by moto, until it is taken away again.
        self.answers: dict[str, Answer] = {}
        # The same where it depends on what is asked.
        self.refuse: Callable[[str, str], Answer | None] = lambda _action, _body: None
        self.on_continue: Callable[[str], None] = lambda _instance: None
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None
        logging.getLogger('werkzeug').setLevel(logging.ERROR)
        self.start()
        requests.post(f'{self.endpoint}/moto-api/reset', timeout=30).raise_for_status()
        self.calls.clear()

    @property
    def endpoint(self) -> str:
        """The URL of all services."""
        return f'http://127.0.0.1:{self.port}'

    def start(self) -> None:
        """Answer from now on."""
        self._server = make_server('127.0.0.1', self.port, self, threaded=True, request_handler=MotoRequestHandler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Be away; what exists stays."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def client(self, service: str) -> Any:
        """Return a client of a service, for tests themselves."""
        return SESSION.client(service, endpoint_url=self.endpoint)

    def actions(self) -> list[str]:
        """Return what was asked, in order."""
        return [action for action, _ in self.calls]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
        environ['wsgi.input'] = BytesIO(body)
        text = body.decode(errors='replace')
        action = action_of(environ, text)
        self.calls.append((action, text))
        answer = self.answers.get(action) or self.refuse(action, text) or self._answer_hook(action, text)
        if not answer:
            return self._moto(environ, start_response)

        status, answered = answer
        kind = 'application/x-amz-json-1.1' if answered.startswith('{') else 'text/xml'
        start_response(f'{status} {HTTPStatus(status).phrase}', [('Content-Type', kind)])
        return [answered.encode()]

    def _answer_hook(self, action: str, text: str) -> Answer | None:
        if action == 'RecordLifecycleActionHeartbeat':
            return 200, done(action)
        if action != 'CompleteLifecycleAction':
            return None

        form = {name: values[0] for name, values in parse_qs(text).items()}
        state = state_of(form['InstanceId'])
        if state is None or state.lifecycle_state != 'Pending:Wait':
            return 400, refused('ValidationError', 'No active Lifecycle Action found with instance ID '
                                f'{form["InstanceId"]}')
        state.lifecycle_state = 'InService' if form['LifecycleActionResult'] == 'CONTINUE' else 'Terminating'
        if state.lifecycle_state == 'InService':
            self.on_continue(form['InstanceId'])
        return 200, done(action)


def action_of(environ: dict[str, Any], text: str) -> str:
    """Return the action that a request asks for, in any of AWS's protocols."""
    target = environ.get('HTTP_X_AMZ_TARGET', '') or environ['PATH_INFO'].rpartition('/operation/')[2]
    form = parse_qs(text) if 'Action=' in text else {}
    return str(form['Action'][0]) if 'Action' in form else str(target).rpartition('.')[2]


def state_of(instance: str) -> Any:
    """Return what moto holds of an instance in its Auto Scaling group, to be changed."""
    groups = get_backend('autoscaling')[ACCOUNT][REGION].autoscaling_groups.values()
    states = [state for group in groups for state in group.instance_states if state.instance.id == instance]
    return states[0] if states else None


def done(action: str) -> str:
    """Return the answer of Auto Scaling that says nothing but that it was done."""
    return f'<{action}Response xmlns="{XMLNS}"><{action}Result/></{action}Response>'


def refused(code: str, message: str) -> str:
    """Return the answer of Auto Scaling, CloudWatch or load balancers that refuses an action."""
    return (f'<ErrorResponse xmlns="{XMLNS}"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>'
            '</Error></ErrorResponse>')


def refused_json(code: str, message: str) -> str:
    """Return the answer of the other services that refuses an action."""
    return f'{{"__type": "{code}", "message": "{message}"}}'
