"""Settings are read once, and a bad one ends the start with its name, its value and the remedy."""

from pathlib import Path
import re
from typing import Any

import pytest

from tests.support.server import flask, KEY
from visitors import libpq, postgresql
from visitors.engines import engine_options
from visitors.errors import SettingsError
from visitors.schema.sessions import startup_options
from visitors.settings import NAMES, Settings

URL = 'postgresql://app:hunter2@db.example:5432/visitors'  # pragma: allowlist secret
POSTGRESQL = {'DATABASE_URL': URL, 'VISITOR_KEY': KEY}


def load(root: Path, **values: str) -> Settings:
    return Settings.from_environ(values, root)


def test_without_any_setting_a_file_beside_the_code_is_the_database(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.database_url.database == str(tmp_path / 'data' / 'visitors.sqlite3')
    assert settings.kept_key_file == tmp_path / 'data' / 'visitor.key'
    assert (settings.host, settings.port, settings.trusted_proxies) == ('127.0.0.1', 8000, 0)
    assert settings.migration_database_url == settings.database_url


@pytest.mark.parametrize('scheme', ['postgres', 'postgresql', 'postgresql+psycopg2'])
def test_every_spelling_of_postgresql_means_the_driver_that_is_shipped(tmp_path: Path, scheme: str) -> None:
    settings = load(tmp_path, DATABASE_URL=f'{scheme}://app@db.example/visitors', VISITOR_KEY=KEY)
    assert settings.database_url.drivername == 'postgresql+psycopg2'


@pytest.mark.parametrize(('name', 'value', 'says'), [
    ('DATABASE_URL', 'mysql://db/visitors', "the scheme 'mysql' is not supported; use postgresql:// or sqlite:///"),
    ('DATABASE_URL', 'visitors', 'cannot be read as a URL; use postgresql://USER:PASSWORD@HOST:5432/NAME or sqlite:'),
    ('DATABASE_URL', 'sqlite:visitors.db', 'cannot be read as a URL'),
    ('DATABASE_URL', 'sqlite://visitors.db', 'an SQLite file has no host, user or parameters'),
    ('DATABASE_URL', 'sqlite:////tmp/visitors.db?timeout=1', 'an SQLite file has no host, user or parameters'),
    ('DATABASE_URL', 'postgresql://db:0/visitors', '0 is no port; use a whole number from 1 to 65535'),
    ('DATABASE_URL', 'postgresql://a%00b@db/visitors', 'holds a control character'),
    ('DATABASE_URL', 'postgresql://d b/visitors', 'its host is neither a name nor an address'),
    ('DATABASE_URL', 'postgresql://db/v?options=-cstatement_timeout%3D1', 'sets statement_timeout; remove it from'),
    ('DATABASE_URL', 'postgresql://db/v?options=--lock-timeout%3D1', 'the application itself sets lock_timeout'),
    ('DATABASE_URL', 'postgresql://db/v?options=-d3', 'options may hold only -cNAME=VALUE'),
    ('DATABASE_URL', 'postgresql://db/v?application_name=a', 'application_name is set by the application itself'),
    ('DATABASE_URL', 'postgresql://db/v?connect_timeout=9', 'connect_timeout is set by the application itself'),
    ('DATABASE_URL', 'postgresql://db/v?keepalives_idle=9', 'keepalives_idle is set by the application itself'),
    ('DATABASE_URL', 'postgresql://db/v?sslmod=require', 'sslmod is not a connection parameter'),
    ('DATABASE_URL', 'postgresql://db/v?service=x', 'service is not supported'),
    ('DATABASE_URL', 'postgresql://db/v?host=other', 'the host appears before and after the question mark'),
    ('DATABASE_URL', 'postgresql://db/v?user=x', 'user belongs before the question mark'),
    ('DATABASE_URL', 'postgresql://db/v?sslmode=a&sslmode=b', 'sslmode appears twice'),
    ('USER_NAME', 'caf\udce9', 'USER_NAME is not UTF-8'),
    ('VISITOR_KEY', '\udce9' * 32, 'VISITOR_KEY is not UTF-8'),
    ('DATABASE_PASSWORD_FILE', f'/{"n" * 300}', 'File name too long; put the password into it'),
    ('DATABASE_PASSWORD_FILE', '/', 'DATABASE_PASSWORD_FILE=/: Is a directory'),
    ('DATABASE_URL', 'postgresql+psycopg://db/visitors', "the scheme 'postgresql+psycopg' is not supported"),
    ('DATABASE_URL', 'postgresql://app@db:port/visitors', 'cannot be read as a URL'),
    ('DATABASE_URL', 'postgresql://app@db.example', 'names no database; end it with /NAME'),
    ('DATABASE_URL', 'sqlite://', 'keeps nothing; name a file'),
    ('DATABASE_URL', 'sqlite:///:memory:', 'keeps nothing; name a file'),
    ('DATABASE_PASSWORD_FILE', '/no/such/file', 'DATABASE_PASSWORD_FILE=/no/such/file: no such file'),
    ('MIGRATION_DATABASE_PASSWORD_FILE', '/no/file', 'MIGRATION_DATABASE_PASSWORD_FILE=/no/file: no such file'),
    ('MIGRATION_DATABASE_URL', 'postgresql://owner@db/other', 'another database than DATABASE_URL'),
    ('VISITOR_KEY', 'short', 'VISITOR_KEY: a key has 32 to 64 bytes, this one has 5; make one with'),
    ('VISITOR_KEY', 'x' * 65, 'VISITOR_KEY: a key has 32 to 64 bytes, this one has 65; make one with'),
    ('VISITOR_KEY_FILE', '/no/such/key', 'VISITOR_KEY_FILE=/no/such/key: No such file or directory; make one with'),
    ('VISITOR_KEY_FILE', '/', 'VISITOR_KEY_FILE=/: Is a directory'),
    ('TRUSTED_PROXIES', '-1', 'TRUSTED_PROXIES=-1: use a whole number from 0 to 10'),
    ('TRUSTED_PROXIES', '11', 'TRUSTED_PROXIES=11: use a whole number from 0 to 10'),
    ('TRUSTED_PROXIES', 'one', 'TRUSTED_PROXIES=one: use a whole number from 0 to 10'),
    ('TRUSTED_PROXIES', '1.5', 'TRUSTED_PROXIES=1.5: use a whole number'),
    ('TRUSTED_PROXIES', '١', 'TRUSTED_PROXIES=١: use a whole number'),
    ('URL_PREFIX', 'visitors', 'URL_PREFIX=visitors: use a path of letters, digits and . _ ~ -, such as /visitors'),
    ('URL_PREFIX', '//evil.example', 'URL_PREFIX=//evil.example: use a path'),
    ('URL_PREFIX', '/a/../b', 'URL_PREFIX=/a/../b: use a path'),
    ('PUBLIC_URL', 'visitors.example.org', 'PUBLIC_URL=visitors.example.org: use http or https, a host, and a port'),
    ('PUBLIC_URL', 'ftp://a.example', 'PUBLIC_URL=ftp://a.example: use http or https'),
    ('PUBLIC_URL', 'https://', 'PUBLIC_URL=https://: use http or https'),
    ('PUBLIC_URL', 'https://me:word@a.example',  # pragma: allowlist secret
     'PUBLIC_URL=https://...@a.example: use http or https'),
    ('PUBLIC_URL', 'https://a.example/?x', 'PUBLIC_URL=https://a.example/?x: use http or https'),
    ('PUBLIC_URL', 'https://a.example/v', 'its path is not URL_PREFIX, which is unset; set both to the same path'),
    ('TIME_ZONE', 'Mars/Olympus', "TIME_ZONE='Mars/Olympus': no such time zone; use UTC or an IANA name"),
    ('TIME_ZONE', 'CET', "TIME_ZONE='CET': no such time zone"),
    ('TIME_ZONE', 'localtime', "TIME_ZONE='localtime': no such time zone"),
    ('TIME_ZONE', 'right/UTC', "TIME_ZONE='right/UTC': no such time zone"),
    ('TIME_ZONE', '../../etc/passwd', 'no such time zone'),
    ('TIME_ZONE', 'Europe/', 'no such time zone'),
    ('TIME_ZONE', "Europe/Berlin'", 'no such time zone'),
    ('PORT', '65536', 'PORT=65536: use a whole number from 0 to 65535'),
    ('PORT', '99999999999999999999', 'PORT=99999999999999999999: use a whole number from 0 to 65535'),
    ('HOST', 'a b', 'HOST=a b: use an address or a name of this machine'),
    ('HOST', 'http://a', 'HOST=http://a: use an address or a name of this machine'),
    ('HOST', '127.0.0.1:80', 'HOST=127.0.0.1:80: use an address or a name of this machine'),
    ('HOST', '[::1', 'HOST=[::1: use an address or a name of this machine'),
    ('HOST', ':::', 'HOST=:::: use an address or a name of this machine'),
    ('WORKERS', '0', 'WORKERS=0: use a whole number from 1 to 64'),
    ('THREADS', '65', 'THREADS=65: use a whole number from 1 to 64'),
    ('DEPLOY_ID', 'a b', "DEPLOY_ID='a b': use up to 128 letters, digits and"),
    ('INSTANCE_ID', 'i' * 129, 'use up to 128 letters, digits and'),
])
def test_a_bad_value_is_refused_with_name_value_and_advice(tmp_path: Path, name: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, **{name: value})
    assert name in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize('name', ['DATABASE_URL', 'MIGRATION_DATABASE_URL'])
@pytest.mark.parametrize('url', [
    'postgresql://app:hunter2@db:port/visitors', 'postgresql://app:hunter2@db.example',  # pragma: allowlist secret
    'postgresql://app:hunter2@db.example/other',  # pragma: allowlist secret
    'postgresql://app:p@hunter2@db.example/visitors',  # pragma: allowlist secret
    'postgresql://app:p@hunter2/w@db.example/visitors',  # pragma: allowlist secret
    'postgresql://app:p@hunter2?w@db.example/visitors',  # pragma: allowlist secret
    'postgresql://app:p@hunter2#w@db.example/visitors',  # pragma: allowlist secret
    'postgresql://app:p@db.example/visitors?hunter2=x',  # pragma: allowlist secret
    'postgresql://app:p@db.example/other?sslpassword=hunter2',  # pragma: allowlist secret
    'postgresql://db.example/visitors?password=hunter2',  # pragma: allowlist secret
    'postgresql:app:hunter2@db.example/visitors',  # pragma: allowlist secret
    'host=db.example user=app password=hunter2', 'app:hunter2@db.example/visitors',  # pragma: allowlist secret
    'postgresql://app:p%00hunter2@db.example/visitors',  # pragma: allowlist secret
    'mysql://app:hunter2@db.example/visitors',  # pragma: allowlist secret
])
def test_no_message_shows_a_password(tmp_path: Path, name: str, url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, **{'VISITOR_KEY_FILE': '/no/file', 'DATABASE_URL': 'postgresql://db/visitors', name: url})
    assert 'hunter2' not in str(caught.value)


def test_the_settings_own_text_shows_no_secret(tmp_path: Path) -> None:
    text = repr(load(tmp_path, **POSTGRESQL, MIGRATION_DATABASE_URL='postgresql://o:hunter3@db.example/visitors'))
    assert 'hunter' not in text
    assert KEY not in text


def test_postgresql_without_a_key_is_refused_and_told_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"VISITOR_KEY or VISITOR_KEY_FILE must be set .* python3 -c 'import sec"):
        load(tmp_path, DATABASE_URL='postgresql://db/visitors')


