"""The application's role: made and kept fit by the leader, allowed to change rows and nothing else."""

import base64
from collections.abc import Iterator
from contextlib import closing, contextmanager
import hashlib
import hmac
from pathlib import Path
import re
import shutil

import psycopg2
from psycopg2.errors import InsufficientPrivilege
import pytest
from sqlalchemy import create_engine, make_url, NullPool, text
from sqlalchemy.exc import OperationalError

from tests.support.booting import head, Instances, verdict
from tests.support.postgresql import execute, PostgresServer, rows, value
from tests.support.revisions import add_revision, make_release
from tests.support.server import flask, ROOT
from visitors.schema import Fitness, State
from visitors.schema.lock import KEY
from visitors.schema.revisions import CodeRevisions
from visitors.schema.sessions import Sessions
from visitors.settings import Settings

PASSWORD = 'a:secret/of%the$application'  # pragma: allowlist secret


@pytest.fixture
def role(postgresql: PostgresServer, postgresql_url: str) -> Iterator[str]:
    """Give the name of a role that does not exist yet; roles belong to the whole server."""
    name = f'app "{make_url(postgresql_url).database}"'
    yield name
    execute(postgresql_url, f'DROP OWNED BY "{name.replace(chr(34), chr(34) * 2)}"')
    execute(postgresql_url, f'DROP ROLE "{name.replace(chr(34), chr(34) * 2)}"')


def test_the_applications_role_changes_rows_and_nothing_else(postgresql_url: str, role: str, tmp_path: Path) -> None:
    url = url_of(postgresql_url, role)
    result = flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=postgresql_url,
                   DATABASE_PASSWORD_FILE=str(password_file(tmp_path)))
    assert result.returncode == 0, result.stderr

    execute(url, "INSERT INTO visitors (id, last_day) VALUES ('00000000-0000-0000-0000-000000000001', '2026-01-01')")
    execute(url, 'UPDATE visitors SET visits = 2')
    execute(url, 'INSERT INTO visitor (ip, visits) VALUES (NULL, 1)')
    execute(url, 'DELETE FROM visitors')
    for forbidden in ('CREATE TABLE mine (id integer)', 'DROP TABLE visitors', 'ALTER TABLE days ADD x integer',
                      'DELETE FROM alembic_version', 'UPDATE schema_revision_log SET retired = true',
                      "INSERT INTO migration_attempt (deploy_id, status, attempt) VALUES ('x', 'failed', 1)"):
        with pytest.raises(InsufficientPrivilege):
            execute(url, forbidden)


def test_a_role_that_others_sign_in_becomes_their_member_and_has_no_password(
        postgresql_url: str, role: str, tmp_path: Path) -> None:
    url, file = url_of(postgresql_url, role), str(password_file(tmp_path))
    result = flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=postgresql_url, DATABASE_PASSWORD_FILE=file,
                   MIGRATION_LOGIN_GROUP='a/login:group')
    assert result.returncode == 20, result.stderr
    assert 'MIGRATION_LOGIN_GROUP=a/login:group: the role' in result.stderr

    execute(postgresql_url, 'CREATE ROLE "a/login:group"')
    try:
        result = flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=postgresql_url, DATABASE_PASSWORD_FILE=file,
                       MIGRATION_LOGIN_GROUP='a/login:group', DEPLOY_ID='next')
        assert result.returncode == 0, result.stderr
        member = "SELECT pg_has_role(%s, 'a/login:group', 'member')"
        assert value(postgresql_url, member, [role]) is True
        assert value(postgresql_url, 'SELECT rolpassword FROM pg_authid WHERE rolname = %s', [role]) is None
    finally:
        execute(postgresql_url, 'DROP ROLE "a/login:group"')


def test_the_applications_role_may_read_whether_its_code_fits(postgresql_url: str, role: str) -> None:
    url = url_of(postgresql_url, role)
    flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=postgresql_url)

    engine = create_engine(make_url(url).set(drivername='postgresql+psycopg2'), poolclass=NullPool)
    with engine.connect() as connection:
        assert Fitness.read(connection).state is State.READY


