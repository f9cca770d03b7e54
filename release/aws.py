"""The only module that calls AWS: it makes the clients, limits every call, and translates botocore's errors.

A call is retried for a number of seconds, because the library's own number of attempts takes another time in each of
its versions. A caller that polls has a deadline of its own, and calls through `once`.
"""

from collections.abc import Callable, Iterator, Mapping
import copy
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
import random
import time
from typing import Any, TypeVar

import boto3
from botocore import exceptions
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError, ClientError, HTTPClientError, IncompleteReadError, InvalidRegionError,
    NoRegionError, ParamValidationError)
from botocore.parsers import ResponseParserError

from release.errors import AwsFailed, NotReady, ReleaseError

Answer = TypeVar('Answer')
# Shorter than the lease of a lock. A call without an answer ends after READ_SECONDS, and is retried.
RETRY_SECONDS = 45.0
READ_SECONDS = 20.0
PAUSE_SECONDS = (0.2, 5.0)
BOUNDS = Config(retries={'mode': 'standard', 'total_max_attempts': 1}, connect_timeout=5,
                read_timeout=READ_SECONDS, user_agent_extra='visitors-release')
CREDENTIALS = ('set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; in a CI job AWS_ROLE_ARN and '
               'AWS_WEB_IDENTITY_TOKEN_FILE')
# Error codes for unknown, invalid, expired and unauthorised credentials.
UNKNOWN = ('AuthFailure', 'InvalidAccessKeyId', 'InvalidClientTokenId', 'InvalidIdentityToken',
           'SignatureDoesNotMatch', 'UnrecognizedClientException')
EXPIRED = ('ExpiredToken', 'ExpiredTokenException', 'RequestExpired')
DENIED = ('AccessDenied', 'AccessDeniedException', 'UnauthorizedOperation')
# Error codes for a service that is busy or unavailable, whatever the status of the answer.
TRANSIENT = ('BandwidthLimitExceeded', 'EC2ThrottledException', 'IDPCommunicationError', 'InternalError',
             'InternalFailure', 'InternalServerError', 'PriorRequestNotComplete', 'RequestLimitExceeded',
             'RequestThrottled', 'RequestThrottledException', 'RequestTimeout', 'RequestTimeoutException',
             'ServiceUnavailable', 'SlowDown', 'ThrottledException', 'Throttling', 'ThrottlingException',
             'TooManyRequestsException', 'TooManyUpdates', 'Unavailable')
THROTTLED_STATUS = 429
# Missing credentials, or a failure to get them; by name, because a version of the library may lack some.
NO_CREDENTIALS = tuple(kind for kind in (getattr(exceptions, name, None) for name in (
    'ConfigNotFound', 'ConfigParseError', 'CredentialRetrievalError', 'InfiniteLoopConfigError', 'InvalidConfigError',
    'LoginError', 'MetadataRetrievalError', 'MissingDependencyException', 'NoAuthTokenError', 'NoCredentialsError',
    'PartialCredentialsError', 'ProfileNotFound', 'RefreshWithMFAUnsupportedError', 'SSOError', 'TokenRetrievalError',
    'UnknownCredentialError')) if kind)
# A file that the settings name and that is unreadable or not text.
UNREADABLE = (OSError, UnicodeDecodeError)
# No connection, no answer, or a truncated one. Some of these are OSErrors as well.
UNANSWERED = (exceptions.ConnectionError, HTTPClientError, IncompleteReadError, ResponseParserError)
RAISED = (BotoCoreError, ClientError, ResponseParserError, *UNREADABLE)


