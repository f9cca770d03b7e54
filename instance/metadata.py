"""What the cloud tells this machine about itself: the instance metadata service, version 2."""

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
# As patient as calls of the API: all of them need what is asked here.
PATIENCE_SECONDS = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
TOKEN_SECONDS = 300
ROLE = 'latest/meta-data/iam/security-credentials/'


class MetadataUnavailable(StepFailed):
    """The metadata service cannot be asked; the message says why."""


class Metadata:
    def __init__(self, environ: Mapping[str, str] = os.environ, seconds: float | None = None) -> None:
        """Ask the service where the AWS SDK would ask it as well, and for so many seconds if it is in trouble."""
        self._endpoint = environ.get('AWS_EC2_METADATA_SERVICE_ENDPOINT', ENDPOINT).rstrip('/')
        self._disabled = environ.get('AWS_EC2_METADATA_DISABLED', '').lower() == 'true'
        self._seconds = PATIENCE_SECONDS if seconds is None else seconds
        # Whatever proxy there is for the rest, this address is the machine's own.
        self._open = build_opener(ProxyHandler({})).open

    def fetch_instance_id(self) -> str:
        """Return the id of this instance."""
        return self._known('latest/meta-data/instance-id')

    def fetch_region(self) -> str:
        """Return the region of this instance."""
        return self._known('latest/meta-data/placement/region')

    def fetch_role(self) -> str | None:
        """Return the role of this instance, None if it has none."""
        return self._asked(ROLE, may_be_missing=True)

    def _known(self, path: str) -> str:
        """Return what each instance has: a service that does not know it yet will."""
        return self._asked(path, may_be_missing=False) or ''

    def _asked(self, path: str, may_be_missing: bool) -> str | None:
        """Return what the service says under a path; raise MetadataUnavailable when it says nothing for too long."""
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
