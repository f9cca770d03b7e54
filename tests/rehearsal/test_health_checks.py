"""Health checks of Route 53: the questions to a real endpoint, the status, its metric and its alarm."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import re
import socket
import ssl
from threading import Event, Thread
from typing import Any
import uuid

from botocore.exceptions import ClientError
from hypothesis import given, strategies
import pytest

from rehearsal.api.health_checks.endpoint import ask, Endpoint
from rehearsal.api.health_checks.status import calculated, shown, Status, step
from rehearsal.authority import Authority
from rehearsal.embedded import EmbeddedRehearsal
from tests.support.waiting import eventually

POINTS = r'\[[0-9, ]*\]'
NAME, READY = 'page.example.com', b'{"ready":true}'


class Page(BaseHTTPRequestHandler):
    """The answers of a page, as the test sets them."""

    status, body, pause = 200, READY, Event()
    seen: list[dict[str, str]] = []

    def do_GET(self) -> None:  # noqa: N802 (the name that http.server calls)
        """Answer, after the pause."""
        type(self).seen.append({'path': self.path, **{name.lower(): value for name, value in self.headers.items()}})
        self.pause.wait(30)
        self.send_response(self.status)
        self.send_header('Content-Length', str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_arguments: Any) -> None:
        """Log nothing."""


@dataclass
class Site:
    """A page at a port of the loopback."""

    server: ThreadingHTTPServer
    page: type[Page]

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.server.server_address[1])

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint that checks whether it is ready."""
        return Endpoint('c-1', 'HTTPS', NAME, self.port, '/readyz', '"ready":true')


def site(folder: Path, lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> Site:
    """Return a page with TLS, whose certificate no public authority has signed."""
    issued = Authority('tests').issue(['other.example.com'], 'EC_prime256v1')
    (folder / 'tls.pem').write_bytes(issued.certificate + issued.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / 'tls.pem')
    context.minimum_version = lowest
    pause = Event()
    pause.set()
    page = type('ThisPage', (Page,), {'pause': pause, 'seen': []})
    server = ThreadingHTTPServer(('127.0.0.1', 0), page)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    Thread(target=partial(server.serve_forever, poll_interval=0.05), daemon=True).start()
    return Site(server, page)


def close(opened: Site) -> None:
    opened.page.pause.set()
    opened.server.shutdown()
    opened.server.server_close()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Site]:
    """Give a page with TLS."""
    opened = site(tmp_path)
    yield opened
    close(opened)


def test_a_ready_page_passes_and_sees_a_checker_of_route_53(secure: Site) -> None:
    answer = ask(secure.endpoint, '127.0.0.1')
    assert (answer.has_passed, answer.text) == (True, 'Success: HTTP Status Code: 200. Resolved IP: 127.0.0.1. OK')
    (request,) = secure.page.seen
    assert request['path'] == '/readyz'
    assert request['host'] == f'{NAME}:{secure.port}'
    assert request['user-agent'].startswith('Amazon-Route53-Health-Check-Service (ref c-1; report http')


@pytest.mark.parametrize(('status', 'body', 'passes'), [
    (200, READY, True), (301, READY, True), (399, READY, True), (400, READY, False), (503, READY, False),
    (200, b'{"ready":false}', False), (200, b'{"READY":true}', False),
    (200, b' ' * (5120 - len('"ready":true')) + b'"ready":true', True),
    (200, b' ' * (5121 - len('"ready":true')) + b'"ready":true', False)])
def test_an_answer_passes_by_its_status_and_the_text_in_its_first_5120_bytes(
        secure: Site, status: int, body: bytes, passes: bool) -> None:
    secure.page.status, secure.page.body = status, body
    assert ask(secure.endpoint, '127.0.0.1').has_passed == passes


def test_without_a_text_any_body_passes(secure: Site) -> None:
    secure.page.body = b''
    assert ask(replace(secure.endpoint, search=''), '127.0.0.1').has_passed


def test_an_endpoint_with_tls_1_3_only_fails_as_on_aws(tmp_path: Path) -> None:
    opened = site(tmp_path, ssl.TLSVersion.TLSv1_3)
    try:
        answer = ask(opened.endpoint, '127.0.0.1')
    finally:
        close(opened)
    assert not answer.has_passed and 'SSL' in answer.text


def test_a_name_that_does_not_resolve_fails(secure: Site) -> None:
    assert ask(secure.endpoint, None).text == 'Failure: DNS resolution failed: NXDOMAIN'


def test_a_silent_page_fails_within_its_time_limit(secure: Site) -> None:
    secure.page.pause.clear()
    answer = ask(secure.endpoint, '127.0.0.1')
    assert not answer.has_passed and 'TimeoutError' in answer.text


def test_a_closed_port_fails_and_an_open_one_passes_a_check_of_tcp() -> None:
    with socket.create_server(('127.0.0.1', 0)) as listener:
        endpoint = Endpoint('c-1', 'TCP', NAME, listener.getsockname()[1])
        assert ask(endpoint, '127.0.0.1').has_passed
    assert 'ConnectionRefusedError' in ask(endpoint, '127.0.0.1').text


def test_consecutive_answers_as_many_as_the_threshold_change_the_status() -> None:
    status, found = Status(), []
    for passed in (False, False, True, False, False, False, True, True, False, True, True, True):
        status = step(status, passed, 3)
        found.append(status.is_healthy)
    assert found == [True] * 5 + [False] * 6 + [True]


@given(strategies.lists(strategies.booleans(), min_size=1), strategies.integers(1, 10))
def test_the_status_changes_only_after_a_threshold_of_equal_answers(answers: list[bool], threshold: int) -> None:
    status = Status()
    for place, passed in enumerate(answers):
        after = step(status, passed, threshold)
        if after.is_healthy != status.is_healthy:
            assert answers[max(0, place - threshold + 1):place + 1] == [passed] * threshold
        status = after


@pytest.mark.parametrize(('children', 'threshold', 'expected'), [
    ([True], 1, True), ([False], 1, False), ([True, False], 1, True), ([True, False], 2, False), ([], 0, True),
    ([True], 2, False)])
def test_a_parent_is_healthy_with_enough_healthy_children(children: list[bool], threshold: int,
                                                          expected: bool) -> None:
    assert calculated(children, threshold) == expected


@pytest.mark.parametrize(('healthy', 'inverted', 'disabled', 'expected'), [
    (True, False, False, True), (False, False, False, False), (False, False, True, True), (False, True, False, True),
    (True, True, False, False), (True, True, True, False)])
def test_a_disabled_check_is_healthy_and_an_inverted_one_the_contrary(healthy: bool, inverted: bool, disabled: bool,
                                                                      expected: bool) -> None:
    assert shown(healthy, inverted, disabled) == expected


class Checked:
    """The check of a page with its parent, and the alarm of the parent."""

    def __init__(self, aws: EmbeddedRehearsal, page: Site) -> None:
        """Make the name, both checks, and the alarm with a person's address."""
        self.aws, self.page, self.route53 = aws, page, aws.client('route53')
        zone = self.route53.create_hosted_zone(Name='example.com', CallerReference='1')['HostedZone']['Id']
        record = {'Name': NAME, 'Type': 'A', 'TTL': 1, 'ResourceRecords': [{'Value': '127.0.0.1'}]}
        self.route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={
            'Changes': [{'Action': 'CREATE', 'ResourceRecordSet': record}]})
        self.child = self.create(
            Type='HTTPS_STR_MATCH', FullyQualifiedDomainName=NAME, Port=page.port, ResourcePath='/readyz',
            SearchString='"ready":true', EnableSNI=True, RequestInterval=30, FailureThreshold=3,
            Regions=['eu-west-1', 'us-east-1', 'ap-southeast-1'])
        self.parent = self.create(Type='CALCULATED', ChildHealthChecks=[self.child], HealthThreshold=1)
        self.cloudwatch = aws.client('cloudwatch', region_name='us-east-1')
        topic = aws.client('sns').create_topic(Name='on-call')['TopicArn']
        aws.client('sns').subscribe(TopicArn=topic, Protocol='email', Endpoint='on-call@example.com')
        self.cloudwatch.put_metric_alarm(
            AlarmName='page-unreachable', AlarmDescription='Next: docs/runbooks/page-unreachable.md',
            Namespace='AWS/Route53', MetricName='HealthCheckStatus', Statistic='Minimum', Period=60,
            Dimensions=[{'Name': 'HealthCheckId', 'Value': self.parent}], EvaluationPeriods=1, Threshold=1,
            ComparisonOperator='LessThanThreshold', TreatMissingData='breaching', AlarmActions=[topic],
            OKActions=[topic])

    def create(self, **config: Any) -> str:
        """Return the id of a new check."""
        answer = self.route53.create_health_check(CallerReference=uuid.uuid4().hex, HealthCheckConfig=config)
        return str(answer['HealthCheck']['Id'])

    @property
    def reports(self) -> list[str]:
        """The texts of the last answer, one for each region."""
        found = self.route53.get_health_check_status(HealthCheckId=self.child)['HealthCheckObservations']
        return [each['StatusReport']['Status'] for each in found]

    def state(self) -> str:
        """Return the state of the alarm, with its data points, after the end of this minute."""
        self.aws.skip(60.5 - self.aws.now.timestamp() % 60)
        self.aws.look()
        alarm = self.cloudwatch.describe_alarms()['MetricAlarms'][0]
        return f'{alarm["StateValue"]} {re.findall(POINTS, alarm["StateReason"])}'


def test_the_alarm_of_an_unreachable_page_rings_names_its_runbook_and_recovers(aws: EmbeddedRehearsal,
                                                                               secure: Site) -> None:
    checked = Checked(aws, secure)
    passed = 'Success: HTTP Status Code: 200. Resolved IP: 127.0.0.1. OK'
    eventually(lambda: checked.reports == [passed] * 3, 'the page is asked')
    secure.page.status = 503
    eventually(lambda: checked.state() == "ALARM ['[0]']", checked.state)
    secure.page.status = 200
    eventually(lambda: checked.state() == "OK ['[1]']", checked.state)
    assert [message['subject'].partition(':')[0] for message in aws.mail][-2:] == ['ALARM', 'OK']
    assert 'docs/runbooks/page-unreachable.md' in aws.mail[-1]['message']


def test_a_check_of_another_kind_is_a_gap_at_once(aws: EmbeddedRehearsal) -> None:
    with pytest.raises(ClientError, match='a health check of the type RECOVERY_CONTROL'):
        aws.client('route53').create_health_check(CallerReference='1', HealthCheckConfig={
            'Type': 'RECOVERY_CONTROL', 'RoutingControlArn': 'arn:aws:route53-recovery-control::1:controlpanel/a'})
    assert aws.gaps


@pytest.mark.parametrize(('kind', 'port'), [('HTTPS', 443), ('HTTP', 80)])
def test_the_port_is_by_default_the_protocols(aws: EmbeddedRehearsal, kind: str, port: int) -> None:
    made = aws.client('route53').create_health_check(CallerReference='1', HealthCheckConfig={
        'Type': kind, 'IPAddress': '127.0.0.1', 'Disabled': True})
    assert made['HealthCheck']['HealthCheckConfig']['Port'] == port
