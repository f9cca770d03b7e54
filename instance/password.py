"""Step token: the application's password of the database as it is now; a timer runs this again and again.

Where IAM authenticates it is a token, signed on this machine, which is good for a quarter of an hour. Elsewhere it is
the secret's current value, which Secrets Manager may have rotated. The application reads the file at each connection.
"""

from dataclasses import asdict
import json

from instance import parameters, secretfiles
from instance.aws import Aws
from instance.errors import StepFailed
from instance.machine import Machine
from instance.parameters import Account, Plan


def run(machine: Machine) -> str:
    """Renew the password, and return what it is."""
    if not machine.password_source.exists():
        return 'nothing to renew, the application needs no password'

    return renew(machine, Aws(machine.settings))


def write_source(machine: Machine, plan: Plan) -> None:
    """Write down where the password comes from, for the times that it is renewed."""
    source: dict[str, object] = {}
    if plan.token_for:
        source = {'token_for': asdict(plan.token_for)}
    elif parameters.PASSWORD in plan.secrets:
        source = {'secret': plan.secrets[parameters.PASSWORD]}
    if source:
        machine.password_source.write_text(json.dumps(source), encoding='utf-8')


def fetched(aws: Aws, prefix: str, name: str, reference: str) -> str:
    """Return what the file of a secret holds, from the secret's current value."""
    subject = parameters.subject(prefix, name)
    return parameters.file_of(name, aws.secret(reference, subject), subject)


def renew(machine: Machine, aws: Aws) -> str:
    """Write the password that the database takes now, and return what kind it is."""
    source = json.loads(machine.password_source.read_text(encoding='utf-8'))
    if 'token_for' in source:
        account = Account(**source['token_for'])
        value, kind = aws.database_token(account.host, account.port, account.user), f'a new token for {account.user}'
    elif 'secret' in source:
        value = fetched(aws, machine.settings.parameter_prefix, parameters.PASSWORD, source['secret'])
        kind = f'the value of {parameters.subject(machine.settings.parameter_prefix, parameters.PASSWORD)}'
    else:
        raise StepFailed(f'{machine.password_source} names no source of a password; run the step config again')
    secretfiles.write(machine.secrets('application') / parameters.PASSWORD, value)
    return kind
