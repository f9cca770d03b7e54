"""Retries of calls to AWS: for a number of seconds, with every version of the SDK, and not after a mistake."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import os
from pathlib import Path
import subprocess
import sys
from threading import Thread
from typing import Any

import pytest

from release.aws import Aws, RETRY_SECONDS
from release.errors import AwsFailed, NotReady, ReleaseError, TimedOut
from release.waiting import Deadline
from tests.support.sdks import SDKS
from tests.support.server import ROOT

ANSWER = '<Response><Errors><Error><Code>{}</Code><Message>why</Message></Error></Errors></Response>'
NAMESPACE = 'xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"'
IMAGES = f'<DescribeImagesResponse {NAMESPACE}><imagesSet/></DescribeImagesResponse>'
MEASURE = """
import json
import botocore
from release.aws import Aws
from release.errors import AwsFailed
now = [0.0]
aws = Aws({}, 'us-east-1', clock=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
try:
    aws.call('ec2', 'describe_images')
except AwsFailed as error:
    print(json.dumps([botocore.__version__, now[0], error.is_transient]))
"""


class Service:
    """An EC2 with the answers of a test, which counts its calls."""

    def __init__(self) -> None:
        """Listen."""
        self.answers: list[tuple[int, str]] = []
        self.calls = 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers['Content-Length']))
                service.calls += 1
                status, body = service.answers[min(service.calls, len(service.answers)) - 1]
                if status:
                    self.send_response(status)
                    self.send_header('Content-Length', str(len(body)))
                    self.end_headers()
                    self.wfile.write(body.encode())
                else:
                    self.close_connection = True  # no answer

            def log_message(self, *arguments: Any) -> None:
                """Write no log."""

        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        Thread(target=self.server.serve_forever, kwargs={'poll_interval': 0.01}, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make an SDK call it."""
        return {'AWS_ENDPOINT_URL': f'http://127.0.0.1:{self.server.server_port}', 'AWS_ACCESS_KEY_ID': 'testing',
                'AWS_SECRET_ACCESS_KEY': 'testing',  # pragma: allowlist secret
                'AWS_EC2_METADATA_DISABLED': 'true', 'AWS_CONFIG_FILE': 'none', 'AWS_SHARED_CREDENTIALS_FILE': 'none'}


class Time:
    """A clock that only a sleep moves."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.now = 0.0

    def __call__(self) -> float:
        """Return the seconds so far."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self.now += seconds


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Give a service that the environment names."""
    made = Service()
    monkeypatch.delenv('AWS_PROFILE', raising=False)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    yield made
    made.server.shutdown()
    made.server.server_close()


def seam(time: Time, region: str = 'us-east-1') -> Aws:
    """Return the calls to the service, with the clock of the test."""
    return Aws({}, region, clock=time, sleep=time.sleep)


@pytest.mark.parametrize(('status', 'code'), [
    (503, 'Unavailable'), (503, 'RequestLimitExceeded'), (500, 'InternalError'), (400, 'Throttling'),
    (429, 'Whatever'), (504, 'GatewayTimeout'), (0, ''), (200, 'cut off'),
])
def test_a_call_is_retried_after_a_transient_refusal_until_it_succeeds(
        service: Service, status: int, code: str) -> None:
    body = '<DescribeImagesResponse><ima' if status == 200 else ANSWER.format(code)
    service.answers = [*[(status, body)] * 9, (200, IMAGES)]
    time = Time()
    assert not seam(time).call('ec2', 'describe_images')['Images']
    assert (service.calls, time.now > 5) == (10, True)


@pytest.mark.parametrize('sdk', SDKS)
def test_a_call_is_retried_for_the_same_number_of_seconds_with_every_sdk(service: Service, sdk: str) -> None:
    service.answers = [(503, ANSWER.format('Unavailable'))]
    path = os.pathsep.join(map(str, filter(None, (SDKS[sdk], ROOT))))
    process = subprocess.run([sys.executable, '-c', MEASURE], text=True, capture_output=True, check=True,
                             env={**service.environment, 'PATH': os.environ['PATH'], 'PYTHONPATH': path})
    version, seconds, is_transient = json.loads(process.stdout)
    assert version.startswith(f'{sdk}.')
    assert seconds == pytest.approx(RETRY_SECONDS, abs=0.5)
    assert is_transient
    assert 10 <= service.calls <= 40


@pytest.mark.parametrize(('status', 'code', 'kind'), [
    (400, 'InvalidAMIID.NotFound', AwsFailed), (403, 'UnauthorizedOperation', NotReady),
    (401, 'AuthFailure', NotReady),
])
def test_a_permanent_refusal_is_raised_at_once(service: Service, status: int, code: str,
                                               kind: type[ReleaseError]) -> None:
    service.answers = [(status, ANSWER.format(code))]
    time = Time()
    with pytest.raises(kind):
        seam(time).call('ec2', 'describe_images')
    assert (service.calls, time.now) == (1, 0)


def test_a_poll_continues_until_its_own_deadline_and_then_names_the_trouble(service: Service) -> None:
    service.answers = [(503, ANSWER.format('RequestLimitExceeded'))]
    time = Time()
    aws, deadline = seam(time).once, Deadline(300, clock=time, sleep=time.sleep)
    expected = r'timed out after 300 s waiting for the image \(DescribeImages: RequestLimitExceeded: why\)'
    with pytest.raises(TimedOut, match=expected):
        deadline.until(lambda: aws.call('ec2', 'describe_images')['Images'] or None, 'the image', every=3.0)
    assert (time.now, service.calls) == (300, 101)


def test_pages_are_listed_again_when_one_of_them_is_refused(service: Service) -> None:
    page = (f'<DescribeInstancesResponse {NAMESPACE}><reservationSet><item><reservationId>r-{{}}</reservationId>'
            '</item></reservationSet>{}</DescribeInstancesResponse>')
    first, last = page.format(1, '<nextToken>more</nextToken>'), page.format(2, '')
    service.answers = [(200, first), (503, ANSWER.format('Unavailable')), (200, first), (200, last)]
    entries = seam(Time()).items('ec2', 'describe_instances', 'Reservations')
    assert [entry['ReservationId'] for entry in entries] == ['r-1', 'r-2']


def test_a_mistyped_region_is_no_outage(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    monkeypatch.setenv('AWS_ENDPOINT_URL', 'http://127.0.0.1:9')
    time = Time()
    with pytest.raises(AwsFailed, match="'eu-nowhere-1' is no region"):
        seam(time, 'eu-nowhere-1').call('ec2', 'describe_images')
    assert time.now == 0


def profile(folder: Path, text: str) -> dict[str, str]:
    """Return the settings of a profile in a configuration file."""
    path = folder / 'config'
    path.write_text(f'[profile work]\n{text}', encoding='utf-8')
    return {'AWS_CONFIG_FILE': str(path), 'AWS_PROFILE': 'work', 'AWS_ACCESS_KEY_ID': '', 'AWS_SECRET_ACCESS_KEY': ''}


@pytest.mark.parametrize(('text', 'says'), [
    ('sso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\nregion = us-east-1\n[sso-session s]\n'
     'sso_start_url = https://example.org/start\nsso_region = us-east-1\n', 'sign in by `aws sso login`'),
    ('sso_start_url = https://example.org/start\nsso_region = us-east-1\nsso_account_id = 123456789012\n'
     'sso_role_name = r\n', 'sign in by `aws sso login`'),
    ('credential_process = false\n', 'no AWS credentials'),
    ('role_arn = arn:aws:iam::123456789012:role/r\nsource_profile = none\n', 'no AWS credentials'),
    ('role_arn = arn:aws:iam::123456789012:role/r\nsource_profile = work2\n[profile work2]\n'
     'role_arn = arn:aws:iam::123456789012:role/r\nsource_profile = work\n', 'no AWS credentials'),
    ('no equals sign', 'no AWS credentials'),
], ids=['sso session', 'sso profile', 'process', 'no source', 'loop', 'no ini file'])
def test_credentials_that_cannot_be_loaded_end_with_3_and_advice(tmp_path: Path, text: str, says: str) -> None:
    process = verify(**profile(tmp_path, text))
    assert (process.returncode, process.stderr.count('\n'), says in process.stderr) == (3, 1, True), process.stderr


@pytest.mark.parametrize('kind', ['folder', 'binary'])
def test_an_unreadable_token_file_causes_no_traceback(tmp_path: Path, kind: str) -> None:
    token = tmp_path / 'token'
    if kind == 'folder':
        token.mkdir()
    else:
        token.write_bytes(b'\xff\xfe\x00')
    process = verify(AWS_ROLE_ARN='arn:aws:iam::123456789012:role/r', AWS_WEB_IDENTITY_TOKEN_FILE=str(token),
                     AWS_CONFIG_FILE='none', AWS_ACCESS_KEY_ID='', AWS_SECRET_ACCESS_KEY='')
    assert (process.returncode, process.stderr.count('\n')) == (3, 1), process.stderr
    assert ('token' in process.stderr, 'no AWS credentials' in process.stderr) == (True, True)


def verify(**settings: str) -> 'subprocess.CompletedProcess[str]':
    """Return the end of a verb in an environment of these settings."""
    variables = {'PATH': os.environ['PATH'], 'HOME': '/nonexistent', 'AWS_REGION': 'us-east-1',
                 'AWS_EC2_METADATA_DISABLED': 'true', 'AWS_SHARED_CREDENTIALS_FILE': 'none',
                 'AWS_ENDPOINT_URL_EC2': 'http://127.0.0.1:9', **settings}
    return subprocess.run([sys.executable, '-m', 'release', 'verify', 'ami-0123456789abcdef0'], cwd=ROOT, text=True,
                          env=variables, capture_output=True, check=False)
