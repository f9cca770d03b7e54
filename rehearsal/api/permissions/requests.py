"""A call as IAM sees it: the operation, its parameters, and the key that signs it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
import re
from typing import Any
from urllib.parse import parse_qs

from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import determine_request_protocol, Request as MotoRequest
from moto.core.routing import get_service_router
from moto.core.utils import get_service_model
from werkzeug.exceptions import HTTPException

from rehearsal.calls import Call
from rehearsal.faults import SIGNED_AS
from rehearsal.settings import CREDENTIALS

CREDENTIAL = re.compile(r'Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request')
ROOT_KEY = CREDENTIALS['AWS_ACCESS_KEY_ID']
# Some of its calls have no key.
STS = 'sts'


@dataclass(frozen=True)
class Request:
    """A call: its service by the name that signs it, and its parameters by the names of botocore."""

    service: str
    operation: str
    region: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    key: str = ''
    token: str = ''


def read_request(call: Call, environ: dict[str, Any]) -> Request | None:
    """Return the request of a call for a decision; None where there is nothing to decide.

    That is the case for the rehearsal's own key, except in STS, whose roles decide, and for a call without a key.
    """
    key, region, service = credential_of(environ)
    has_decision = service == STS if key == ROOT_KEY else key or 'WebIdentity' in call.operation
    if not has_decision:
        return None
    name = service or STS
    request = MotoRequest(copied(environ, call, service))
    try:
        model = get_service_model(SIGNED_AS.get(name, name))
        operation, labels = get_service_router(model.service_name).match(request)
        parser = PROTOCOL_PARSERS[determine_request_protocol(model, request.content_type)](operation, map_type=dict)
        parameters = parser.parse({
            'method': request.method, 'values': request.values, 'headers': request.headers, 'body': request.data,
            'url_path': request.path, 'url_params': labels})
    except (HTTPException, KeyError, NotImplementedError):
        return None  # moto lacks the operation, too
    token = request.headers.get('X-Amz-Security-Token') or request.args.get('X-Amz-Security-Token', '')
    return Request(name, str(operation.name), region, parameters or {}, key, token)


def credential_of(environ: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the id of the key that signs a call, the region and the service; empty texts without a signature."""
    query = parse_qs(environ.get('QUERY_STRING', '')).get('X-Amz-Credential', [''])[0]
    match = CREDENTIAL.search(environ.get('HTTP_AUTHORIZATION', '') or f'Credential={query}')
    return (match[1], match[2], match[3]) if match else ('', 'us-east-1', '')


def copied(environ: dict[str, Any], call: Call, service: str) -> dict[str, Any]:
    """Return the environment of a request whose body can be read once more, with the bucket in its path."""
    body = environ['wsgi.input'].read()
    environ['wsgi.input'] = BytesIO(body)
    copy = {**environ, 'wsgi.input': BytesIO(body)}
    bucket, _, host = environ.get('HTTP_HOST', '').partition('.')
    if service == 's3' and host.partition(':')[0] == 'localhost':
        copy['PATH_INFO'] = f'/{bucket}{environ["PATH_INFO"]}'
    return copy
