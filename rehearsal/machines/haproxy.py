"""haproxy as an Application Load Balancer: its configuration, its runtime API and its log."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from hashlib import sha256
import json
from pathlib import Path
import re
import socket
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1

from rehearsal.api.routing import (
    Certificate, Condition, Configuration, FixedResponse, Forward, HOST, LEAST_OUTSTANDING, Listener, Redirect, Rule,
    SAME_QUERY)
from rehearsal.api.traffic import CLIENT_CLOSED, FORWARD, Request, WAF
from rehearsal.errors import RehearsalError

# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html
REASONS = {301: 'Moved Permanently', 302: 'Found', 400: 'Bad Request', 403: 'Forbidden', 408: 'Request Time-out',
           500: 'Internal Server Error', 502: 'Bad Gateway', 503: 'Service Temporarily Unavailable',
           504: 'Gateway Time-out'}
ERRORS = (400, 403, 408, 500, 502, 503, 504)
SERVER = 'awselb/2.0'
CONNECT_SECONDS = 10
# A process that a newer one replaced ends with its last request.
LONGEST_END = '1h'
ADMIN_SECONDS = 10
LIMIT, NO_TARGET = 'requests-per-address', 'no-target'
# One thread, because of several that write to the log at once, one may drop its line. No retries, because they would
# hide errors that visitors see on AWS.
DEFAULTS = """\
global
  nbthread 1
  stats socket {admin} mode 600 level admin expose-fd listeners
  log stdout len 65535 format raw local0
  hard-stop-after {longest_end}
  noreuseport
defaults
  mode http
  log global
  log-format '{log_format}'
  option dontlognull
  timeout connect {connect}s
  timeout client {idle}s
  timeout server {idle}s
  timeout http-request {idle}s
  timeout http-keep-alive {idle}s
  retries 0
"""
# An ALB appends the client's address to the header, so its last value is the one to trust.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/x-forwarded-headers.html
FORWARDED = (
    'http-request set-header X-Forwarded-For "%[req.fhdr(x-forwarded-for)], %[src]" '
    'if { req.fhdr(x-forwarded-for) -m found }',
    'http-request set-header X-Forwarded-For %[src] if !{ req.fhdr(x-forwarded-for) -m found }')
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html
TRACE = (
    'http-request set-var-fmt(txn.time) "%{+X}Ts"',
    'http-request set-var-fmt(txn.trace) "Root=1-%[var(txn.time),lower]-%[uuid(4),regsub(-,,g),bytes(0,24)]"',
    'http-request set-var-fmt(txn.trace) "%[var(txn.trace),regsub(^Root,Self)];%[req.hdr(x-amzn-trace-id)]" '
    'if { req.hdr(x-amzn-trace-id) -m sub Root= }',
    'http-request set-header X-Amzn-Trace-Id %[var(txn.trace)]')
LOGGED = {
    'seconds': '%Ts.%ms', 'client': '%ci:%cp', 'listener': '%ft', 'method': '%HM', 'version': '%HV',
    'url': '%[var(txn.url),json(utf8s)]', 'host': '%[var(txn.host),json(utf8s)]',
    'agent': '%[var(txn.agent),json(utf8s)]', 'status': '%ST', 'answer': '%[var(txn.answer)]',
    'target_status': '%[var(txn.target_status)]', 'target': '%s', 'target_address': '%si:%sp', 'backend': '%b',
    'rule': '%[var(txn.rule)]', 'location': '%[var(txn.location),json(utf8s)]', 'ended': '%ts', 'idle': '%Ti',
    'read': '%TR', 'queued': '%Tw', 'connected': '%Tc', 'answered': '%Tr', 'sent': '%Td', 'active': '%Ta',
    'bytes_received': '%U', 'bytes_sent': '%B', 'cipher': '%sslc', 'tls': '%sslv', 'sni': '%[ssl_fc_sni]',
    'certificate': '%[ssl_f_sha1,hex]', 'trace': '%[var(txn.trace)]'}


@dataclass(frozen=True)
class Server:
    """A target as a server of haproxy: its name and address, and whether it gets new requests."""

    name: str
    address: str
    receives: bool


class Admin:
    """The runtime API of a haproxy.

    https://docs.haproxy.org/2.6/management.html#9.3
    """

    def __init__(self, path: Path) -> None:
        """Speak at this socket."""
        self.path = path

    def __call__(self, command: str) -> str:
        """Return the answer to a command; raise OSError if the process does not answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ADMIN_SECONDS)
            connection.connect(str(self.path))
            connection.sendall(f'{command}\n'.encode())
            return b''.join(iter(lambda: connection.recv(65536), b'')).decode().strip()

    def add(self, backend: str, server: Server) -> None:
        """Add a server, which gets no request yet."""
        self._do(f'add server {backend}/{server.name} {server.address}', 'New server registered.')

    def send(self, backend: str, server: Server) -> None:
        """Send requests to a server, or let it only answer those that it has."""
        self._do(f'set server {backend}/{server.name} state {"ready" if server.receives else "drain"}', '')

    def remove(self, backend: str, name: str) -> bool:
        """End the requests of a server, remove it, and return whether that is done; the ends may take a moment."""
        self(f'set server {backend}/{name} state maint')
        self(f'shutdown sessions server {backend}/{name}')
        return 'deleted' in self(f'del server {backend}/{name}') or 'No such server' in self(
            f'set server {backend}/{name} state maint')

    def _do(self, command: str, expected: str) -> None:
        answer = self(command)
        if answer != expected:
            raise RehearsalError(f'haproxy: {command}: {answer}')


