"""Databases of RDS, their snapshots and parameter groups: actions with real servers behind them.

moto drops some attributes, and its databases are available at once.
"""

from copy import copy
from hashlib import sha256
import re
import secrets
import string
from typing import Any

from moto.core.responses import ActionResult
from moto.rds.exceptions import (DBParameterGroupNotFoundError, DBSnapshotAlreadyExistsError,
                                 InvalidParameterCombination, RDSClientError)
from moto.rds.models import DBInstance, DBParameterGroup, Event, RDSBackend
from moto.rds.responses import RDSResponse

from rehearsal.api.database_records import AVAILABLE, FAILED, password_of, require, STOPPED
from rehearsal.api.patching import Extension
from rehearsal.errors import NotModelled, RehearsalError

# Attributes of a database that moto drops, by the argument of its creation and the name under which it shows them.
DROPPED = {'engine_lifecycle_support': 'engine_lifecycle_support',
           'enable_performance_insights': 'performance_insights_enabled',
           'performance_insights_retention_period': 'performance_insights_retention_period',
           'performance_insights_kms_key_id': 'performance_insights_kms_key_id'}
ID_CHARACTERS, ID_LENGTH = string.ascii_uppercase + string.digits, 26
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html
EVENTS = {
    'DB_INSTANCE_RESTART': {'Categories': ['availability'], 'Message': 'DB instance restarted'},
    'DB_INSTANCE_START': {'Categories': ['notification'], 'Message': 'DB instance started'},
    'DB_INSTANCE_STOP': {'Categories': ['notification'], 'Message': 'DB instance stopped'},
    'DB_INSTANCE_DELETE': {'Categories': ['deletion'], 'Message': 'DB instance deleted'},
    'DB_INSTANCE_FAILOVER_START': {'Categories': ['failover'], 'Message': 'Multi-AZ instance failover started'},
    'DB_INSTANCE_FAILOVER_FINISH': {'Categories': ['failover'], 'Message': 'Multi-AZ instance failover completed'}}
# Changes of a database that a real server here cannot follow.
UNSUPPORTED = ('new_db_instance_identifier', 'db_port_number')


class Databases(Extension, extends=DBInstance):
    """A database."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Keep the dropped attributes, and give the database an id of its own."""
        self.moto___init__(*arguments, **options)
        for name, attribute in DROPPED.items():
            if options.get(name) is not None:
                setattr(self, attribute, options[name])
        # IAM policies name it, so two databases must not share it.
        self.dbi_resource_id = f'db-{"".join(secrets.choice(ID_CHARACTERS) for _ in range(ID_LENGTH))}'
        self.rehearsal_snapshot = options.get('rehearsal_snapshot')
        self.rehearsal_standby_zone = f'{self.region}b' if self.availability_zone.endswith('a') else f'{self.region}a'

    @property
    def address(self) -> str:
        """The host name, whose second part is the same for all databases of an account in a region.

        https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_ConnectToPostgreSQLInstance.html
        """
        fixed = 'c' + sha256(f'{self.account_id}/{self.region}'.encode()).hexdigest()[:11]
        return f'{self.db_instance_identifier}.{fixed}.{self.region}.rds.amazonaws.com'

    @property
    def endpoint(self) -> dict[str, Any] | None:
        """The host name and port, which a database without a server does not show.

        https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DBInstance.html
        """
        return None if self.status == 'creating' else {'Address': self.address, 'Port': self.port}

    @property
    def secondary_availability_zone(self) -> str | None:
        """The zone of the standby."""
        return self.rehearsal_standby_zone if self.multi_az else None

    @property
    def db_parameter_group_status_list(self) -> list[Any]:
        """The parameter group, and whether a reboot would change a parameter.

        https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DBParameterGroupStatus.html
        """
        groups = [copy(group) for group in self.db_parameter_groups()]
        is_pending = self.status != 'deleting' and self.rehearsal.databases.is_pending(self)
        for group in groups:
            group.ParameterApplyStatus = 'pending-reboot' if is_pending else 'in-sync'
        return groups


class Events(Extension, extends=Event):
    """An event of a database."""

    @property
    def EVENT_MAP(self) -> dict[str, Any]:  # noqa: N802
        """The messages by kind."""
        return {**self.moto_EVENT_MAP, **EVENTS}


