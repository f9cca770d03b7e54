"""What the cloud tells this machine about itself: the instance metadata service, version 2."""

from collections.abc import Mapping
import os
from urllib.error import HTTPError, URLError
from urllib.request import build_opener, ProxyHandler, Request

from instance.errors import StepFailed

ENDPOINT = 'http://169.254.169.254'
SECONDS = 2.0
TOKEN_SECONDS = 300


class MetadataAway(StepFailed):
    """The metadata service cannot be asked; the message says why."""


class Metadata:
    def __init__(self, environ: Mapping[str, str] = os.environ, tries: int = 3) -> None:
        """Ask the service where the AWS SDK would ask it as well."""
        self._endpoint = environ.get('AWS_EC2_METADATA_SERVICE_ENDPOINT', ENDPOINT).rstrip('/')
        self._disabled = environ.get('AWS_EC2_METADATA_DISABLED', '').lower() == 'true'
        self._tries = tries
        # Whatever proxy there is for the rest, this address is the machine's own.
        self._open = build_opener(ProxyHandler({})).open

    def get(self, path: str) -> str | None:
        """Return what the service knows under a path, None where it knows nothing."""
        if self._disabled:
            raise MetadataAway('the metadata service is turned off by AWS_EC2_METADATA_DISABLED')
        for number in range(1, self._tries + 1):
            try:
                return self._get(path)
            except HTTPError as error:
                if error.code == 404:
                    return None
                failure = f'it answers {error.code}'
            except (URLError, OSError) as error:
                failure = str(getattr(error, 'reason', error))
            if number == self._tries:
                raise MetadataAway(f'the metadata service at {self._endpoint} cannot be asked: {failure}')
        raise AssertionError('unreachable: the last try returns or raises')

    @property
    def instance_id(self) -> str:
        """The id of this instance."""
        known = self.get('latest/meta-data/instance-id')
        if not known:
            raise MetadataAway('the metadata service does not know the id of this instance')
        return known

    @property
    def region(self) -> str | None:
        """The region that this instance is in."""
        return self.get('latest/meta-data/placement/region')

    def _get(self, path: str) -> str:
        put = Request(f'{self._endpoint}/latest/api/token', method='PUT',
                      headers={'X-aws-ec2-metadata-token-ttl-seconds': str(TOKEN_SECONDS)})
        with self._open(put, timeout=SECONDS) as answer:
            token = answer.read().decode()
        get = Request(f'{self._endpoint}/{path}', headers={'X-aws-ec2-metadata-token': token})
        with self._open(get, timeout=SECONDS) as answer:
            return str(answer.read().decode())
