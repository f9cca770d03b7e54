"""An installation of the application on a rehearsal: a database on the network, parameters, secrets, a log, a role."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
import uuid

import pytest

from rehearsal.client import Rehearsal
from release.userdata import render
from tests.support.local_aws import make_profile
from tests.support.postgresql import execute, PostgresServer
from tests.support.server import ROOT
from tests.support.workshop import Workshop

PROFILE = 'visitors-machine'
NUMBERS = count(1)


@dataclass(frozen=True)
class Installation:
    """The prefix of its parameters, its database and the owner of that, and its secrets."""

    cloud: Rehearsal
    prefix: str
    database: str
    owner: str
    secrets: dict[str, str]

    def put_parameter(self, name: str, value: str) -> None:
        """Write a parameter."""
        parameters = self.cloud.client('ssm')
        parameters.put_parameter(Name=f'{self.prefix}/{name}', Value=value, Type='String', Overwrite=True)

    def delete_parameter(self, name: str) -> None:
        """Delete a parameter."""
        self.cloud.client('ssm').delete_parameter(Name=f'{self.prefix}/{name}')

    def put_secret(self, name: str, text: str) -> None:
        """Write a text into Secrets Manager, and its name into a parameter."""
        made = self.cloud.client('secretsmanager').create_secret(Name=f'{self.prefix}/{uuid.uuid4().hex}',
                                                                 SecretString=text)
        self.put_parameter(f'secrets/{name}', made['ARN'])

    def user_data(self, **environment: str) -> str:
        """Return the user data of its machines."""
        usual = {'PARAMETER_PREFIX': self.prefix, 'AWS_REGION': self.cloud.facts['region'],
                 'DEPLOY_ID': f'deploy{self.prefix}', 'LIFECYCLE_HOOK': '',
                 'AWS_ENDPOINT_URL': self.cloud.machine_endpoint}
        return render(ROOT, {**usual, **environment})

    def logged(self, words: str) -> list[dict[str, Any]]:
        """Return the events in its log that hold these words."""
        pages = self.cloud.client('logs').get_paginator('filter_log_events').paginate(logGroupName=self.prefix)
        return [event for page in pages for event in page['events'] if words in event['message']]


class Database:
    """A PostgreSQL server that a rehearsal's machines reach over their network, with passwords only."""

    def __init__(self, cloud: Rehearsal) -> None:
        """Start the server."""
        network = f'{cloud.gateway}/16'
        self.cloud = cloud
        self.server = PostgresServer(cloud.gateway, access=(
            f'host all all {cloud.gateway}/32 trust', f'host all with_token {network} trust',
            f'host all all {network} scram-sha-256'))

    def install(self) -> Installation:
        """Return a new installation with an empty database and everything that its machines need to know."""
        name = f'installation{next(NUMBERS)}'
        prefix, application = f'/visitors/{name}', f'{name}_application'
        secrets = {'MIGRATION_DATABASE_PASSWORD': uuid.uuid4().hex, 'DATABASE_PASSWORD': uuid.uuid4().hex,
                   'VISITOR_KEY': uuid.uuid4().hex}
        owner, maintenance = f'{name}_migrator', self.server.url('postgres')
        execute(maintenance, f'CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD %s',
                [secrets['MIGRATION_DATABASE_PASSWORD']])
        execute(maintenance, f'CREATE DATABASE {name} OWNER {owner}')
        made = Installation(self.cloud, prefix, self.server.url(name), owner, secrets)
        made.cloud.client('logs').create_log_group(logGroupName=prefix)
        for setting, user in (('DATABASE_URL', application), ('MIGRATION_DATABASE_URL', owner)):
            made.put_parameter(f'settings/{setting}', self.server.url(name, user))
        for secret, text in secrets.items():
            made.put_secret(secret, text)
        return made

    def execute_as_owner(self, installation: Installation, statements: str) -> None:
        """Run statements in an installation's database as the role that migrates it."""
        execute(installation.database, f'SET ROLE {installation.owner}; {statements}')


@pytest.fixture(scope='session')
def database(workshop: Workshop) -> Iterator[Database]:
    """Give a database server on the network of the workshop's rehearsal."""
    with opened_database(workshop.cloud) as made:
        yield made


@contextmanager
def opened_database(cloud: Rehearsal) -> Iterator[Database]:
    """Give a database server on a rehearsal's network, and a role for its machines, for the time of the block."""
    make_profile(cloud.client('iam'), PROFILE)
    made = Database(cloud)
    try:
        yield made
    finally:
        made.server.remove()