def backend_of(group: str) -> str:
    """Return the name of the backend of a target group, by its ARN."""
    return f'targets-{group.rpartition("/")[2]}'


def write(folder: Path, configuration: Configuration, address: str, ports: Mapping[int, int], admin: Path,
          servers: Mapping[str, Iterable[Server]]) -> Path:
    """Write the files of a configuration to a folder, and return the first of them.

    `ports` maps the ports of the listeners to those of this host, `servers` the backends to their servers.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for status in ERRORS:
        (folder / str(status)).write_text(error(status), encoding='ascii', newline='')
    lines = [DEFAULTS.format(admin=admin, longest_end=LONGEST_END, log_format=log_format(), connect=CONNECT_SECONDS,
                             idle=configuration.idle_seconds)]
    lines += [f'  errorfile {status} {folder / str(status)}\n' for status in ERRORS]
    if configuration.limit:
        lines.append(f'backend {LIMIT}\n  stick-table type ipv6 size 100k expire {configuration.limit.seconds}s '
                     f'store http_req_rate({configuration.limit.seconds}s)\n')
    for listener in configuration.listeners:
        lines += section(f'frontend {listener.port}',
                         frontend(folder, listener, configuration, f'{address}:{ports[listener.port]}'))
    lines += section(f'backend {NO_TARGET}', [])
    for group, algorithm in configuration.algorithms.items():
        name = backend_of(group)
        lines += section(f'backend {name}', backend(folder, algorithm, servers.get(name, ())))
    path = folder / 'haproxy.cfg'
    path.write_text(''.join(lines), encoding='utf-8')
    return path


def section(name: str, lines: Iterable[str]) -> list[str]:
    """Return a section of a configuration."""
    return [f'{name}\n', *(f'  {line}\n' for line in lines)]


def log_format() -> str:
    """Return the format of a line of the log, an object of JSON."""
    fields = ','.join(f'"{name}":"{value}"' for name, value in LOGGED.items())
    return f'{{{fields}}}'


def frontend(folder: Path, listener: Listener, configuration: Configuration, bind: str) -> list[str]:
    """Return the lines of a listener."""
    lines = [f'bind {bind}{tls_options(folder, listener, configuration)}',
             'http-request set-var(txn.url) url', 'http-request set-var(txn.host) req.hdr(host)',
             'http-request set-var(txn.agent) req.hdr(user-agent)']
    if configuration.limit:
        lines += [f'http-request track-sc0 src table {LIMIT}',
                  f'http-request deny deny_status 403 if {{ sc_http_req_rate(0,{LIMIT}) '
                  f'gt {configuration.limit.requests} }}']
    if configuration.drops_invalid_headers:
        lines.append('http-request del-header [^-A-Za-z0-9] -m reg')
    lines += [*TRACE, *FORWARDED, f'http-request set-header X-Forwarded-Proto {listener.protocol.lower()}',
              f'http-request set-header X-Forwarded-Port {listener.port}']
    for rule in listener.rules:
        lines += chosen(folder, listener, rule)
    for rule in listener.rules:
        lines += performed(folder, listener, rule)
    lines.append('http-after-response set-var(txn.answer) status')
    if not listener.names_server:
        lines.append('http-after-response del-header Server if !{ var(txn.target_status) -m found }')
    if listener.hsts:
        lines.append(f'http-after-response set-header Strict-Transport-Security "{literal(listener.hsts)}"')
    return lines


def tls_options(folder: Path, listener: Listener, configuration: Configuration) -> str:
    """Return the options of a listener's socket; the first certificate is the one for unknown names."""
    if listener.protocol != 'HTTPS':
        return ''
    paths = []
    for certificate in listener.certificates:
        path = folder / f'{sha256(certificate.pem.encode()).hexdigest()[:16]}.pem'
        path.touch(mode=0o600)
        path.write_text(certificate.pem, encoding='ascii')
        paths.append(f'{path}\n')
    names = folder / f'{listener.port}.certificates'
    names.write_text(''.join(paths), encoding='utf-8')
    protocols = 'h2,http/1.1' if configuration.speaks_http2 else 'http/1.1'
    return f' ssl crt-list {names} alpn {protocols} ssl-min-ver {listener.oldest_tls}'