def test_the_role_signs_in_with_its_password_which_appears_nowhere(
        postgresql: PostgresServer, postgresql_url: str, role: str, tmp_path: Path) -> None:
    execute(postgresql_url, "ALTER DATABASE {} SET log_statement = 'all'".format(make_url(postgresql_url).database))
    result = flask(url_of(postgresql_url, role), 'schema', 'ready', MIGRATION_DATABASE_URL=postgresql_url,
                   DATABASE_PASSWORD_FILE=str(password_file(tmp_path)))

    verifier = value(postgresql_url, 'SELECT rolpassword FROM pg_authid WHERE rolname = %s', [role])
    assert is_verifier_of(str(verifier), PASSWORD)
    assert 'CREATE ROLE' in postgresql.log
    assert PASSWORD not in postgresql.log + result.stderr + result.stdout


def test_a_role_that_exists_keeps_its_password(postgresql_url: str, role: str, tmp_path: Path) -> None:
    with psycopg2.connect(postgresql_url) as connection:
        connection.cursor().execute('CREATE ROLE "{}" LOGIN PASSWORD %s'.format(role.replace('"', '""')), ['older'])
    connection.close()

    flask(url_of(postgresql_url, role), 'schema', 'ready', MIGRATION_DATABASE_URL=postgresql_url,
          DATABASE_PASSWORD_FILE=str(password_file(tmp_path)))

    verifier = value(postgresql_url, 'SELECT rolpassword FROM pg_authid WHERE rolname = %s', [role])
    assert is_verifier_of(str(verifier), 'older')


def test_each_revisions_tables_are_usable_as_soon_as_the_revision_is(
        instances: Instances, postgresql_url: str, role: str, tmp_path: Path) -> None:
    release = Path(shutil.copytree(ROOT / 'migrations', tmp_path / 'new', ignore=shutil.ignore_patterns('*.pyc')))
    last = CodeRevisions.load().head
    add_revision(release, 'fails', last, 'raise RuntimeError("the revisions before are what counts here")')

    boot = instances.boot(url_of(postgresql_url, role), release, MIGRATION_DATABASE_URL=postgresql_url)

    assert boot.ended() == 20
    assert head(postgresql_url) == last
    assert rows(url_of(postgresql_url, role), 'SELECT * FROM visitors, days, visitor') == []


def test_tables_of_others_in_the_schema_are_neither_needed_nor_touched(
        postgresql_url: str, role: str, tmp_path: Path) -> None:
    url = url_of(postgresql_url, role)
    with others(postgresql_url) as other, owner_of(postgresql_url) as owner:
        before = flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=owner, DEPLOY_ID='before')
        assert before.returncode == 0, before.stderr
        execute(other, 'CREATE TABLE theirs (id serial, text text)')
        execute(owner, 'CREATE TABLE "the owner\'s" (id serial, text text)')

        for deploy, lacking in (('fits', ''), ('mends', 'REVOKE DELETE ON visitors FROM')):
            if lacking:
                execute(owner, f'{lacking} "{role.replace(chr(34), chr(34) * 2)}"')
            result = flask(url, 'schema', 'ready', '--timeout', '5', MIGRATION_DATABASE_URL=owner, DEPLOY_ID=deploy)
            assert result.returncode == 0, result.stderr

        execute(url, 'DELETE FROM visitors')
        for table in ('theirs', '"the owner\'s"'):
            for forbidden in (f'SELECT * FROM {table}', f'DELETE FROM {table}'):
                with pytest.raises(InsufficientPrivilege):
                    execute(url, forbidden)
        with pytest.raises(InsufficientPrivilege):
            execute(url, "SELECT nextval('theirs_id_seq')")


