"""The instance metadata service, version 2: the id, region and role of this instance."""

from collections.abc import Mapping
from http.client import HTTPException
import os
import time
from urllib.error import HTTPError, URLError
from urllib.request import build_opener, ProxyHandler, Request

from instance.deadline import Deadline
from instance.errors import StepFailed

ENDPOINT = 'http://169.254.169.254'
SECONDS = 5.0
# The same patience as for calls of AWS, because all of them need an answer of this service.
PATIENCE_SECONDS = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
TOKEN_SECONDS = 300
ROLE = 'latest/meta-data/iam/security-credentials/'


class MetadataUnavailable(StepFailed):
    """The failure to get an answer of the metadata service."""


class Metadata:
    """A client of the metadata service, at the endpoint that the AWS SDK uses as well."""

    def __init__(self, environ: Mapping[str, str] = os.environ, seconds: float | None = None) -> None:
        """Read the endpoint; a transient failure is retried for the given seconds."""
        self._endpoint = environ.get('AWS_EC2_METADATA_SERVICE_ENDPOINT', ENDPOINT).rstrip('/')
        self._disabled = environ.get('AWS_EC2_METADATA_DISABLED', '').lower() == 'true'
        self._seconds = PATIENCE_SECONDS if seconds is None else seconds
        # Never through a proxy, because the address is local to the instance.
        self._open = build_opener(ProxyHandler({})).open

    def fetch_instance_id(self) -> str:
        """Return the id of this instance."""
        return self._fetch_required('latest/meta-data/instance-id')

    def fetch_region(self) -> str:
        """Return the region of this instance."""
        return self._fetch_required('latest/meta-data/placement/region')

    def fetch_role(self) -> str | None:
        """Return the role of this instance, None without one."""
        return self._fetch(ROLE, may_be_missing=True)

    def _fetch_required(self, path: str) -> str:
        """Return a value that each instance has, so a missing one is awaited."""
        return self._fetch(path, may_be_missing=False) or ''

    def _fetch(self, path: str, may_be_missing: bool) -> str | None:
        """Return the value of a path; raise MetadataUnavailable if the service returns none in time."""
        if self._disabled:
            raise MetadataUnavailable('the metadata service is turned off by AWS_EC2_METADATA_DISABLED')
        deadline = Deadline(self._seconds)
        pause = FIRST_PAUSE
        while True:
            try:
                text = self._get(path)
                if text:
                    return text
                failure = f'answers nothing under {path}'
            except HTTPError as error:
                if error.code == 404 and may_be_missing and str(error.url).endswith(path):
                    return None
                failure = f'answers {error.code} under {path}'
            except (OSError, HTTPException) as error:
                failure = f'cannot be reached: {_reason(error)}'
            if not deadline.left:
                raise MetadataUnavailable(f'the metadata service at {self._endpoint} {failure}')
            time.sleep(min(pause, deadline.left))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _get(self, path: str) -> str:
        put = Request(f'{self._endpoint}/latest/api/token', method='PUT',
                      headers={'X-aws-ec2-metadata-token-ttl-seconds': str(TOKEN_SECONDS)})
        with self._open(put, timeout=SECONDS) as answer:
            token = answer.read().decode(errors='replace')
        get = Request(f'{self._endpoint}/{path}', headers={'X-aws-ec2-metadata-token': token})
        with self._open(get, timeout=SECONDS) as answer:
            return str(answer.read().decode(errors='replace')).strip()


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    return str(cause) or type(cause).__name__