def test_two_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match='both set; keep one'):
        load(tmp_path, VISITOR_KEY=KEY, VISITOR_KEY_FILE='/etc/hostname')


def test_a_key_file_holds_the_key_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / 'key'
    file.write_text(KEY + '\n', encoding='utf-8')
    assert load(tmp_path, VISITOR_KEY_FILE=str(file)).visitor_key == KEY.encode()


def test_a_key_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / 'key'
    file.write_bytes(b'\xff' * 40)
    with pytest.raises(SettingsError, match='not text'):
        load(tmp_path, VISITOR_KEY_FILE=str(file))


@pytest.mark.parametrize('length', [32, 64])
def test_the_shortest_and_the_longest_key_are_taken(tmp_path: Path, length: int) -> None:
    assert load(tmp_path, VISITOR_KEY='x' * length).visitor_key == b'x' * length


def test_an_empty_setting_is_an_unset_one(tmp_path: Path) -> None:
    assert load(tmp_path, PORT='', USER_NAME='  ').port == 8000


@pytest.mark.parametrize(('name', 'edges'), [
    ('TRUSTED_PROXIES', (0, 10)), ('PORT', (0, 65535)), ('WORKERS', (1, 64)), ('THREADS', (1, 64)),
])
def test_the_edges_of_a_range_are_taken(tmp_path: Path, name: str, edges: tuple[int, int]) -> None:
    for edge in edges:
        value: Any = getattr(load(tmp_path, **{name: str(edge)}), name.lower())
        assert value == edge


