"""Step token: renew the application's database password; a timer and a socket start it.

With IAM authentication the password is a token, signed on this instance and valid for 15 minutes. Otherwise it is the
current value of the secret, which Secrets Manager may have rotated. The application reads the file at each connection.
"""

from dataclasses import asdict, dataclass
import json

from instance import parameters, secretfiles
from instance.aws import Aws
from instance.errors import StepFailed
from instance.machine import Machine
from instance.parameters import Account, Plan


@dataclass(frozen=True)
class Source:
    """The source of the application's database password: the account of a token, or the reference of a secret."""

    token_for: Account | None = None
    secret: str = ''

    @classmethod
    def of(cls, plan: Plan) -> 'Source | None':
        """Return the source that a plan names, None if the application needs no password."""
        if plan.token_for:
            return cls(token_for=plan.token_for)
        reference = plan.secrets.get(parameters.PASSWORD)
        return cls(secret=reference) if reference else None


def run(machine: Machine) -> str:
    """Renew the password, and return its kind."""
    if not machine.password_source.exists():
        return 'nothing to renew: the application needs no password'

    return renew(machine, read_source(machine), Aws(machine.user_data))


def write_source(machine: Machine, source: Source) -> None:
    """Write the source for the timer and the socket."""
    fields = {'token_for': asdict(source.token_for)} if source.token_for else {'secret': source.secret}
    machine.password_source.write_text(json.dumps(fields), encoding='utf-8')


def read_source(machine: Machine) -> Source:
    """Return the source that the step config wrote."""
    fields = json.loads(machine.password_source.read_text(encoding='utf-8'))
    if 'token_for' in fields:
        return Source(token_for=Account(**fields['token_for']))
    if 'secret' in fields:
        return Source(secret=fields['secret'])
    raise StepFailed(f'{machine.password_source} names no source of a password; run the step config again')


def renew(machine: Machine, source: Source, aws: Aws) -> str:
    """Write the password that the database accepts now, and return its kind."""
    account = source.token_for
    if account:
        value, kind = aws.database_token(account.host, account.port, account.user), f'a new token for {account.user}'
    else:
        prefix = machine.user_data.parameter_prefix
        value = fetch(aws, prefix, parameters.PASSWORD, source.secret)
        kind = f'the value of {parameters.subject(prefix, parameters.PASSWORD)}'
    secretfiles.write(machine.secrets('application') / parameters.PASSWORD, value)
    return kind


def fetch(aws: Aws, prefix: str, name: str, reference: str) -> str:
    """Return the content for the file of a secret, from the secret's current value."""
    subject = parameters.subject(prefix, name)
    return parameters.file_of(name, aws.secret(reference, subject), subject)