class DatabaseActions(Extension, extends=RDSBackend):
    """Actions on databases and snapshots."""

    def create_db_instance(self, db_kwargs: dict[str, Any]) -> Any:
        """Make a database and order its server."""
        servers = self.rehearsal.databases
        if servers.are_real and (db_kwargs.get('engine') != 'postgres' or db_kwargs.get('db_cluster_identifier')):
            raise NotModelled('only single databases of the engine postgres have servers')
        if servers.are_real:
            check_master(db_kwargs)
        database = self.moto_create_db_instance(db_kwargs)
        try:
            servers.create(database, database.rehearsal_snapshot)
        except BaseException as error:
            forget(self, database)
            if isinstance(error, RehearsalError):
                raise RDSClientError('InsufficientDBInstanceCapacity', str(error)) from error
            raise
        return database

    def modify_db_instance(self, db_instance_identifier: str, db_kwargs: dict[str, Any]) -> Any:
        """Change a database that is available; a new password of the master takes effect at once.

        https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ModifyDBInstance.html
        """
        servers = self.rehearsal.databases
        (database,) = self.describe_db_instances(db_instance_identifier)
        if servers.are_real and any(db_kwargs.get(name) for name in UNSUPPORTED):
            raise NotModelled('a server here keeps its name and port')
        require(database, 'modified', AVAILABLE)
        was_managed = database.manage_master_user_password
        self.moto_modify_db_instance(db_instance_identifier, db_kwargs)
        if db_kwargs.get('master_user_password') or database.manage_master_user_password and not was_managed:
            servers.set_password(database, password_of(database),
                                 lambda: database.add_event('DB_INSTANCE_RESET_MASTER_CREDENTIALS'))
        servers.modify(database)
        return database

    def modify_db_parameter_group(self, db_parameter_group_name: str, db_parameter_group_parameters: Any) -> Any:
        """Change parameters, which the databases of the group follow at once or after a reboot."""
        changes = list(db_parameter_group_parameters)
        group = self.moto_modify_db_parameter_group(db_parameter_group_name, changes)
        follow_group(self, group, [change['ParameterName'] for change in changes])
        return group

    def stop_db_instance(self, db_instance_identifier: str, *arguments: Any, **options: Any) -> Any:
        """Stop a database that is available.

        https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_StopInstance.html
        """
        database = self.moto_stop_db_instance(db_instance_identifier, *arguments, **options)
        self.rehearsal.databases.stop(database)
        return database

    def start_db_instance(self, db_instance_identifier: str) -> Any:
        """Start a stopped database."""
        database = self.moto_start_db_instance(db_instance_identifier)
        self.rehearsal.databases.start(database)
        return database

    def delete_db_instance(self, db_instance_identifier: str, final_db_snapshot_identifier: str | None = None,
                           skip_final_snapshot: bool | None = False,
                           delete_automated_backups: bool | None = True) -> Any:
        """Remove a database, after a final snapshot unless the client skips it.

        https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_DeleteDBInstance.html
        """
        arguments = (db_instance_identifier, final_db_snapshot_identifier, skip_final_snapshot,
                     delete_automated_backups)
        database = self.databases.get(db_instance_identifier)
        if not database or database.deletion_protection or database.db_cluster_identifier:
            return self.moto_delete_db_instance(*arguments)
        if bool(skip_final_snapshot) == bool(final_db_snapshot_identifier):
            raise InvalidParameterCombination('FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is '
                                              'specified, and refused if it is.')
        if final_db_snapshot_identifier and final_db_snapshot_identifier in self.database_snapshots:
            raise DBSnapshotAlreadyExistsError(str(final_db_snapshot_identifier))
        require(database, 'deleted', AVAILABLE, STOPPED, *([FAILED, 'creating'] if skip_final_snapshot else []))
        self.rehearsal.databases.delete(
            database, place_of(self, final_db_snapshot_identifier) if final_db_snapshot_identifier else None,
            lambda: self.moto_delete_db_instance(*arguments))
        return database

    def create_db_snapshot(self, *arguments: Any, **options: Any) -> Any:
        """Make a snapshot, and order the copy of the data unless it is automated or a final one."""
        snapshot = self.moto_create_db_snapshot(*arguments, **options)
        database = self.databases[snapshot.db_instance_identifier]
        if snapshot.snapshot_type == 'manual' and database.status == AVAILABLE:
            self.rehearsal.databases.take_snapshot(database, snapshot, place_of(self, snapshot.db_snapshot_identifier))
        return snapshot

    def delete_db_snapshot(self, db_snapshot_identifier: str) -> Any:
        """Remove a snapshot and its data."""
        snapshot = self.moto_delete_db_snapshot(db_snapshot_identifier)
        self.rehearsal.databases.forget_snapshot(place_of(self, db_snapshot_identifier))
        return snapshot

    def restore_db_instance_from_db_snapshot(self, from_snapshot_id: str, overrides: dict[str, Any]) -> Any:
        """Make a database with the data of a snapshot.

        https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RestoreDBInstanceFromDBSnapshot.html
        """
        place = place_of(self, from_snapshot_id.rpartition(':')[2])
        if not self.rehearsal.databases.has_snapshot(place):
            raise NotModelled(f'{from_snapshot_id} has no data: only manual and final snapshots have')
        return self.moto_restore_db_instance_from_db_snapshot(from_snapshot_id,
                                                              {**overrides, 'rehearsal_snapshot': place})

    def restore_db_instance_to_point_in_time(self, *arguments: Any, **options: Any) -> Any:
        """Make a database with the data of a moment, which real servers do not keep."""
        if self.rehearsal.databases.are_real:
            raise NotModelled('a server here cannot be restored to a point in time')
        return self.moto_restore_db_instance_to_point_in_time(*arguments, **options)

    def create_db_instance_read_replica(self, db_kwargs: dict[str, Any]) -> Any:
        """Make a replica, which real servers do not have."""
        if self.rehearsal.databases.are_real:
            raise NotModelled('a server here has no replicas')
        return self.moto_create_db_instance_read_replica(db_kwargs)


class DatabaseCalls(Extension, extends=RDSResponse):
    """Calls whose arguments moto drops, and one that it lacks."""

    def reboot_db_instance(self) -> ActionResult:
        """Start a database again; a failover needs a standby.

        https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_RebootDBInstance.html
        """
        (database,) = self.backend.describe_db_instances(self.params.get('DBInstanceIdentifier'))
        fails_over = bool(self.params.get('ForceFailover'))
        require(database, 'rebooted', AVAILABLE)
        if fails_over and not database.multi_az:
            raise InvalidParameterCombination("You can't specify ForceFailover for a DB instance that is not "
                                              'configured for Multi-AZ.')
        self.rehearsal.databases.reboot(database, fails_over)
        return ActionResult({'DBInstance': database})

    def reset_db_parameter_group(self) -> ActionResult:
        """Give parameters their defaults again.

        https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_ResetDBParameterGroup.html
        """
        group = self.backend.db_parameter_groups.get(self.params.get('DBParameterGroupName'))
        if not group:
            raise DBParameterGroupNotFoundError(self.params.get('DBParameterGroupName'))
        named = [each.original_dict()['ParameterName'] for each in self.params.get('Parameters') or []]
        if bool(named) == bool(self.params.get('ResetAllParameters')):
            raise InvalidParameterCombination('Specify either Parameters or ResetAllParameters.')
        names = named or list(group.parameters)
        for name in names:
            group.parameters.pop(name, None)
        follow_group(self.backend, group, names)
        return ActionResult({'DBParameterGroupName': group.name})


class ParameterGroups(Extension, extends=DBParameterGroup):
    """A parameter group."""

    def update_parameters(self, parameters: Any) -> None:
        """Mark the parameters that a client sets as the client's own.

        https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_Parameter.html
        """
        self.moto_update_parameters([{**each, 'Source': 'user', 'IsModifiable': True} for each in parameters])


def check_master(arguments: Any) -> None:
    """Refuse a database without a usable master user; PostgreSQL has names of its own with these prefixes.

    https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_CreateDBInstance.html
    """
    name, is_managed = arguments.get('master_username') or '', arguments.get('manage_master_user_password')
    if not re.fullmatch('[A-Za-z][A-Za-z0-9_]{0,62}', name) or name.startswith(('pg_', 'rds_', 'rdsadmin')):
        raise RDSClientError('InvalidParameterValue', f'The parameter MasterUsername is not a valid name: {name!r}')
    if not is_managed and not arguments.get('master_user_password'):
        raise RDSClientError('InvalidParameterValue', 'The parameter MasterUserPassword must be provided and must not '
                             'be blank.')


def forget(backend: Any, database: Any) -> None:
    """Remove the records of a database that has no server."""
    del backend.databases[database.db_instance_identifier]
    for snapshot in backend.describe_db_snapshots(database.db_instance_identifier, snapshot_type='automated'):
        del backend.database_snapshots[snapshot.db_snapshot_identifier]
    if database.manage_master_user_password:
        database.master_user_secret.delete_secret()


def follow_group(backend: Any, group: Any, changed: list[str]) -> None:
    """Order that the databases of a group follow changed parameters."""
    for database in backend.databases.values():
        if group in database.db_parameter_groups() and database.status != 'deleting':
            database.rehearsal.databases.change_parameters(database, changed)


def place_of(backend: Any, snapshot: str) -> str:
    """Return the name of the data of a snapshot, which no snapshot of another region has."""
    return f'{backend.region_name}/{snapshot}'
