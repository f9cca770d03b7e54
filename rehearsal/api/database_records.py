"""Moto's records of databases: their states, the actions that each state allows, and the facts for a server."""

from collections.abc import Callable
from ipaddress import IPv4Network
import json
from typing import Any

from moto.ec2.models import ec2_backends
from moto.rds.exceptions import RDSClientError

from rehearsal.api.metrics import record
from rehearsal.naming import short_hash

# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html
AVAILABLE, STOPPED, FAILED = 'available', 'stopped', 'failed'
GIBIBYTE = 1024 ** 3


def require(database: Any, action: str, *states: str) -> None:
    """Raise InvalidDBInstanceState unless a database is in one of the states that allow an action."""
    if database.status not in states:
        raise RDSClientError('InvalidDBInstanceState', f'Instance {database.db_instance_identifier} is '
                             f'{database.status} and cannot be {action}; it must be {" or ".join(states)}.')


def key_of(database: Any) -> str:
    """Return the name of the server of a database, which no other database of any region has."""
    return short_hash(database.db_instance_arn)


def password_of(database: Any) -> str:
    """Return the password of the master of a database."""
    if database.manage_master_user_password:
        return str(json.loads(database.master_user_secret.secret.secret_string)['password'])
    return str(database._master_user_password)


class DatabaseRecord:
    """Moto's record of a database, as its server changes it."""

    def __init__(self, database: Any, when_alone: Callable[[Callable[[], None]], None]) -> None:
        """Keep the record of this database; `when_alone` runs a change that must be alone with moto's records."""
        self._database = database
        self._when_alone = when_alone
        self.identifier, self.key = str(database.db_instance_identifier), key_of(database)
        self.host, self.port, self.region = str(database.address), int(database.port), str(database.region)
        self.master, self.name = str(database.master_username), database.db_name or None
        self.major = str(database.engine_version).partition('.')[0]
        self.block = _block_of(database)
        self.password = password_of(database)

    @property
    def takes_tokens(self) -> bool:
        """Whether IAM authentication is enabled."""
        return bool(self._database.enable_iam_database_authentication)

    def user_arn(self, user: str) -> str:
        """Return the ARN of a user of the database in policies.

        https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.IAMPolicy.html
        """
        database = self._database
        return f'arn:aws:rds-db:{self.region}:{database.account_id}:dbuser:{database.dbi_resource_id}/{user}'

    @property
    def status(self) -> str:
        """The state of the database."""
        return str(self._database.status)

    @status.setter
    def status(self, status: str) -> None:
        self._database.status = status

    def available_at(self, address: str) -> None:
        """Let the name of the database lead to its server."""
        self._database.rehearsal_address = address

    def add_event(self, kind: str) -> None:
        """Add an event that DescribeEvents shows."""
        self._database.add_event(kind)

    def swap_zones(self) -> None:
        """Record that the standby and the primary changed places."""
        database = self._database
        database.availability_zone, database.rehearsal_standby_zone = (database.rehearsal_standby_zone,
                                                                       database.availability_zone)

    def add_metrics(self, connections: int, used_bytes: int) -> None:
        """Add data points of CloudWatch.

        https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-metrics.html
        """
        free = int(self._database.allocated_storage) * GIBIBYTE - used_bytes
        for name, value, unit in (('DatabaseConnections', connections, 'Count'), ('FreeStorageSpace', free, 'Bytes')):
            record(self._database.account_id, self.region, 'AWS/RDS', name,
                   {'DBInstanceIdentifier': self.identifier}, value, unit)

    def finish(self, done: Callable[[], None]) -> None:
        """Record the end of an order, alone with moto's records."""
        self._when_alone(done)


def _block_of(database: Any) -> IPv4Network:
    """Return the block of the VPC of a database: that of its subnets, or the default one."""
    ec2, group = ec2_backends[database.account_id][database.region], getattr(database, 'db_subnet_group', None)
    vpc = ec2.get_vpc(group.vpc_id) if group else ec2.default_vpc
    return IPv4Network(vpc.cidr_block)