@pytest.mark.parametrize(('url', 'prefix', 'public'), [
    ('', '', None),
    ('https://visitors.example.org', '', 'https://visitors.example.org/'),
    ('http://[2001:db8::1]:8000/', '', 'http://[2001:db8::1]:8000/'),
    ('https://example.org', '/v', 'https://example.org/v/'),
    ('https://example.org/v/', '/v/', 'https://example.org/v/'),
])
def test_the_public_address_ends_with_the_path_of_the_page(
        tmp_path: Path, url: str, prefix: str, public: str | None) -> None:
    assert load(tmp_path, PUBLIC_URL=url, URL_PREFIX=prefix).public_url == public


@pytest.mark.parametrize('url', ['javascript:alert(1)', 'ftp://example.org', 'example.org', 'https://', 'http://[x'])
def test_a_user_url_that_is_not_http_gives_no_link(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, USER_URL=url).user_url is None


@pytest.mark.parametrize('url', ['http://example.org', 'https://example.org/~me?a=b'])
def test_an_http_user_url_is_kept(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, USER_URL=url).user_url == url


def test_migrations_may_use_another_user_with_another_password(tmp_path: Path) -> None:
    files = [tmp_path / 'app', tmp_path / 'owner']
    for file in files:
        file.write_text('secret', encoding='utf-8')
    settings = load(
        tmp_path, **POSTGRESQL, MIGRATION_DATABASE_URL='postgresql://owner@db.example:5432/visitors',
        DATABASE_PASSWORD_FILE=str(files[0]), MIGRATION_DATABASE_PASSWORD_FILE=str(files[1]))
    assert settings.migration_database_url.username == 'owner'
    assert settings.database_password_file == files[0]
    assert settings.migration_database_password_file == files[1]
    assert settings.database_password_socket is None


