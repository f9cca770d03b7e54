"""Settings are read once, and a bad one ends the start with its name, its value and what would do."""

from pathlib import Path
from typing import Any

import pytest

from tests.server import flask, KEY
from visitors.settings import Settings, SettingsError

URL = 'postgresql://app:hunter2@db.example:5432/visitors'  # pragma: allowlist secret
POSTGRESQL = {'DATABASE_URL': URL, 'VISITOR_KEY': KEY}


def load(root: Path, **given: str) -> Settings:
    return Settings.from_environ(given, root)


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
    ('DATABASE_URL', 'visitors', "the scheme 'visitors' is not supported"),
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


@pytest.mark.parametrize(('given', 'host'), [
    ('0.0.0.0', '0.0.0.0'), ('localhost', 'localhost'), ('db-1.example', 'db-1.example'), ('::1', '::1'),
    ('[::1]', '::1'), ('[::]', '::'),
])
def test_an_address_to_listen_on_may_be_of_either_kind_or_a_name(tmp_path: Path, given: str, host: str) -> None:
    assert load(tmp_path, HOST=given).host == host


def test_a_command_ends_with_one_line_for_a_bad_setting(sqlite_url: str) -> None:
    done = flask(sqlite_url, 'check-counts', TRUSTED_PROXIES='many')
    assert done.returncode == 1
    assert done.stderr.strip() == 'bad setting: TRUSTED_PROXIES=many: use a whole number from 0 to 10'
