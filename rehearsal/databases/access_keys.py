"""The secrets of access keys that programs of a rehearsal sign with."""

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from rehearsal.api.permissions.principals import instance_key, instances
from rehearsal.databases.tokens import Secret
from rehearsal.settings import ACCOUNT, CREDENTIALS, ROLE_CREDENTIALS

PARTITION = 'aws'


def secret_of(key: str) -> Secret | None:
    """Return the secret of an access key: of the rehearsal itself, of an instance, or of IAM and STS.

    STS gives a session token with its keys, and a signature without it is invalid.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_use-resources.html
    """
    if key == CREDENTIALS['AWS_ACCESS_KEY_ID']:
        return Secret(CREDENTIALS['AWS_SECRET_ACCESS_KEY'])
    if any(key == instance_key(instance.id) for instance in instances()):
        return Secret(ROLE_CREDENTIALS['SecretAccessKey'], ROLE_CREDENTIALS['Token'])
    for role in list(sts_backends[ACCOUNT][PARTITION].assumed_roles):
        if role.access_key_id == key:
            return Secret(role.secret_access_key, role.session_token)
    known = iam_backends[ACCOUNT][PARTITION].access_keys.get(key)
    return Secret(known.secret_access_key) if known and known.status == 'Active' else None
