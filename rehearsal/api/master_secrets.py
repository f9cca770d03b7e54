"""The secret of a master user that RDS manages: its content and its rotation.

https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html
"""

import json
import secrets
import string
from typing import Any
import uuid

from moto.rds.models import MasterUserSecret, rds_backends
from moto.secretsmanager.exceptions import InvalidRequestException
from moto.secretsmanager.models import SecretsManagerBackend

from rehearsal.api.database_records import AVAILABLE
from rehearsal.api.patching import Extension

# All that RDS allows but `/`, `@`, `"` and spaces, so that a program that does not quote a password fails here, too.
CHARACTERS, LENGTH = string.ascii_letters + string.digits + '!#$%&()*+,-.:;<=>?[]^_{|}~', 28
ROTATION_DAYS = 7


class MasterSecrets(Extension, extends=MasterUserSecret):
    """The secret of one master user."""

    def _generate_secret_string(self) -> str:
        return secret_string(self.resource.master_username)

    def _create_secret(self, kms_key_id: str | None) -> Any:
        """Make the secret, which is rotated every seven days."""
        secret = self.moto__create_secret(kms_key_id)
        secret.rotation_requested = secret.rotation_enabled = True
        secret.auto_rotate_after_days = ROTATION_DAYS
        return secret


class Rotations(Extension, extends=SecretsManagerBackend):
    """Rotations of secrets."""

    def rotate_secret(self, secret_id: str, client_request_token: str | None = None, *arguments: Any,
                      **options: Any) -> str:
        """Give a master user a new password; the secret shows it once the database has it.

        https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_managed.html
        """
        secret = self.secrets.get(secret_id)
        database = self.rehearsal_database_of(secret)
        if not database or options.get('rotate_immediately') is False:
            return str(self.moto_rotate_secret(secret_id, client_request_token, *arguments, **options))
        if database.status != AVAILABLE:
            raise InvalidRequestException(f'The DB instance {database.db_instance_identifier} is not available.')
        version, content = client_request_token or str(uuid.uuid4()), secret_string(database.master_username)

        def record() -> None:
            self.moto_rotate_secret(secret_id, version, *arguments, **options)
            secret.versions[version]['secret_string'] = secret.secret_string = content
            database.add_event('DB_INSTANCE_RESET_MASTER_CREDENTIALS')

        self.rehearsal.databases.set_password(database, json.loads(content)['password'], record)
        return str(secret.to_short_dict(version_id=version))

    def rehearsal_database_of(self, secret: Any) -> Any:
        """Return the database whose master user has a secret; None for any other secret."""
        managed = [each for each in rds_backends[self.account_id][self.region_name].databases.values()
                   if each.manage_master_user_password]
        return next((each for each in managed if each.master_user_secret.secret is secret), None)


def secret_string(master: str) -> str:
    """Return the content of a secret with a new password."""
    password = ''.join(secrets.choice(CHARACTERS) for _ in range(LENGTH))
    return json.dumps({'username': master, 'password': password})
