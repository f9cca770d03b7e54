"""The only seam to AWS: it makes the clients, bounds every call, and turns botocore's errors into ours.

How long a call is retried is said here in seconds, because the library's own number of attempts means another time in
each of its versions. Who polls has a deadline of its own, and calls through `once`.
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
# Shorter than the lease of a lock. An answer that never comes takes READ_SECONDS, and is asked for again.
PATIENCE_SECONDS = 45.0
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
PASSING = ('BandwidthLimitExceeded', 'EC2ThrottledException', 'IDPCommunicationError', 'InternalError',
           'InternalFailure', 'InternalServerError', 'PriorRequestNotComplete', 'RequestLimitExceeded',
           'RequestThrottled', 'RequestThrottledException', 'RequestTimeout', 'RequestTimeoutException',
           'ServiceUnavailable', 'SlowDown', 'ThrottledException', 'Throttling', 'ThrottlingException',
           'TooManyRequestsException', 'TooManyUpdates', 'Unavailable')
PASSING_STATUS = 429
# By name, because a version of the library may lack some: no credentials, or no way to get them.
NO_CREDENTIALS = tuple(kind for kind in (getattr(exceptions, name, None) for name in (
    'ConfigNotFound', 'ConfigParseError', 'CredentialRetrievalError', 'InfiniteLoopConfigError', 'InvalidConfigError',
    'LoginError', 'MetadataRetrievalError', 'MissingDependencyException', 'NoAuthTokenError', 'NoCredentialsError',
    'PartialCredentialsError', 'ProfileNotFound', 'RefreshWithMFAUnsupportedError', 'SSOError', 'TokenRetrievalError',
    'UnknownCredentialError')) if kind)
# A file that the settings name and that cannot be read, or is not text.
UNREADABLE = (OSError, UnicodeDecodeError)
# No connection, no answer, or one that was cut off. Some of these are OSErrors as well.
UNANSWERED = (exceptions.ConnectionError, HTTPClientError, IncompleteReadError, ResponseParserError)
RAISED = (BotoCoreError, ClientError, ResponseParserError, *UNREADABLE)


class Aws:
    def __init__(self, environ: Mapping[str, str], region: str | None = None, *,
                 tell: Callable[[str], None] = lambda text: None, clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        """Talk to a region, if none is given to the environment's, with the credentials that the AWS SDK finds."""
        try:
            self._session = boto3.Session()
            # boto3 knows AWS_DEFAULT_REGION only; Packer, Terraform and the CI's own variables say AWS_REGION.
            self.region = region or environ.get('AWS_REGION') or self._session.region_name or ''
        except RAISED as error:
            raise described(error, 'settings', 'read', region or '') from error
        if not self.region:
            raise NotReady('no region: set AWS_REGION, or give --region')
        self._client = cache(self._make_client)
        self._patience = PATIENCE_SECONDS
        self._tell = tell
        self._clock = clock
        self._sleep = sleep

    @property
    def once(self) -> 'Aws':
        """The same with one attempt for each call, for callers that call again by themselves."""
        other = copy.copy(self)
        other._patience = 0.0
        return other

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer of one operation, by its snake_case name; raise one of our errors otherwise."""
        return self._patiently(service, operation,
                               lambda client: dict(getattr(client, operation)(**parameters)))

    def content(self, service: str, operation: str, key: str, **parameters: Any) -> bytes:
        """Return the bytes of a stream that an operation answers under a key."""
        return self._patiently(service, operation,
                               lambda client: bytes(getattr(client, operation)(**parameters)[key].read()))

    def items(self, service: str, operation: str, key: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Return the entries under one key of all pages that an operation answers."""
        return iter(self._patiently(service, operation, lambda client: [
            entry for page in client.get_paginator(operation).paginate(**parameters) for entry in page.get(key, [])]))

    def _patiently(self, service: str, operation: str, ask: Callable[[Any], Answer]) -> Answer:
        end, attempt = self._clock() + self._patience, 0
        while True:
            try:
                return ask(self._client(service))
            except RAISED as error:
                refusal = described(error, service, operation, self.region)
                left = end - self._clock()
                if left <= 0 or not isinstance(refusal, AwsFailed) or not refusal.is_passing:
                    raise refusal from error
                self._tell(f'{refusal}; retrying for {left:.0f} s')
            attempt += 1
            shortest, longest = PAUSE_SECONDS
            self._sleep(min(left, longest, shortest * 2 ** attempt) * random.uniform(0.5, 1.0))

    def _make_client(self, service: str) -> Any:
        return self._session.client(service, region_name=self.region, config=BOUNDS)


def moment_of(answer: Mapping[str, Any]) -> datetime:
    """Return the moment at which AWS gave an answer, by its own clock."""
    return parsedate_to_datetime(answer['ResponseMetadata']['HTTPHeaders']['date'])


def described(error: Exception, service: str, operation: str, region: str) -> ReleaseError:
    """Return our error for one of botocore's; a mistake in how we call it stays as it is."""
    if isinstance(error, ParamValidationError):
        raise error
    if isinstance(error, ClientError):
        return _refusal(error)
    if isinstance(error, UNANSWERED):
        doubt = _doubt(region)
        return AwsFailed(f'{service} in the region {region} does not answer: {error}{doubt}', is_passing=not doubt)
    if isinstance(error, (*NO_CREDENTIALS, *UNREADABLE)):
        return NotReady(f'no AWS credentials ({_words(error)}); {CREDENTIALS}')
    if isinstance(error, (NoRegionError, InvalidRegionError)):
        return NotReady(f'region {region!r}: {error}; set AWS_REGION, or give --region')
    return AwsFailed(f'{service} {operation}: {error}')


def _words(error: Exception) -> str:
    """Return what an error says, without what a file that is no text may hold."""
    if isinstance(error, UnicodeDecodeError):
        return 'a token or a configuration file is not UTF-8 text'
    text = ' '.join(str(error).split())
    return f'{text}; sign in by `aws sso login`' if 'SSO' in type(error).__name__ else text


def _refusal(error: ClientError) -> ReleaseError:
    told = error.response.get('Error', {})
    reason, message = str(told.get('Code', '')), str(told.get('Message', ''))
    if reason in UNKNOWN:
        return NotReady(f'AWS does not accept these credentials ({reason}: {message}); {CREDENTIALS}')
    if reason in EXPIRED:
        return NotReady(f'the AWS credentials have expired ({reason}); get new ones, and start again')
    if reason in DENIED:
        return NotReady(f'these credentials may not call {error.operation_name} ({message}); docs/operations.md lists '
                        'what the role of a bake must be allowed to do')
    status = int(error.response.get('ResponseMetadata', {}).get('HTTPStatusCode', 0))
    is_passing = reason in PASSING or status == PASSING_STATUS or status >= 500
    return AwsFailed(f'{error.operation_name}: {reason}: {message}', reason, is_passing)


def _doubt(region: str) -> str:
    return '' if region in _regions() else f'; is {region!r} a region? none is known by that name'


@cache
def _regions() -> frozenset[str]:
    session = boto3.Session()
    return frozenset(name for partition in session.get_available_partitions()
                     for name in session.get_available_regions('ec2', partition))