def chosen(folder: Path, listener: Listener, rule: Rule) -> list[str]:
    """Return the line that notes a rule as the one of a request, unless one before it is."""
    conditions = [matching(folder, listener, rule, place) for place in range(len(rule.conditions))]
    return [' '.join((f'http-request set-var(txn.rule) int({rule.priority}) if !{{ var(txn.rule) -m found }}',
                      *conditions))]


def matching(folder: Path, listener: Listener, rule: Rule, place: int) -> str:
    """Return a condition of a rule, whose patterns stand in a file."""
    condition = rule.conditions[place]
    path = folder / f'{listener.port}-{rule.priority}-{place}.patterns'
    path.write_text(''.join(f'{expression}\n' for expression in expressions(condition)), encoding='utf-8')
    subject = 'req.hdr(host),field(1,:),lower' if condition.field == HOST else 'path'
    return f'{{ {subject} -m reg -f {path} }}'


def expressions(condition: Condition) -> list[str]:
    """Return the patterns of a condition as regular expressions; those of hosts match any case.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html
    """
    patterns = [each.lower() if condition.field == HOST else each for each in condition.patterns]
    wildcards = {'*': '.*', '?': '.'}
    return [''.join(['^', *(wildcards.get(character) or re.escape(character) for character in pattern), '$'])
            for pattern in patterns]


def performed(folder: Path, listener: Listener, rule: Rule) -> list[str]:
    """Return the lines that perform the action of a rule."""
    applies = f'{{ var(txn.rule) -m int {rule.priority} }}'
    action = rule.action
    if isinstance(action, Forward):
        name = backend_of(action.target_group)
        # A process that a newer one replaces counts no server as usable, and still answers by them.
        return [f'use_backend {NO_TARGET} if {applies} {{ nbsrv({name}) eq 0 }} !{{ stopping }}',
                f'use_backend {name} if {applies}']
    if isinstance(action, FixedResponse):
        return [fixed(folder, f'{listener.port}-{rule.priority}', action, applies)]
    return redirected(folder, listener, action, applies)


def fixed(folder: Path, name: str, action: FixedResponse, applies: str) -> str:
    """Return the line of a fixed response."""
    path = folder / f'{name}.body'
    path.write_text(action.body, encoding='utf-8')
    body = f' content-type {action.content_type} file {path}' if action.body else ''
    return f'http-request return status {action.status}{body} hdr Server {SERVER} if {applies}'


def redirected(folder: Path, listener: Listener, action: Redirect, applies: str) -> list[str]:
    """Return the lines of a redirect."""
    page = folder / f'{action.status}.html'
    page.write_text(html(action.status), encoding='ascii', newline='')
    parts = [template(listener, part) for part in (action.protocol.lower(), action.host, action.port, action.path)]
    lines = ['http-request set-var-fmt(txn.location) "{}://{}:{}{}" if {}'.format(*parts, applies)]
    if action.query:
        exists = ' { query -m len gt 0 }' if action.query == SAME_QUERY else ''
        query = template(listener, action.query)
        lines.append(f'http-request set-var-fmt(txn.location) "%[var(txn.location)]?{query}" if {applies}{exists}')
    lines.append(f'http-request return status {action.status} content-type text/html file {page} '
                 f'hdr Location %[var(txn.location)] hdr Server {SERVER} if {applies}')
    return lines


def template(listener: Listener, text: str) -> str:
    """Return a part of a redirect's URL, whose placeholders stand for parts of the request."""
    values = {'protocol': listener.protocol.lower(), 'host': '%[req.hdr(host),field(1,:)]', 'port': str(listener.port),
              'path': '%[path,regsub(^/,)]', 'query': '%[query]'}
    parts = re.split(r'#\{(protocol|host|port|path|query)\}', text)
    return ''.join(values[part] if place % 2 else literal(part.replace('%', '%%')) for place, part in enumerate(parts))


