"""Step config: copy settings and secrets from the Parameter Store and Secrets Manager into memory."""

from collections.abc import Mapping
import json
import os
import secrets
import shutil
import time

from instance import boot_record, lifecycle, parameters, password_renewal, secretfiles, systemd
from instance.aws import Aws
from instance.boot_record import BootRecord, Phase
from instance.container import inside, Size, USER
from instance.machine import Machine
from instance.metadata import Metadata
from instance.parameters import Plan

ROLES = ('application', 'migration')
SELFTEST = 'selftest'
SELFTEST_SETTINGS = {'DATABASE_URL': 'sqlite:////app/data/visitors.sqlite3'}


def run(machine: Machine) -> str:
    """Prepare this instance for its containers, and return a summary."""
    _begin(machine)
    _clear(machine)
    _make_requests_folder(machine)
    if machine.user_data.selftest:
        return _prepare_selftest(machine)

    aws = Aws(machine.user_data)
    identity = _identity(machine, Metadata().fetch_instance_id())
    boot_record.change(machine.boot_record, lambda record: record.with_identity(machine.image.version, identity))
    with lifecycle.heartbeats(lifecycle.heartbeat_of(machine, identity['INSTANCE_ID'])):
        return _prepare(machine, aws, identity)


def _prepare(machine: Machine, aws: Aws, identity: Mapping[str, str]) -> str:
    prefix = machine.user_data.parameter_prefix
    settings, references = aws.parameters(f'{prefix}/settings'), aws.parameters(f'{prefix}/secrets')
    plan = _plan(machine, prefix, settings, references, identity)
    values = {name: password_renewal.fetch(aws, prefix, name, reference) for name, reference in plan.secrets.items()}
    _write(machine, plan, values)
    source = password_renewal.Source.of(plan)
    if source:
        password_renewal.write_source(machine, source)
    if source and source.token_for:
        password_renewal.renew(machine, source, aws)
    return f'{len(plan.variables["migration"])} variables, {len(values)} secrets'


def _begin(machine: Machine) -> None:
    """Begin the record of this boot, and print the phases before this step."""
    now = time.monotonic()
    moments = systemd.moments(machine.root)
    phases = (
        Phase('power-on', round(moments.userspace - moments.power_on, 2), 'systemd runs'),
        Phase('network', round((moments.network or now) - moments.userspace, 2),
              'online' if moments.network else 'not online'),
    )
    for phase in phases:
        print(boot_record.console_line(phase), flush=True)
    boot_record.write(machine.boot_record, BootRecord(power_on=moments.power_on, started=now, phases=phases))


def _clear(machine: Machine) -> None:
    """Remove the files of an earlier run, because a parameter that was deleted must have no effect."""
    for path in (machine.password_source, machine.purge_settings, machine.served):
        path.unlink(missing_ok=True)
    for role in ROLES:
        machine.variables(role).unlink(missing_ok=True)
        shutil.rmtree(machine.secrets(role), ignore_errors=True)
        secretfiles.make_folder(machine.secrets(role))


def _make_requests_folder(machine: Machine) -> None:
    """Make the folder of the socket; besides root, only the containers' user may enter it."""
    machine.requests.mkdir(exist_ok=True)
    os.chown(machine.requests, 0, USER)
    machine.requests.chmod(secretfiles.FOLDER_MODE)


def _prepare_selftest(machine: Machine) -> str:
    """Prepare an instance that has no network, role or database."""
    identity = _identity(machine, SELFTEST)
    boot_record.change(machine.boot_record, lambda record: record.with_identity(machine.image.version, identity))
    machine.data.mkdir(parents=True, exist_ok=True)
    machine.data.chmod(0o700)
    os.chown(machine.data, USER, USER)
    plan = _plan(machine, f'/{SELFTEST}', SELFTEST_SETTINGS, {parameters.KEY: 'generated'}, identity)
    _write(machine, plan, {parameters.KEY: secrets.token_hex(32)})
    return 'self-test: an embedded database and a generated key'


def _identity(machine: Machine, instance: str) -> Mapping[str, str]:
    """Return the variables that come from the instance itself; settings may replace PORT and WORKERS."""
    deploy = {'DEPLOY_ID': machine.user_data.deploy_id} if machine.user_data.deploy_id else {}
    return {'INSTANCE_ID': instance, 'HOST': '0.0.0.0', 'PORT': str(parameters.PORT),
            'WORKERS': str(Size.of_this_instance().workers), **deploy}


def _plan(machine: Machine, prefix: str, settings: Mapping[str, str], references: Mapping[str, str],
          identity: Mapping[str, str]) -> Plan:
    folders = {role: inside(machine, machine.secrets(role)) for role in ROLES}
    folders['requests'] = inside(machine, machine.requests)
    return parameters.plan(prefix, settings, references, identity, folders, machine.authorities.is_file())


def _write(machine: Machine, plan: Plan, values: Mapping[str, str]) -> None:
    for role, variables in plan.variables.items():
        machine.variables(role).write_text(parameters.environment_file(variables), encoding='utf-8')
    for name, value in values.items():
        secretfiles.write(machine.secrets(parameters.role_of(name)) / name, value)
    if plan.purge_days:
        machine.purge_settings.write_text(json.dumps({'older_than': plan.purge_days}), encoding='utf-8')