class Aws:
    """The calls to one region of AWS, with the credentials that the AWS SDK finds."""

    def __init__(self, environ: Mapping[str, str], region: str | None = None, *,
                 report: Callable[[str], None] = lambda text: None, clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        """Choose the given region, else the environment's; `report` is called with a line about each retry."""
        try:
            self._session = boto3.Session()
            # boto3 knows AWS_DEFAULT_REGION only; Packer, Terraform and the CI's own variables say AWS_REGION.
            self.region = region or environ.get('AWS_REGION') or self._session.region_name or ''
        except RAISED as error:
            raise translated(error, 'settings', 'read', region or '') from error
        if not self.region:
            raise NotReady('no region: set AWS_REGION, or give --region')
        self._client = cache(self._make_client)
        self._retry_seconds = RETRY_SECONDS
        self._report = report
        self._clock = clock
        self._sleep = sleep

    @property
    def once(self) -> 'Aws':
        """The same region without retries, for callers that poll."""
        other = copy.copy(self)
        other._retry_seconds = 0.0
        return other

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer of an operation, named in snake_case; raise a ReleaseError if AWS refuses the call."""
        return self._retried(service, operation, lambda client: dict(getattr(client, operation)(**parameters)))

    def content(self, service: str, operation: str, key: str, **parameters: Any) -> bytes:
        """Return the bytes of the stream that an operation's answer has under a key."""
        return self._retried(service, operation,
                             lambda client: bytes(getattr(client, operation)(**parameters)[key].read()))

    def items(self, service: str, operation: str, key: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Return the entries that all pages of an operation's answer have under a key."""
        return iter(self._retried(service, operation, lambda client: [
            entry for page in client.get_paginator(operation).paginate(**parameters) for entry in page.get(key, [])]))

    def _retried(self, service: str, operation: str, ask: Callable[[Any], Answer]) -> Answer:
        end, attempt = self._clock() + self._retry_seconds, 0
        while True:
            try:
                return ask(self._client(service))
            except RAISED as error:
                refusal = translated(error, service, operation, self.region)
                left = end - self._clock()
                if left <= 0 or not isinstance(refusal, AwsFailed) or not refusal.is_transient:
                    raise refusal from error
                self._report(f'{refusal}; retrying for {left:.0f} s')
            attempt += 1
            shortest, longest = PAUSE_SECONDS
            self._sleep(min(left, min(longest, shortest * 2 ** attempt) * random.uniform(0.5, 1.0)))

    def _make_client(self, service: str) -> Any:
        return self._session.client(service, region_name=self.region, config=BOUNDS)


def moment_of(answer: Mapping[str, Any]) -> datetime:
    """Return the time of an answer by AWS's own clock."""
    return parsedate_to_datetime(answer['ResponseMetadata']['HTTPHeaders']['date'])


def translated(error: Exception, service: str, operation: str, region: str) -> ReleaseError:
    """Return the ReleaseError for one of botocore's errors; raise a programming error of this tool unchanged."""
    if isinstance(error, ParamValidationError):
        raise error
    if isinstance(error, ClientError):
        return _refusal(error)
    if isinstance(error, UNANSWERED):
        hint = _hint_for(region)
        return AwsFailed(f'{service} in the region {region} does not answer: {error}{hint}', is_transient=not hint)
    if isinstance(error, (*NO_CREDENTIALS, *UNREADABLE)):
        return NotReady(f'no AWS credentials ({_words(error)}); {CREDENTIALS}')
    if isinstance(error, (NoRegionError, InvalidRegionError)):
        return NotReady(f'region {region!r}: {error}; set AWS_REGION, or give --region')
    return AwsFailed(str(error), operation=f'{service} {operation}')


def _words(error: Exception) -> str:
    """Return the text of an error, without the content of an unreadable file, which may be a secret."""
    if isinstance(error, UnicodeDecodeError):
        return 'a token or a configuration file is not UTF-8 text'
    text = ' '.join(str(error).split())
    return f'{text}; sign in by `aws sso login`' if 'SSO' in type(error).__name__ else text


def _refusal(error: ClientError) -> ReleaseError:
    details = error.response.get('Error', {})
    code, message = str(details.get('Code', '')), str(details.get('Message', ''))
    if code in UNKNOWN:
        return NotReady(f'AWS does not accept these credentials ({code}: {message}); {CREDENTIALS}')
    if code in EXPIRED:
        return NotReady(f'the AWS credentials have expired ({code}); get new ones, and start again')
    if code in DENIED:
        return NotReady(f'these credentials may not call {error.operation_name} ({message}); docs/operations.md lists '
                        'the permissions of the bake role')
    status = int(error.response.get('ResponseMetadata', {}).get('HTTPStatusCode', 0))
    is_transient = code in TRANSIENT or status == THROTTLED_STATUS or status >= 500
    return AwsFailed(message, code, error.operation_name, is_transient)


def _hint_for(region: str) -> str:
    return '' if region in _regions() else f'; {region!r} is no region that the AWS SDK knows'


@cache
def _regions() -> frozenset[str]:
    session = boto3.Session()
    return frozenset(name for partition in session.get_available_partitions()
                     for name in session.get_available_regions('ec2', partition))
