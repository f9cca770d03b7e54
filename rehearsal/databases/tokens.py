"""IAM tokens as passwords of a database: each is a signed request, whose signature is computed again here.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
import hmac
from urllib.parse import parse_qs, urlsplit

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

SERVICE, DATE = 'rds-db', '%Y%m%dT%H%M%SZ'
LIFETIME = timedelta(minutes=15)
# AWS's services accept a signature from a clock that is up to five minutes fast.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
FAST = timedelta(minutes=5)


@dataclass(frozen=True)
class Secret:
    """The secret of an access key, and the session token of a temporary one; None accepts any session token."""

    key: str
    session: str | None = None


Secrets = Callable[[str], Secret | None]
# Whether IAM allows the caller with a key and a session token an action on a resource.
Allows = Callable[[str, str, str, str], bool]


def refusal(token: str, user: str, endpoint: str, region: str, secrets: Secrets, now: datetime) -> str | None:
    """Return the reason to refuse a token that a user presents at `HOST:PORT`; None for a valid token."""
    parts = urlsplit(f'https://{token}')
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    try:
        key, _, signed_region, service, _ = query['X-Amz-Credential'].split('/')
        signed = datetime.strptime(query['X-Amz-Date'], DATE).replace(tzinfo=timezone.utc)
        ends = signed + min(LIFETIME, timedelta(seconds=int(query['X-Amz-Expires'])))
    except (KeyError, ValueError) as error:
        return f'not a token: {error!r}'
    if (query.get('Action'), query.get('DBUser')) != ('connect', user):
        return f'made for the user {query.get("DBUser")}, not for {user}'
    if (parts.netloc, signed_region, service) != (endpoint, region, SERVICE):
        return f'made for {parts.netloc} in {signed_region}, not for {endpoint} in {region}'
    if not signed - FAST <= now <= ends:
        return f'valid from {signed:%H:%M:%S} to {ends:%H:%M:%S}, but it is {now:%H:%M:%S}'

    secret, session = secrets(key), query.get('X-Amz-Security-Token')
    if secret is None:
        return f'the access key {key} does not exist'
    if secret.session is not None and session != secret.session:
        return f'another session token than that of the access key {key}'
    expected = _signature(endpoint, user, Credentials(key, secret.key, session), region, query)
    return None if hmac.compare_digest(expected, query.get('X-Amz-Signature', '')) else 'the signature is wrong'


def signer_of(token: str) -> tuple[str, str]:
    """Return the id of the key that signed a valid token, and the key's session token, if any."""
    query = parse_qs(urlsplit(f'https://{token}').query)
    return query['X-Amz-Credential'][0].partition('/')[0], query.get('X-Amz-Security-Token', [''])[0]


def _signature(endpoint: str, user: str, credentials: Credentials, region: str, query: dict[str, str]) -> str:
    """Return the signature of the same request at the same moment with these credentials."""
    request = AWSRequest('GET', f'https://{endpoint}/', params={'Action': 'connect', 'DBUser': user})
    request.context['timestamp'] = query['X-Amz-Date']
    signer = SigV4QueryAuth(credentials, SERVICE, region, expires=int(query['X-Amz-Expires']))
    signer._modify_request_before_signing(request)
    return str(signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request))