def literal(text: str) -> str:
    """Return a text as it stands between the double quotes of a configuration."""
    return re.sub(r'(["\\$])', r'\\\1', text)


def backend(folder: Path, algorithm: str, servers: Iterable[Server]) -> list[str]:
    """Return the lines of a target group with the servers that receive requests.

    haproxy answers 503 for a target that refuses connections, an ALB 502.
    """
    return [f'balance {"leastconn" if algorithm == LEAST_OUTSTANDING else "roundrobin"}',
            f'errorfile 503 {folder / "502"}', 'http-response set-var(txn.target_status) status',
            *(f'server {server.name} {server.address}' for server in servers if server.receives)]


def html(status: int) -> str:
    """Return the page of an ALB for a status."""
    title = f'{status} {REASONS[status]}'
    return (f'<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>'
            '\r\n</html>\r\n')


def error(status: int) -> str:
    """Return the answer of an ALB for an error."""
    body = html(status)
    return (f'HTTP/1.1 {status} {REASONS[status]}\r\nServer: {SERVER}\r\nContent-Type: text/html\r\n'
            f'Content-Length: {len(body)}\r\n\r\n{body}')


def fingerprints(certificates: Iterable[Certificate]) -> dict[str, str]:
    """Return the ARNs of certificates by the fingerprint that haproxy logs."""
    return {x509.load_pem_x509_certificate(each.pem.encode()).fingerprint(SHA1()).hex().upper(): each.arn
            for each in certificates}


def parse(line: str, listeners: Mapping[int, Listener], arns: Mapping[str, str]) -> Request | None:
    """Return the request of a line of the log; None for a line about a server that comes or goes.

    `listeners` holds the listeners by port, `arns` the ARNs of their certificates by fingerprint.
    """
    if not line.startswith('{'):
        return None
    logged: dict[str, str] = {name: '' if value == '-' else value for name, value in json.loads(line).items()}
    port = int(logged['listener'].rstrip('~'))
    listener = listeners[port]
    rule = int(logged['rule']) if logged['rule'] else None
    target = '' if logged['target'] == '<NOSRV>' else logged['target']
    accepted = datetime.fromtimestamp(float(logged['seconds']), timezone.utc)
    received = accepted + timedelta(milliseconds=max(0, int(logged['idle'])))
    scheme = listener.protocol.lower()
    host = logged['host'].partition(':')[0] or '-'
    return Request(
        received_at=received, answered_at=received + timedelta(milliseconds=max(0, int(logged['active']))),
        client=logged['client'], port=port, protocol=listener.protocol,
        request=f'{logged["method"]} {scheme}://{host}:{port}{logged["url"]} {logged["version"]}',
        url=logged['url'], agent=logged['agent'], status=status_of(logged),
        target_status=int(logged['target_status']) if logged['target_status'] else None, target=target,
        target_address=logged['target_address'] if target else '',
        group=logged['backend'].removeprefix('targets-') if target else '', rule=rule,
        action=action_of(listener, rule, logged['status']), redirect_url=logged['location'],
        connected=int(logged['connected']) >= 0,
        seconds_to_send=duration(logged, 'read', 'queued', 'connected'),
        seconds_to_answer=duration(logged, 'answered'), seconds_to_return=duration(logged, 'sent'),
        bytes_received=int(logged['bytes_received']), bytes_sent=int(logged['bytes_sent']), cipher=logged['cipher'],
        tls=logged['tls'], sni=logged['sni'],
        certificate=arns.get(logged['certificate'], ''), trace=logged['trace'])


def status_of(logged: Mapping[str, str]) -> int:
    """Return the status of an answer; an ALB logs 460 for a client that closed the connection before it.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-troubleshooting.html
    """
    if logged['ended'].startswith('C') and not logged['target_status']:
        return CLIENT_CLOSED
    return int(logged['answer'] or logged['status'])


def action_of(listener: Listener, rule: int | None, status: str) -> str:
    """Return the name of the action of a rule; no rule sees a malformed request, or one that the web ACL blocks."""
    actions: dict[int, Any] = {each.priority: each.action for each in listener.rules}
    names = {Forward: FORWARD, Redirect: 'redirect', FixedResponse: 'fixed-response'}
    if rule in actions:
        return names[type(actions[rule])]
    return WAF if status == '403' else ''


def duration(logged: Mapping[str, str], *names: str) -> float | None:
    """Return the sum of some durations in seconds; None if one of them did not end."""
    values = [int(logged[name]) for name in names]
    return None if min(values) < 0 else sum(values) / 1000
