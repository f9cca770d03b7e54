"""A site behind a load balancer that is a real haproxy, and small servers on the loopback as its targets."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import os
import socket
import ssl
from threading import Event, Thread
import time
from typing import Any

from rehearsal.clocks import Clocks
from rehearsal.embedded import EmbeddedRehearsal
from rehearsal.machines.load_balancers import LoadBalancers
from tests.support.local_aws import launch
from tests.support.waiting import eventually

# The real clock of load balancers runs faster here, so that the shortest interval of AWS lasts half a second.
QUICKER = 10
CHECK = {'HealthCheckPath': '/livez', 'HealthCheckIntervalSeconds': 5, 'HealthCheckTimeoutSeconds': 2,
         'HealthyThresholdCount': 2, 'UnhealthyThresholdCount': 2}
POLICY = 'ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09'
REDIRECT = {'Type': 'redirect', 'RedirectConfig': {'Protocol': 'HTTPS', 'Port': '443', 'StatusCode': 'HTTP_301'}}
SECONDS = 30


def quick() -> float:
    """Return the time of a clock that runs faster than the real one."""
    return time.monotonic() * QUICKER


def port_of(port: int) -> int:
    """Return the port of this host for one of a listener: itself for root, a free one for others."""
    return port if os.geteuid() == 0 else port + 18000


@dataclass
class Answer:
    """An answer: its status, its headers by their small names, and its body."""

    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def echo(self) -> dict[str, str]:
        """The headers of the request as the target saw them."""
        return dict(json.loads(self.body)['headers'])


class QuietServer(ThreadingHTTPServer):
    """A server that prints no error when a load balancer closes its connection."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing."""


