"""One question to an endpoint, as a checker of Route 53 asks it.

https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html
"""

from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
import socket
import ssl
import time

CONNECT_SECONDS, ANSWER_SECONDS, BODY_SECONDS = 4, 2, 2
SEARCHED_BYTES = 5120
AGENT = 'Amazon-Route53-Health-Check-Service (ref {}; report http://amzn.to/1vsZADi)'
DEFAULT_PORTS = {'HTTP': 80, 'HTTPS': 443}


@dataclass(frozen=True)
class Endpoint:
    """An endpoint, and the condition that its answer must meet."""

    check: str
    # HTTP, HTTPS or TCP.
    protocol: str
    host: str
    port: int
    path: str = '/'
    search: str = ''
    with_name: bool = True


@dataclass(frozen=True)
class Answer:
    """Whether an endpoint passed, and the text about it that Route 53 shows."""

    has_passed: bool
    text: str


def ask(endpoint: Endpoint, address: str | None) -> Answer:
    """Return the answer of an endpoint at an address; None is a name that does not resolve."""
    if address is None:
        return Answer(False, 'Failure: DNS resolution failed: NXDOMAIN')
    try:
        with socket.create_connection((address, endpoint.port), CONNECT_SECONDS) as plain:
            if endpoint.protocol == 'TCP':
                return Answer(True, f'Success: Resolved IP: {address}. OK')
            if endpoint.protocol == 'HTTP':
                return judge(endpoint, plain, address)
            name = endpoint.host if endpoint.with_name else None
            with tls().wrap_socket(plain, server_hostname=name) as secret:
                return judge(endpoint, secret, address)
    except (OSError, HTTPException) as error:
        return Answer(False, f'Failure: Resolved IP: {address}. {type(error).__name__}: {error}')


def judge(endpoint: Endpoint, connected: socket.socket, address: str) -> Answer:
    """Return the answer to a request on a connected socket."""
    response = request(endpoint, connected)
    text = f'HTTP Status Code: {response.status}. Resolved IP: {address}.'
    if not 200 <= response.status < 400:
        return Answer(False, f'Failure: {text} {response.reason}')
    if endpoint.search and endpoint.search.encode() not in beginning(response, connected):
        return Answer(False, f'Failure: {text} The search string was not found in the first {SEARCHED_BYTES} bytes')
    return Answer(True, f'Success: {text} OK')


def request(endpoint: Endpoint, connected: socket.socket) -> HTTPResponse:
    """Send the request, and return the response when its status line and headers have arrived."""
    connected.settimeout(ANSWER_SECONDS)
    connection = HTTPConnection(endpoint.host, endpoint.port)
    connection.sock = connected
    is_default = DEFAULT_PORTS[endpoint.protocol] == endpoint.port
    connection.putrequest('GET', endpoint.path or '/', skip_host=True, skip_accept_encoding=True)
    connection.putheader('Host', endpoint.host if is_default else f'{endpoint.host}:{endpoint.port}')
    connection.putheader('User-Agent', AGENT.format(endpoint.check))
    connection.putheader('Connection', 'close')
    connection.endheaders()
    return connection.getresponse()


def beginning(response: HTTPResponse, connected: socket.socket) -> bytes:
    """Return the beginning of a body, as far as it arrives in time."""
    until, body = time.monotonic() + BODY_SECONDS, b''
    # The response closes itself, and with it the socket, at the end of the body.
    while len(body) < SEARCHED_BYTES and not response.isclosed() and (remaining := until - time.monotonic()) > 0:
        connected.settimeout(remaining)
        part = response.read1(SEARCHED_BYTES - len(body))
        if not part:
            break
        body += part
    return body


def tls() -> ssl.SSLContext:
    """Return the TLS of a checker: it validates no certificate, and it speaks no version above 1.2.

    https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/health-checks-creating-values.html
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