def test_without_a_user_of_their_own_migrations_use_the_applications_password_file(tmp_path: Path) -> None:
    file = tmp_path / 'app'
    file.write_text('secret', encoding='utf-8')
    settings = load(tmp_path, **POSTGRESQL, DATABASE_PASSWORD_FILE=str(file))
    assert settings.migration_database_password_file == file


def test_a_file_beside_the_code_gives_settings_below_the_environments(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / '.env').write_text('PORT=8111\nTHREADS=7\n', encoding='utf-8')
    monkeypatch.delenv('FLASK_SKIP_DOTENV', raising=False)
    monkeypatch.setenv('PORT', '8222')
    settings = Settings.load(tmp_path)
    assert (settings.port, settings.threads) == (8222, 7)


@pytest.mark.parametrize(('address', 'host'), [
    ('0.0.0.0', '0.0.0.0'), ('localhost', 'localhost'), ('db-1.example', 'db-1.example'), ('::1', '::1'),
    ('[::1]', '::1'), ('[::]', '::'),
])
def test_an_address_to_listen_on_may_be_of_either_kind_or_a_name(tmp_path: Path, address: str, host: str) -> None:
    assert load(tmp_path, HOST=address).host == host


def test_a_command_ends_with_one_line_for_a_bad_setting(sqlite_url: str) -> None:
    result = flask(sqlite_url, 'check-counts', TRUSTED_PROXIES='many')
    assert result.returncode == 1
    assert result.stderr.strip() == 'bad setting: TRUSTED_PROXIES=many: use a whole number from 0 to 10'


