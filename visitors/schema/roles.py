"""The application's role in the database: it changes rows of the application's own tables, and no tables.

Other applications may keep tables in the same schema. The role needs no privilege on them, and gets none.
"""

from collections.abc import Iterator
import logging
from typing import Any

from psycopg2 import extensions, sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from visitors import models, passwordfile
from visitors.database_errors import describe
from visitors.schema import tables
from visitors.schema.errors import Kind, kind_of, SchemaError
from visitors.settings import is_embedded, Settings

EXISTS = text('SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)')
BELONGS = text('SELECT EXISTS (SELECT FROM pg_auth_members WHERE roleid = to_regrole(quote_ident(:login_group)) '
               'AND member = to_regrole(quote_ident(:role)))')
CHANGE, READ = ('SELECT', 'INSERT', 'UPDATE', 'DELETE'), ('SELECT',)
OWN_TABLES = {**dict.fromkeys(models.visitors.metadata.tables, CHANGE), **dict.fromkeys(models.counters.tables, READ),
              **dict.fromkeys(tables.SCHEMA_TABLES, READ)}
LACKING = text("""
SELECT privilege FROM unnest(string_to_array(:privileges, ' ')) AS privilege
WHERE NOT has_table_privilege(:role, quote_ident(:table), privilege)
""")
MAY_LOOK = text("SELECT has_schema_privilege(:role, current_schema(), 'USAGE')")
# The sequence behind an integer key belongs to its table.
SEQUENCES = text("""
SELECT sequence.relname FROM pg_class AS sequence
JOIN pg_depend AS dependency ON dependency.objid = sequence.oid AND dependency.deptype IN ('a', 'i')
WHERE dependency.classid = CAST('pg_class' AS regclass)
  AND dependency.refclassid = CAST('pg_class' AS regclass)
  AND dependency.refobjid = to_regclass(quote_ident(:table))
  AND CASE sequence.relkind WHEN 'S' THEN NOT has_sequence_privilege(:role, sequence.oid, 'USAGE') ELSE false END
""")
# Earlier releases granted exactly these privileges on every table of the schema, and USAGE on every sequence.
EXCESS = text("""
SELECT relname, relkind FROM (
    SELECT relation.relname, CAST(relation.relkind AS text),
           array_agg(CAST(acl.privilege_type AS text) ORDER BY acl.privilege_type) AS privileges
    FROM pg_class AS relation, aclexplode(relation.relacl) AS acl
    WHERE relation.relnamespace = to_regnamespace(quote_ident(current_schema()))
      AND relation.relkind IN ('r', 'p', 'S')
      AND pg_get_userbyid(acl.grantee) = :role AND pg_get_userbyid(acl.grantor) = current_user
      AND relation.relname <> ALL (:own)
      AND NOT EXISTS (SELECT FROM pg_depend AS dependency JOIN pg_class AS owner ON owner.oid = dependency.refobjid
                      WHERE dependency.objid = relation.oid AND dependency.deptype IN ('a', 'i')
                        AND owner.relname = ANY (:own))
    GROUP BY relation.relname, relation.relkind
) AS granted
WHERE privileges = CASE relkind WHEN 'S' THEN ARRAY['USAGE'] ELSE ARRAY['DELETE', 'INSERT', 'SELECT', 'UPDATE'] END
""")

logger = logging.getLogger(__name__)


def are_apart(settings: Settings) -> bool:
    """Return whether the application signs in as another role than the one that migrates."""
    application, owner = settings.database_url, settings.migration_database_url
    return not is_embedded(owner) and bool(application.username) and application.username != owner.username


def is_fit(connection: Connection, settings: Settings) -> bool:
    """Return whether the application's role exists and may use the application's tables."""
    if not connection.scalar(EXISTS, {'role': settings.database_url.username}):
        return False
    if settings.migration_login_group and not _belongs(connection, settings):
        return False
    return not any(_missing_grants(connection, settings))


def ensure(connection: Connection, settings: Settings) -> None:
    """Make the application's role if it is missing, grant its privileges, and revoke any excess."""
    if not connection.scalar(EXISTS, {'role': settings.database_url.username}):
        _create(connection, settings)
    if settings.migration_login_group and not _belongs(connection, settings):
        _join(connection, settings)
    grant(connection, settings)
    _revoke_excess(connection, settings)


