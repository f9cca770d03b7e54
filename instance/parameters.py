"""The parameters of the Parameter Store, and the plan that follows: variables and secrets of the containers."""

from collections.abc import Mapping
from dataclasses import dataclass
import json
from pathlib import Path
import re
from urllib.parse import unquote, urlsplit

from instance import urls
from instance.errors import StepFailed
from instance.user_data import CONTROL

NAME = re.compile('[A-Z][A-Z0-9_]*')
MIGRATION = 'MIGRATION_'
TOKEN_SWITCH, PURGE_DAYS = 'DATABASE_IAM_AUTHENTICATION', 'PURGE_OLDER_THAN'
# Parameters for the instance and not for the application.
INSTANCE_PARAMETERS = (TOKEN_SWITCH, PURGE_DAYS)
PURGE_RANGE = range(30, 36_501)
# Settings that the application would accept from its environment, where a secret is visible to too many.
SECRET_SETTINGS = ('VISITOR_KEY', 'DATABASE_PASSWORD', 'MIGRATION_DATABASE_PASSWORD')
# Settings whose value only the instance itself knows.
MACHINE_SETTINGS = ('DATABASE_PASSWORD_SOCKET', 'DEPLOY_ID', 'HOST', 'INSTANCE_ID',
                    *(f'{name}_FILE' for name in SECRET_SETTINGS))
URLS = ('DATABASE_URL', 'MIGRATION_DATABASE_URL')
PASSWORD, KEY = 'DATABASE_PASSWORD', 'VISITOR_KEY'
ROLE_PASSWORDS = (PASSWORD, 'MIGRATION_DATABASE_PASSWORD')
# The database role of RDS whose members sign in with tokens: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/
# UsingWithRDS.IAMDBAuth.DBAccounts.html
LOGIN_GROUP = {'MIGRATION_LOGIN_GROUP': 'rds_iam'}
PORT = 8000
# Only root may listen on a lower port, because the container has the network of the instance.
PORTS = range(1024, 65536)
POSTGRESQL_PORT = 5432


@dataclass(frozen=True)
class Account:
    """The database server and the user of the application."""

    host: str
    port: int
    user: str


@dataclass(frozen=True)
class Plan:
    """The input of the containers: variables by role, references of secrets, the token's account, the retention."""

    variables: Mapping[str, Mapping[str, str]]
    secrets: Mapping[str, str]
    token_for: Account | None
    purge_days: int | None


def plan(prefix: str, settings: Mapping[str, str], secrets: Mapping[str, str], identity: Mapping[str, str],
         folders: Mapping[str, Path], has_authorities: bool = False) -> Plan:
    """Return the plan for these parameters; raise StepFailed with the name of the first bad or missing one.

    `identity` has the variables of the instance itself. `folders` has the folder of each role's secrets, as containers
    see it, and the folder of the requests. `has_authorities` says whether the AMI has a file with authorities.
    """
    for name in (*settings, *secrets):
        if not NAME.fullmatch(name):
            raise StepFailed(f'parameter {prefix}/.../{name}: a name has capital letters, digits and _ only')
    _check_settings(prefix, settings, has_authorities)
    _require(prefix, settings, secrets)
    with_token = _switch(prefix, settings, TOKEN_SWITCH)
    if with_token and PASSWORD in secrets:
        raise StepFailed(f'parameters {prefix}/settings/{TOKEN_SWITCH} and {prefix}/secrets/{PASSWORD} are both set; '
                         'keep one of them')

    files = {f'{name}_FILE': str(folders[role_of(name)] / name)
             for name in (*secrets, *((PASSWORD,) if with_token else ()))}
    if f'{PASSWORD}_FILE' in files:
        files[f'{PASSWORD}_SOCKET'] = str(folders['requests'] / 'password')
    variables = {**identity, **(LOGIN_GROUP if with_token else {}),
                 **{name: urls.with_authorities(value) if name in URLS else value
                    for name, value in settings.items() if name not in INSTANCE_PARAMETERS}, **files}
    return Plan(
        variables={
            'application': {name: value for name, value in variables.items() if not name.startswith(MIGRATION)},
            'migration': variables,
        },
        secrets=dict(secrets),
        token_for=account(settings['DATABASE_URL'], f'{prefix}/settings/DATABASE_URL') if with_token else None,
        purge_days=_days(prefix, settings),
    )


def role_of(name: str) -> str:
    """Return the role whose folder holds a file with a secret, by the name of its setting."""
    return 'migration' if name.startswith(MIGRATION) else 'application'


def file_of(name: str, text: str, subject: str) -> str:
    """Return the content for the file of a secret: its text, or the password of an object such as RDS writes.

    A database password keeps the user name of its object, because a rotation by alternating users changes both.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(value, dict):
        return text
    password, user = value.get('password'), value.get('username')
    if not isinstance(password, str) or not password:
        raise StepFailed(f'{subject}: the secret is a JSON object without a text called password')
    if name not in ROLE_PASSWORDS or user is None:
        return password
    if not isinstance(user, str) or not user:
        raise StepFailed(f'{subject}: the secret is a JSON object whose username is not a text')
    return json.dumps({'username': user, 'password': password})


def subject(prefix: str, name: str) -> str:
    """Return the name of a secret for messages: that of its parameter, whose value may be the secret itself."""
    return f'the secret that parameter {prefix}/secrets/{name} names'


def account(url: str, parameter: str) -> Account:
    """Return the server and user of a URL; raise StepFailed if a token cannot be made for it."""
    parts = urlsplit(url)
    if not parts.scheme.startswith('postgres') or not parts.hostname or not parts.username:
        raise StepFailed(f'parameter {parameter}: a token needs postgresql://USER@HOST:PORT/NAME')
    return Account(parts.hostname, parts.port or POSTGRESQL_PORT, unquote(parts.username))


def environment_file(variables: Mapping[str, str]) -> str:
    """Return variables in the form of a file that Docker reads."""
    return ''.join(f'{name}={value}\n' for name, value in sorted(variables.items()))


def _check_settings(prefix: str, settings: Mapping[str, str], has_authorities: bool) -> None:
    for name, value in settings.items():
        parameter = f'{prefix}/settings/{name}'
        if name in SECRET_SETTINGS:
            raise StepFailed(f'parameter {parameter} would show a secret; put it into Secrets Manager, and its name '
                             f'into {prefix}/secrets/{name}')
        if name in MACHINE_SETTINGS:
            raise StepFailed(f'parameter {parameter} is set by each machine itself; delete it')
        # Docker and Python disagree about which of these characters ends a line.
        if control := CONTROL.search(value):
            raise StepFailed(f'parameter {parameter} has the control character U+{ord(control[0]):04X} at position '
                             f'{control.start() + 1}; delete it')
        if name in URLS:
            urls.check(parameter, value, f'{prefix}/secrets/{name.removesuffix("URL")}PASSWORD', has_authorities)
    port = settings.get('PORT', str(PORT))
    if not re.fullmatch('[0-9]{1,5}', port) or int(port) not in PORTS:
        raise StepFailed(f'parameter {prefix}/settings/PORT is {port}; use a number from {PORTS[0]} to {PORTS[-1]}')


def _require(prefix: str, settings: Mapping[str, str], secrets: Mapping[str, str]) -> None:
    missing = [f'{prefix}/settings/{name}' for name in ('DATABASE_URL',) if not settings.get(name)]
    missing += [f'{prefix}/secrets/{name}' for name in (KEY,) if not secrets.get(name)]
    if missing:
        raise StepFailed(f'missing in the Parameter Store: {", ".join(missing)}')


def _switch(prefix: str, settings: Mapping[str, str], name: str) -> bool:
    value = settings.get(name, '0')
    if value not in ('0', '1'):
        raise StepFailed(f'parameter {prefix}/settings/{name} is {value}; use 1 or 0')
    return value == '1'


def _days(prefix: str, settings: Mapping[str, str]) -> int | None:
    value = settings.get(PURGE_DAYS)
    if value is None:
        return None
    # The limits of `flask purge`, which would refuse the value only a day later.
    if not re.fullmatch('[0-9]{1,5}', value) or int(value) not in PURGE_RANGE:
        raise StepFailed(f'parameter {prefix}/settings/{PURGE_DAYS} is {value}; use a number of days, '
                         f'{PURGE_RANGE[0]} to {PURGE_RANGE[-1]}')
    return int(value)