class Target:
    """A small server, which echoes the headers of a request and whose health a test decides."""

    def __init__(self, aws: EmbeddedRehearsal) -> None:
        """Start the server, and launch the instance that it stands for."""
        self.instance = launch(aws)
        self.health = 200
        self.checked_by: list[str] = []
        self.waiting, self.may_answer = Event(), Event()
        target = self

        class Handler(BaseHTTPRequestHandler):
            """The handler of the target's requests."""

            protocol_version = 'HTTP/1.1'

            def do_GET(self) -> None:  # noqa: N802
                target.answer(self)

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = QuietServer(('127.0.0.1', 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        status = 200
        if handler.path == '/livez':
            self.checked_by.append(handler.headers['User-Agent'])
            status = self.health
        elif handler.path == '/cut':
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return
        elif handler.path == '/wait':
            self.waiting.set()
            self.may_answer.wait(SECONDS)
        elif handler.path == '/teapot':
            status = 418
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = json.dumps({'instance': self.instance, 'headers': headers}).encode()
        try:
            handler.send_response(status)
            handler.send_header('Content-Length', str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        except OSError:
            pass  # the load balancer has closed the connection

    def stop(self) -> None:
        """Refuse connections from now on."""
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@dataclass
class Site:
    """A load balancer with a listener of HTTP, a target group, and targets."""

    aws: EmbeddedRehearsal
    balancers: LoadBalancers
    arn: str
    name: str
    group: str
    listener: str
    address: str
    targets: dict[str, Target] = field(default_factory=dict)

    @property
    def elb(self) -> Any:
        """The API's client."""
        return self.aws.client('elbv2')

    def add(self, *targets: Target) -> None:
        """Register targets."""
        self.elb.register_targets(TargetGroupArn=self.group, Targets=[{'Id': each.instance} for each in targets])

    def state(self, target: Target) -> str:
        """Return the state of a target as the API describes it."""
        answer = self.elb.describe_target_health(TargetGroupArn=self.group, Targets=[{'Id': target.instance}])
        return str(answer['TargetHealthDescriptions'][0]['TargetHealth']['State'])

    def wait_for(self, state: str, *targets: Target) -> None:
        """Wait until targets are in a state."""
        for target in targets:
            eventually(lambda: self.state(target) == state, f'{target.instance} is {state}')

    def ask(self, path: str = '/', **options: Any) -> Answer:
        """Return the answer of the load balancer to a request."""
        return ask(self.address, path, **options)

    def wait_until(self, status: int, path: str = '/', **options: Any) -> Answer:
        """Wait for an answer with a status, and return it; the load balancer may not listen yet."""
        def answer() -> Answer | None:
            try:
                found = self.ask(path, **options)
            except OSError:
                return None
            return found if found.status == status else None
        found = eventually(answer, f'{path} is answered by {status}')
        assert found
        return found

    def rule(self, priority: int, action: dict[str, Any], **values: list[str]) -> None:
        """Create a rule by conditions such as `path_pattern`."""
        settings = {'host_header': 'HostHeaderConfig', 'path_pattern': 'PathPatternConfig'}
        conditions = [{'Field': field.replace('_', '-'), settings[field]: {'Values': given}}
                      for field, given in values.items()]
        self.elb.create_rule(ListenerArn=self.listener, Priority=priority, Conditions=conditions, Actions=[action])


def ask(address: str, path: str = '/', port: int = 80, host: str = 'page.example.com', source: str = '127.0.0.1',
        headers: Mapping[str, str] | None = None, context: ssl.SSLContext | None = None) -> Answer:
    """Return the answer to one request, over TLS with a context."""
    plain = socket.create_connection((address, port_of(port)), SECONDS, (source, 0))
    with context.wrap_socket(plain, server_hostname=host) if context else plain as connected:
        connection = HTTPConnection(host)
        connection.sock = connected
        connection.request('GET', path, headers={'Host': host, 'Connection': 'close', **(headers or {})})
        response: HTTPResponse = connection.getresponse()
        body = response.read().decode()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def forward(group: str) -> dict[str, str]:
    """Return the action that forwards requests to a target group."""
    return {'Type': 'forward', 'TargetGroupArn': group}


def fixed(status: int, body: str) -> dict[str, Any]:
    """Return the action that answers by a text."""
    return {'Type': 'fixed-response', 'FixedResponseConfig': {
        'StatusCode': str(status), 'ContentType': 'text/plain', 'MessageBody': body}}


@contextmanager
def balanced_site(aws: EmbeddedRehearsal, targets: int = 0, pace: float = 1, **check: Any) -> Iterator[Site]:
    """Give a site whose targets are healthy; the attributes of its health check are those of CHECK and `check`."""
    with ExitStack() as stack:
        made = [Target(aws) for _ in range(targets)]
        at = {target.instance: target for target in made}
        balancers = stack.enter_context(aws.load_balancers(
            lambda instance, _port: ('127.0.0.1', at[instance].port), port_of, Clocks(pace, quick)))
        for target in made:
            stack.callback(target.stop)
        site = make_site(aws, balancers, at, {**CHECK, **check})
        site.add(*made) if made else None
        site.wait_for('healthy', *made)
        site.wait_until(200 if made else 503)
        yield site


def make_site(aws: EmbeddedRehearsal, balancers: LoadBalancers, targets: dict[str, Target],
              check: Mapping[str, Any]) -> Site:
    """Create load balancer, target group and listener."""
    elb, ec2 = aws.client('elbv2'), aws.client('ec2')
    vpc = ec2.describe_vpcs()['Vpcs'][0]['VpcId']
    subnets = [each['SubnetId'] for each in ec2.describe_subnets()['Subnets']][:2]
    balancer = elb.create_load_balancer(Name='page', Subnets=subnets)['LoadBalancers'][0]
    group = elb.create_target_group(Name='page', Protocol='HTTP', Port=8000, VpcId=vpc, **check)['TargetGroups'][0]
    listener = elb.create_listener(LoadBalancerArn=balancer['LoadBalancerArn'], Protocol='HTTP', Port=80,
                                   DefaultActions=[forward(group['TargetGroupArn'])])['Listeners'][0]
    arn = balancer['LoadBalancerArn']
    return Site(aws, balancers, arn, balancer['DNSName'], group['TargetGroupArn'], listener['ListenerArn'],
                balancers.address_of(arn), targets)
