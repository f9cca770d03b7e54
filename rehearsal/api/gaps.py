"""What nobody has built yet: an action that is missing is refused at once, and written down.

moto answers 500 instead, which AWS's own libraries repeat for minutes before they tell anybody.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html and, for the services that speak JSON,
https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

from collections.abc import Callable, Iterable
from io import BytesIO
import json
import logging
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from rehearsal.listeners import Application

logger = logging.getLogger(__name__)

QUERY = ('<?xml version="1.0"?>\n<ErrorResponse><Error><Type>Sender</Type><Code>InvalidAction</Code>'
         '<Message>{message}</Message></Error><Errors><Error><Code>InvalidAction</Code><Message>{message}</Message>'
         '</Error></Errors><RequestId>gap</RequestId></ErrorResponse>')


class Gaps:
    def __init__(self, application: Application) -> None:
        """Answer by an application, and for it where it cannot."""
        self._application = application
        self.found: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
        environ['wsgi.input'] = BytesIO(body)
        try:
            return self._application(environ, start_response)
        except NotImplementedError as error:
            reason = str(error)
        except Exception as error:  # whatever moto has not foreseen is missing as well
            logger.exception('moto has failed')
            reason = repr(error)
        return self._refuse(environ, start_response, action_of(environ, body), reason)

    def _refuse(self, environ: dict[str, Any], start_response: Callable[..., Any], action: str,
                reason: str) -> Iterable[bytes]:
        self.found.append(action)
        logger.warning('gap: %s: %s', action, reason)
        message = f'{action} is no part of this rehearsal: {reason}'
        if speaks_json(environ):
            kind, code = 'application/x-amz-json-1.1', 'UnknownOperationException'
            text = json.dumps({'__type': code, 'message': message})
        else:
            kind, code, text = 'text/xml', 'InvalidAction', QUERY.format(message=escape(message))
        content = text.encode()
        start_response('400 Bad Request', [('Content-Type', kind), ('Content-Length', str(len(content))),
                                           ('x-amzn-ErrorType', code)])
        return [content]


def speaks_json(environ: dict[str, Any]) -> bool:
    """Return whether a request is in one of the protocols that speak JSON."""
    return bool(environ.get('HTTP_X_AMZ_TARGET')) or 'json' in environ.get('CONTENT_TYPE', '')


def action_of(environ: dict[str, Any], body: bytes) -> str:
    """Return service and action that a request asks for, or its path where it names no action."""
    service = environ.get('HTTP_AUTHORIZATION', '').partition('Credential=')[2].split('/')[3:4]
    target = environ.get('HTTP_X_AMZ_TARGET', '').rpartition('.')[2]
    form = 'x-www-form-urlencoded' in environ.get('CONTENT_TYPE', '')
    named = parse_qs(body.decode(errors='replace')).get('Action', [''])[0] if form else ''
    path = f'{environ["REQUEST_METHOD"]} {environ.get("PATH_INFO", "")}'
    return ':'.join([*service, target or named or path])
