"""Parameters and secrets that the machines of an installation read."""

from tests.support.cloud import Cloud
from tests.support.machine_folder import PREFIX

KEY = 'key-of-visitors-that-is-of-tests'
PASSWORD, OWNER_PASSWORD = 'word-of-application', 'word-of-owner'  # pragma: allowlist secret
URL = 'postgresql://visitors@database.internal/visitors'


def put_settings(cloud: Cloud, **settings: str) -> None:
    """Put settings into the Parameter Store."""
    for name, value in settings.items():
        cloud.client('ssm').put_parameter(Name=f'{PREFIX}/settings/{name}', Value=value, Type='String', Overwrite=True)


def put_secrets(cloud: Cloud, **secrets: str) -> None:
    """Put secrets into Secrets Manager, and their names into the Parameter Store."""
    for name, value in secrets.items():
        arn = cloud.client('secretsmanager').create_secret(Name=name.lower(), SecretString=value)['ARN']
        cloud.client('ssm').put_parameter(Name=f'{PREFIX}/secrets/{name}', Value=arn, Type='String')
