"""Parameters and secrets that the machines of an installation read."""

from rehearsal.embedded import EmbeddedRehearsal
from tests.support.machine_folder import PREFIX

KEY = 'key-of-visitors-that-is-of-tests'
PASSWORD, OWNER_PASSWORD = 'word-of-application', 'word-of-owner'  # pragma: allowlist secret
URL = 'postgresql://visitors@database.internal/visitors'


def put_settings(aws: EmbeddedRehearsal, **settings: str) -> None:
    """Put settings into the Parameter Store."""
    for name, value in settings.items():
        aws.client('ssm').put_parameter(Name=f'{PREFIX}/settings/{name}', Value=value, Type='String', Overwrite=True)


def put_secrets(aws: EmbeddedRehearsal, **secrets: str) -> None:
    """Put secrets into Secrets Manager, and their names into the Parameter Store."""
    for name, value in secrets.items():
        arn = aws.client('secretsmanager').create_secret(Name=name.lower(), SecretString=value)['ARN']
        aws.client('ssm').put_parameter(Name=f'{PREFIX}/secrets/{name}', Value=arn, Type='String')