def test_privileges_of_an_earlier_release_on_tables_of_others_are_revoked(postgresql_url: str, role: str) -> None:
    url, name = url_of(postgresql_url, role), '"{}"'.format(role.replace('"', '""'))
    flask(postgresql_url, 'schema', 'ready')
    execute(postgresql_url, 'CREATE TABLE theirs (id serial, text text)')
    execute(postgresql_url, 'CREATE TABLE shared (id integer)')
    execute(postgresql_url, f'CREATE ROLE {name} LOGIN')
    # The grants of an earlier release on every table of the schema, and a grant by a person on one table.
    execute(postgresql_url, f'GRANT SELECT, INSERT, UPDATE, DELETE ON theirs TO {name}')
    execute(postgresql_url, f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}')
    execute(postgresql_url, f'GRANT SELECT ON shared TO {name}')

    result = flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=postgresql_url)

    assert result.returncode == 0, result.stderr
    assert 'revoking the privileges' in result.stderr
    for forbidden in ('SELECT * FROM theirs', "SELECT nextval('theirs_id_seq')", 'DELETE FROM shared'):
        with pytest.raises(InsufficientPrivilege):
            execute(url, forbidden)
    assert rows(url, 'SELECT * FROM shared') == []
    execute(url, 'INSERT INTO visitor (ip, visits) VALUES (NULL, 1)')


def test_a_table_of_the_application_that_another_role_owns_is_named_and_not_a_traceback(
        postgresql_url: str, role: str) -> None:
    url = url_of(postgresql_url, role)
    with others(postgresql_url) as other, owner_of(postgresql_url) as owner:
        assert flask(owner, 'schema', 'ready').returncode == 0
        execute(postgresql_url, f'ALTER TABLE days OWNER TO {make_url(other).username}')

        result = flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=owner)

        assert result.returncode == 3, result.stderr
        assert re.search('cannot be granted SELECT, INSERT, UPDATE, DELETE on table days: Insuffi', result.stderr)
        assert 'Traceback' not in result.stderr
        execute(postgresql_url, 'ALTER TABLE days OWNER TO owner')


def test_a_new_role_on_a_schema_that_fits_already_is_made_too(postgresql_url: str, role: str) -> None:
    flask(postgresql_url, 'schema', 'ready', DEPLOY_ID='before')
    url = url_of(postgresql_url, role)

    result = flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=postgresql_url, DEPLOY_ID='after')

    assert result.returncode == 0, result.stderr
    assert value(url, 'SELECT count(*) FROM visitors') == 0
    assert value(postgresql_url, 'SELECT count(*) FROM migration_attempt') == 1


def test_a_role_that_lacks_a_privilege_gets_it_back(postgresql_url: str, role: str) -> None:
    url = url_of(postgresql_url, role)
    flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=postgresql_url)
    execute(postgresql_url, 'REVOKE DELETE ON visitors FROM "{}"'.format(role.replace('"', '""')))

    result = flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=postgresql_url)

    assert result.returncode == 0, result.stderr
    execute(url, 'DELETE FROM visitors')


def test_an_instance_needs_no_lock_where_schema_and_role_are_fit(postgresql_url: str, role: str) -> None:
    url = make_url(url_of(postgresql_url, role)).set(password=PASSWORD).render_as_string(hide_password=False)
    flask(url, 'schema', 'ready', MIGRATION_DATABASE_URL=postgresql_url)
    verifier = value(postgresql_url, 'SELECT rolpassword FROM pg_authid WHERE rolname = %s', [role])
    assert is_verifier_of(str(verifier), PASSWORD)
    with closing(psycopg2.connect(postgresql_url)) as leader:
        leader.cursor().execute('SELECT pg_advisory_lock(%s)', [KEY])

        result = flask(url, 'schema', 'ready', '--timeout', '0', MIGRATION_DATABASE_URL=postgresql_url)

    assert result.returncode == 0, result.stderr


def test_an_owner_who_may_not_make_roles_fails_the_deploy_and_the_password_is_not_printed(
        instances: Instances, postgresql: PostgresServer, postgresql_url: str, tmp_path: Path) -> None:
    owner = f'owner_of_{make_url(postgresql_url).database}'
    execute(postgresql_url, f'CREATE ROLE {owner} LOGIN')
    execute(postgresql_url, f'ALTER SCHEMA public OWNER TO {owner}')

    boot = instances.boot(url_of(postgresql_url, 'nobody_yet'), make_release(tmp_path / 'new', 1),
                          MIGRATION_DATABASE_URL=url_of(postgresql_url, owner),
                          DATABASE_PASSWORD_FILE=str(password_file(tmp_path)))

    assert boot.ended() == 20, boot.text
    assert 'the role nobody_yet cannot be made: InsufficientPrivilege 42501' in boot.text
    assert 'SCRAM' not in boot.text
    assert PASSWORD not in boot.text
    assert verdict(postgresql_url) == ('failed', 1)


def test_each_connection_reads_the_owners_password_again(postgresql_url: str, tmp_path: Path) -> None:
    file = password_file(tmp_path)
    sessions = Sessions(Settings.from_environ({
        'DATABASE_URL': url_of(postgresql_url, 'nobody_yet'), 'VISITOR_KEY': 'k' * 32,
        'MIGRATION_DATABASE_URL': postgresql_url, 'MIGRATION_DATABASE_PASSWORD_FILE': str(file)}))
    with sessions.open():
        file.unlink()

    with pytest.raises(OperationalError, match=f'password file {file}: No such file'), sessions.open():
        pass
    password_file(tmp_path)
    with sessions.open() as connection:
        assert connection.scalar(text('SELECT current_user')) == 'owner'


def test_a_session_that_broke_is_not_replaced_by_one_without_the_lock(postgresql_url: str) -> None:
    sessions = Sessions(Settings.from_environ({'DATABASE_URL': postgresql_url, 'VISITOR_KEY': 'k' * 32}))
    with sessions.open() as connection:
        with pytest.raises(OperationalError):
            connection.execute(text('SELECT pg_terminate_backend(pg_backend_pid())'))
        connection.rollback()

        with pytest.raises(OperationalError, match='lost the session that holds the lock'):
            connection.execute(text('SELECT 1'))


@contextmanager
def others(url: str) -> Iterator[str]:
    """Give the URL of a database for a role that is neither the owner nor the application's."""
    with _role_of(url, f'others_{make_url(url).database}', 'LOGIN') as role_url:
        yield role_url


@contextmanager
def owner_of(url: str) -> Iterator[str]:
    """Give the URL of a database for an owner who is no superuser."""
    with _role_of(url, f'owner_{make_url(url).database}', 'LOGIN CREATEROLE') as role_url:
        yield role_url


@contextmanager
def _role_of(url: str, name: str, attributes: str) -> Iterator[str]:
    execute(url, f'CREATE ROLE {name} {attributes}')
    execute(url, f'GRANT ALL ON SCHEMA public TO {name} WITH GRANT OPTION')
    yield url_of(url, name)
    execute(url, f'DROP OWNED BY {name} CASCADE')
    execute(url, f'DROP ROLE {name}')


def url_of(url: str, role: str) -> str:
    """Return a database's URL for another role."""
    return make_url(url).set(username=role).render_as_string(hide_password=False)


def password_file(folder: Path) -> Path:
    """Return a file that holds the application's password."""
    path = folder / 'password'
    path.write_text(PASSWORD + '\n', encoding='ascii')
    return path


def is_verifier_of(verifier: str, password: str) -> bool:
    """Return whether the server admits a client with this password, by the rules of SCRAM-SHA-256."""
    _, rounds_and_salt, keys = verifier.split('$')
    rounds, salt = rounds_and_salt.split(':')
    salted = hashlib.pbkdf2_hmac('sha256', password.encode(), base64.b64decode(salt), int(rounds))
    stored = hashlib.sha256(hmac.digest(salted, b'Client Key', 'sha256')).digest()
    return base64.b64decode(keys.split(':')[0]) == stored
