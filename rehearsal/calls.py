"""Calls of the API, and the errors that AWS's libraries understand, in each of its protocols.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html and, for the services that speak JSON,
https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

from dataclasses import dataclass
from io import BytesIO
import json
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from werkzeug.wrappers import Response

ERROR = '<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>'
# EC2's library looks for `Errors`, those of other services that speak XML for `Error`; S3's wants nothing round it.
XML = ('<?xml version="1.0"?>\n<ErrorResponse>{error}<Errors>{error}</Errors><RequestId>rehearsal</RequestId>'
       '</ErrorResponse>')


@dataclass(frozen=True)
class Call:
    """A call of the API: its service by the name that signs it, its operation, and its text.

    The operation of a service that speaks REST, such as S3, is its method and path: `PUT /bucket/key`.
    """

    service: str
    operation: str
    text: str
    is_json: bool = False

    @property
    def name(self) -> str:
        """The service and the operation, as in `ssm:GetParameter`; the operation alone where nothing is signed."""
        return f'{self.service}:{self.operation}' if self.service else self.operation

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of a call, as its protocol spells them: `Tag.1.Key` in a form, nested in JSON."""
        return dict(json.loads(self.text or '{}')) if self.is_json else dict(parse_qsl(self.text))

    def error(self, status: int, code: str, message: str) -> Response:
        """Return an error that answers this call."""
        if self.is_json:
            text, kind = json.dumps({'__type': code, 'message': message}), 'application/x-amz-json-1.1'
        else:
            error = ERROR.format(code=escape(code), message=escape(message))
            text, kind = error if self.service == 's3' else XML.format(error=error), 'text/xml'
        return Response(text, status, {'x-amzn-ErrorType': code}, content_type=kind)


def read_call(environ: dict[str, Any]) -> Call:
    """Return the call of a request, whose body can be read again afterwards."""
    body = environ['wsgi.input'].read(int(environ.get('CONTENT_LENGTH') or 0))
    environ['wsgi.input'] = BytesIO(body)
    text = body.decode(errors='replace')
    kind, target = environ.get('CONTENT_TYPE', ''), environ.get('HTTP_X_AMZ_TARGET', '').rpartition('.')[2]
    action = dict(parse_qsl(text)).get('Action', '') if 'x-www-form-urlencoded' in kind else ''
    path = f'{environ["REQUEST_METHOD"]} {environ.get("PATH_INFO", "")}'
    scope = environ.get('HTTP_AUTHORIZATION', '').partition('Credential=')[2].split('/')
    service = scope[3] if len(scope) > 3 else ''
    return Call(service, target or action or path, text, bool(target) or 'json' in kind)