@pytest.mark.parametrize('url', [
    'postgresql://app:p%40ss@db.example/visitors',  # pragma: allowlist secret
    'postgresql://app:p#?/:w@db.example/visitors',  # pragma: allowlist secret
    'postgresql://app@[::1]:5432/visitors', 'postgresql://app@10.0.0.1/visitors', 'postgresql:///visitors?host=/run',
    'postgresql://app@db_1.example/visitors?sslmode=verify-full&sslrootcert=/ca.pem&target_session_attrs=read-write',
])
def test_a_url_that_is_clear_is_taken(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, DATABASE_URL=url, VISITOR_KEY=KEY).database_url.database == 'visitors'


@pytest.mark.parametrize('name', ['PGOPTIONS', 'PGSERVICE', 'PGHOSTADDR'])
def test_a_variable_that_libpq_would_mix_with_the_url_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=f'^{name} is set, and it would (?:be|lead)'):
        load(tmp_path, **POSTGRESQL, **{name: 'x'})
    assert load(tmp_path, **{name: 'x'}), 'the embedded database does not know it'


def test_every_setting_that_must_be_text_is_one_that_exists() -> None:
    fields = {name.upper() for name in Settings.__dataclass_fields__} - {'KEPT_KEY_FILE'}
    assert set(NAMES) == fields | {'VISITOR_KEY_FILE'}


def test_what_the_application_sets_itself_is_what_a_url_may_not_set(tmp_path: Path) -> None:
    arguments = engine_options(load(tmp_path, **POSTGRESQL))['connect_args']
    ours = {*startup_options(60), *re.findall('-c ([a-z_]+)=', arguments['options'])}
    assert 'statement_timeout' in ours, 'this test looks in the wrong place'
    assert ours <= libpq.OWN_OPTIONS
    assert {*arguments, *postgresql.LIMITS} - {'options'} <= libpq.OWN_PARAMETERS


@pytest.mark.parametrize(('content', 'says'), [
    ('USER_NAME=Jos\u00e9\n'.encode('latin-1'), ' is not UTF-8 (byte 13); save it in that encoding'),
    ('PORT=8111\n'.encode('utf-16'), ' is not UTF-8 (byte 0); save it in that encoding'),
    ('PORT=8111\n'.encode('utf-16-le'), ' is not UTF-8, but probably UTF-16; save it in UTF-8'),
    (b'PORT=8111\nTHREADS=7\n= 8\n', ', line 3: use NAME=VALUE, or # before a comment'),
])
def test_a_file_beside_the_code_that_cannot_be_obeyed_is_refused(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, says: str) -> None:
    (tmp_path / '.env').write_bytes(content)
    monkeypatch.delenv('FLASK_SKIP_DOTENV', raising=False)
    with pytest.raises(SettingsError) as caught:
        Settings.load(tmp_path)
    assert str(caught.value) == f'{tmp_path / ".env"}{says}'


def test_a_folder_in_the_place_of_the_file_beside_the_code_is_refused(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / '.env').mkdir()
    monkeypatch.delenv('FLASK_SKIP_DOTENV', raising=False)
    with pytest.raises(SettingsError, match='Is a directory; make it a readable file, or remove it'):
        Settings.load(tmp_path)


def test_a_file_beside_the_code_may_begin_with_the_mark_of_its_encoding(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / '.env').write_bytes('PORT=8111\r\nTHREADS=7\r\n'.encode('utf-8-sig'))
    monkeypatch.delenv('FLASK_SKIP_DOTENV', raising=False)
    settings = Settings.load(tmp_path)
    assert (settings.port, settings.threads) == (8111, 7)