def grant(connection: Connection, settings: Settings) -> None:
    """Grant the privileges that the role lacks: to change rows of its own tables, and to read the schema's record."""
    role = sql.Identifier(str(settings.database_url.username))
    for privileges, kind, name in list(_missing_grants(connection, settings)):
        statement = sql.SQL(f'GRANT {privileges} ON {kind} {{}} TO {{}}').format(sql.Identifier(name), role)
        try:
            _execute(connection, statement)
        except DBAPIError as error:
            if kind_of(error) is not Kind.FINAL:
                raise
            raise SchemaError(f'the role {settings.database_url.username} cannot be granted {privileges} on '
                              f'{kind.lower()} {name}: {describe(error)}') from error


def _missing_grants(connection: Connection, settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield the privileges that the application's role lacks, each with the kind and the name of its object."""
    role = {'role': settings.database_url.username}
    if not connection.scalar(MAY_LOOK, role):
        yield 'USAGE', 'SCHEMA', str(connection.scalar(text('SELECT current_schema()')))
    for table in sorted(OWN_TABLES.keys() & tables.table_names(connection)):
        grantee = {**role, 'table': table}
        privileges = list(connection.scalars(LACKING, {**grantee, 'privileges': ' '.join(OWN_TABLES[table])}))
        if privileges:
            yield ', '.join(privileges), 'TABLE', table
        for sequence in connection.scalars(SEQUENCES, grantee) if OWN_TABLES[table] == CHANGE else ():
            yield 'USAGE', 'SEQUENCE', sequence


def _revoke_excess(connection: Connection, settings: Settings) -> None:
    role = settings.database_url.username
    for name, kind in list(connection.execute(EXCESS, {'role': role, 'own': sorted(OWN_TABLES)})):
        relation = 'SEQUENCE' if kind == 'S' else 'TABLE'
        logger.info('revoking the privileges of the role %s on the %s %s of another application', role,
                    relation.lower(), name)
        _execute(connection, sql.SQL(f'REVOKE ALL ON {relation} {{}} FROM {{}}').format(
            sql.Identifier(name), sql.Identifier(str(role))))


def _create(connection: Connection, settings: Settings) -> None:
    role = str(settings.database_url.username)
    statement = sql.SQL('CREATE ROLE {} LOGIN').format(sql.Identifier(role))
    password = _password(settings)
    if password:
        # The server gets the verifier of the password only, so none of its logs can hold the password.
        verifier = extensions.encrypt_password(password, role, _driver(connection), 'scram-sha-256')
        statement += sql.SQL(' PASSWORD {}').format(sql.Literal(verifier))
    try:
        _execute(connection, statement)
    except DBAPIError as error:
        # The cause is dropped, because its text would show the statement.
        raise SchemaError(f'the role {role} cannot be made: {describe(error)}') from None


def _belongs(connection: Connection, settings: Settings) -> bool:
    membership = {'role': settings.database_url.username, 'login_group': settings.migration_login_group}
    return bool(connection.scalar(BELONGS, membership))


def _join(connection: Connection, settings: Settings) -> None:
    role, group = str(settings.database_url.username), str(settings.migration_login_group)
    try:
        _execute(connection, sql.SQL('GRANT {} TO {}').format(sql.Identifier(group), sql.Identifier(role)))
    except DBAPIError as error:
        raise SchemaError(f'MIGRATION_LOGIN_GROUP={group}: the role {role} cannot be made a member of it: '
                          f'{describe(error)}') from None


def _password(settings: Settings) -> str | None:
    # With a login group the file holds a token, which is valid for minutes.
    if settings.migration_login_group:
        return None
    if settings.database_password_file:
        credentials = passwordfile.read(settings.database_password_file)
        # If the file names another role, the application signs in as that one, and this role gets no password.
        return credentials.password if credentials.user in (None, settings.database_url.username) else None
    return settings.database_url.password


def _execute(connection: Connection, statement: sql.Composable) -> None:
    connection.exec_driver_sql(statement.as_string(_driver(connection)).replace('%', '%%'))


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection
