"""The application's role in the database: it changes rows and no tables, and the leader makes sure that it can."""

from typing import Any

from psycopg2 import extensions, sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from visitors import passwordfile
from visitors.database import describe
from visitors.schema import state
from visitors.schema.errors import SchemaError
from visitors.settings import is_embedded, Settings

EXISTS = text('SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)')
BELONGS = text('SELECT EXISTS (SELECT FROM pg_auth_members WHERE roleid = to_regrole(quote_ident(:login_group)) '
               'AND member = to_regrole(quote_ident(:role)))')
CHANGE, READ = 'SELECT, INSERT, UPDATE, DELETE', 'SELECT'


def are_apart(settings: Settings) -> bool:
    """Return whether the application signs in as another role than the one that migrates."""
    application, owner = settings.database_url, settings.migration_database_url
    return not is_embedded(owner) and bool(application.username) and application.username != owner.username


def is_fit(connection: Connection, settings: Settings) -> bool:
    """Return whether the application's role exists and may use every table."""
    if not connection.scalar(EXISTS, {'role': settings.database_url.username}):
        return False
    if settings.migration_login_group and not _belongs(connection, settings):
        return False
    return not any(_lacking(connection, settings, table, privileges)
                   for table, privileges in _privileges(connection).items())


def ensure(connection: Connection, settings: Settings) -> None:
    """Make the application's role where it is missing, and give it its privileges."""
    if not connection.scalar(EXISTS, {'role': settings.database_url.username}):
        _create(connection, settings)
    if settings.migration_login_group and not _belongs(connection, settings):
        _join(connection, settings)
    grant(connection, settings)


def grant(connection: Connection, settings: Settings) -> None:
    """Give the application's role its privileges: it changes its own rows and reads the schema's state."""
    role = sql.Identifier(str(settings.database_url.username))
    schema = sql.Identifier(str(connection.scalar(text('SELECT current_schema()'))))
    _execute(connection, sql.SQL('GRANT USAGE ON SCHEMA {} TO {}').format(schema, role))
    for table, privileges in sorted(_privileges(connection).items()):
        _execute(connection, sql.SQL(f'GRANT {privileges} ON {{}} TO {{}}').format(sql.Identifier(table), role))
    _execute(connection, sql.SQL('GRANT USAGE ON ALL SEQUENCES IN SCHEMA {} TO {}').format(schema, role))


def _create(connection: Connection, settings: Settings) -> None:
    role = str(settings.database_url.username)
    statement = sql.SQL('CREATE ROLE {} LOGIN').format(sql.Identifier(role))
    password = _password(settings)
    if password:
        # Only what the server needs to check the password goes there, so none of its logs can hold the password.
        verifier = extensions.encrypt_password(password, role, _driver(connection), 'scram-sha-256')
        statement += sql.SQL(' PASSWORD {}').format(sql.Literal(verifier))
    try:
        _execute(connection, statement)
    except DBAPIError as error:
        # Its own text would show the statement.
        raise SchemaError(f'the role {role} cannot be made: {describe(error)}') from None


def _belongs(connection: Connection, settings: Settings) -> bool:
    given = {'role': settings.database_url.username, 'login_group': settings.migration_login_group}
    return bool(connection.scalar(BELONGS, given))


def _join(connection: Connection, settings: Settings) -> None:
    role, group = str(settings.database_url.username), str(settings.migration_login_group)
    try:
        _execute(connection, sql.SQL('GRANT {} TO {}').format(sql.Identifier(group), sql.Identifier(role)))
    except DBAPIError as error:
        raise SchemaError(f'MIGRATION_LOGIN_GROUP={group}: the role {role} cannot be made a member of it: '
                          f'{describe(error)}') from None


def _password(settings: Settings) -> str | None:
    # What is in the file then is a token, which is good for minutes.
    if settings.migration_login_group:
        return None
    if settings.database_password_file:
        known = passwordfile.read(settings.database_password_file)
        # The password of another role, with which the application signs in as that one, is not this role's.
        return known.password if known.user in (None, settings.database_url.username) else None
    return settings.database_url.password


def _privileges(connection: Connection) -> dict[str, str]:
    """Return what the application may do to each table."""
    return {table: READ if table in state.STATE_TABLES else CHANGE for table in state.table_names(connection)}


def _lacking(connection: Connection, settings: Settings, table: str, privileges: str) -> bool:
    # One at a time: a list of privileges asks for any of them.
    query = text('SELECT bool_and(has_table_privilege(:role, quote_ident(:table), privilege)) '
                 "FROM unnest(string_to_array(:privileges, ', ')) AS privilege")
    given = {'role': settings.database_url.username, 'table': table, 'privileges': privileges}
    return not connection.scalar(query, given)


def _execute(connection: Connection, statement: sql.Composable) -> None:
    connection.exec_driver_sql(statement.as_string(_driver(connection)).replace('%', '%%'))


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection
