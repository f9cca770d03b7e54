"""The only seam to AWS: it makes the clients, bounds every call, and turns botocore's errors into ours."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError, InvalidRegionError, NoCredentialsError,
    NoRegionError, ParamValidationError, PartialCredentialsError, ProfileNotFound, ReadTimeoutError)

from release.errors import AwsFailed, NotReady, ReleaseError

BOUNDS = Config(retries={'mode': 'standard', 'total_max_attempts': 5}, connect_timeout=5, read_timeout=30,
                user_agent_extra='visitors-release')
CREDENTIALS = ('set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; in a CI job AWS_ROLE_ARN and '
               'AWS_WEB_IDENTITY_TOKEN_FILE')
# As the services name them: not known, not valid, not any more, not allowed.
UNKNOWN = ('AuthFailure', 'InvalidAccessKeyId', 'InvalidClientTokenId', 'InvalidIdentityToken',
           'SignatureDoesNotMatch', 'UnrecognizedClientException')
EXPIRED = ('ExpiredToken', 'ExpiredTokenException', 'RequestExpired')
DENIED = ('AccessDenied', 'AccessDeniedException', 'UnauthorizedOperation')


class Aws:
    def __init__(self, environ: Mapping[str, str], region: str | None = None) -> None:
        """Talk to a region, if none is given to the environment's, with the credentials that the AWS SDK finds."""
        try:
            self._session = boto3.Session()
            # boto3 knows AWS_DEFAULT_REGION only; Packer, Terraform and the CI's own variables say AWS_REGION.
            self.region = region or environ.get('AWS_REGION') or self._session.region_name or ''
        except BotoCoreError as error:
            raise described(error, 'settings', 'read', region or '') from error
        if not self.region:
            raise NotReady('no region: set AWS_REGION, or give --region')
        self._client = cache(self._make_client)

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Return what one operation answers, by its snake_case name; raise one of our errors otherwise."""
        try:
            return dict(getattr(self._client(service), operation)(**parameters))
        except (BotoCoreError, ClientError, FileNotFoundError) as error:
            raise described(error, service, operation, self.region) from error

    def items(self, service: str, operation: str, key: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Yield the entries under one key of all pages that an operation answers."""
        try:
            for page in self._client(service).get_paginator(operation).paginate(**parameters):
                yield from page.get(key, [])
        except (BotoCoreError, ClientError, FileNotFoundError) as error:
            raise described(error, service, operation, self.region) from error

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
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, ProfileNotFound, FileNotFoundError)):
        return NotReady(f'no AWS credentials ({error}); {CREDENTIALS}')
    if isinstance(error, (NoRegionError, InvalidRegionError)):
        return NotReady(f'region {region!r}: {error}; set AWS_REGION, or give --region')
    if isinstance(error, (EndpointConnectionError, ConnectTimeoutError, ReadTimeoutError)):
        return AwsFailed(f'{service} in the region {region} does not answer: {error}{_doubt(region)}')
    return AwsFailed(f'{service} {operation}: {error}')


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
    return AwsFailed(f'{error.operation_name}: {reason}: {message}', reason)


def _doubt(region: str) -> str:
    known = {name for partition in boto3.Session().get_available_partitions()
             for name in boto3.Session().get_available_regions('ec2', partition)}
    return '' if region in known else f'; is {region!r} a region? none is known by that name'
