"""Everything the application reads from its environment, read once and checked at the edge."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
import os
from pathlib import Path
import re
import socket
import sys
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv import dotenv_values
from sqlalchemy.engine import make_url, URL
from sqlalchemy.exc import ArgumentError

ROOT = Path(__file__).resolve().parent.parent
KEY_ADVICE = "make one with: python3 -c 'import secrets; print(secrets.token_hex(32))'"
KEY_BYTES = range(32, 65)  # BLAKE2b takes a key of 64 bytes at most; below 32 characters it can be guessed
DRIVERS = {
    'sqlite': 'sqlite',
    'postgres': 'postgresql+psycopg2',
    'postgresql': 'postgresql+psycopg2',
    'postgresql+psycopg2': 'postgresql+psycopg2',
}


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it, its value unless secret, and what would do."""


@dataclass(frozen=True)
class Settings:
    """The application's settings, each of them checked; secrets stay out of its text form."""

    database_url: URL
    database_password_file: Path | None
    database_password_socket: Path | None
    migration_database_url: URL
    migration_database_password_file: Path | None
    migration_login_group: str | None
    visitor_key: bytes | None = field(repr=False)
    kept_key_file: Path
    trusted_proxies: int
    time_zone: ZoneInfo
    url_prefix: str
    site_name: str
    user_name: str
    user_url: str | None
    host: str
    port: int
    workers: int
    threads: int
    deploy_id: str | None
    instance_id: str

    @classmethod
    def load(cls, root: Path = ROOT) -> 'Settings':
        """Return the settings of this process: its environment's, and below them those of a file .env by the code."""
        written = {} if os.environ.get('FLASK_SKIP_DOTENV') else dotenv_values(root / '.env')
        return cls.from_environ({**{name: value or '' for name, value in written.items()}, **os.environ}, root)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], root: Path = ROOT) -> 'Settings':
        """Return the settings that an environment describes; raise SettingsError for the first bad one."""
        given = {name: value.strip() for name, value in environ.items() if value.strip()}
        database_url = _database_url(given, 'DATABASE_URL', f'sqlite:///{root / "data" / "visitors.sqlite3"}')
        embedded = is_embedded(database_url)
        password_file = _password_file(given, 'DATABASE_PASSWORD_FILE')
        migrates_apart = 'MIGRATION_DATABASE_URL' in given
        migration_password_file = _password_file(given, 'MIGRATION_DATABASE_PASSWORD_FILE')
        return cls(
            database_url=database_url,
            database_password_file=password_file,
            database_password_socket=_path(given, 'DATABASE_PASSWORD_SOCKET'),
            migration_database_url=_migration_url(given, database_url),
            migration_database_password_file=migration_password_file if migrates_apart else password_file,
            migration_login_group=_label(given, 'MIGRATION_LOGIN_GROUP'),
            visitor_key=_visitor_key(given, embedded),
            kept_key_file=_kept_key_file(database_url, root),
            trusted_proxies=_integer(given, 'TRUSTED_PROXIES', 0, range(0, 11)),
            time_zone=_time_zone(given),
            url_prefix=_url_prefix(given),
            site_name=given.get('SITE_NAME', 'Visitors'),
            user_name=given.get('USER_NAME', ''),
            user_url=_user_url(given),
            host=_host(given),
            port=_integer(given, 'PORT', 8000, range(0, 65536)),
            workers=_integer(given, 'WORKERS', min(os.cpu_count() or 1, 8), range(1, 65)),
            threads=_integer(given, 'THREADS', 8, range(1, 65)),
            deploy_id=_label(given, 'DEPLOY_ID'),
            instance_id=_label(given, 'INSTANCE_ID') or socket.gethostname(),
        )


def load_or_exit() -> Settings:
    """Return the settings of this process, or end it with exit code 1 and a line that says which one is bad."""
    try:
        return Settings.load()
    except SettingsError as error:
        sys.exit(f'bad setting: {error}')


def is_embedded(url: URL) -> bool:
    """Return whether a database lives in a file of this machine instead of a server."""
    return url.get_backend_name() == 'sqlite'


def _database_url(given: Mapping[str, str], name: str, default: str) -> URL:
    text = given.get(name, default)
    scheme = text.partition(':')[0]
    if scheme not in DRIVERS:
        raise SettingsError(f'{name}: the scheme {scheme!r} is not supported; use postgresql:// or sqlite:///')
    try:
        url = make_url(text).set(drivername=DRIVERS[scheme])
    except (ArgumentError, ValueError):
        # The text may hold a password, so neither it nor the parser's own message is shown.
        raise SettingsError(f'{name} cannot be read as a URL; use {scheme}://USER:PASSWORD@HOST:5432/NAME') from None
    if is_embedded(url):
        return _embedded_url(name, url)

    if not url.database:
        raise SettingsError(f'{name} names no database; end it with /NAME')
    return url


def _embedded_url(name: str, url: URL) -> URL:
    if not url.database or url.database == ':memory:':
        raise SettingsError(f'{name}: {url} keeps nothing; name a file, as in sqlite:////var/lib/visitors.sqlite3')
    # An absolute path, because flask-sqlalchemy and a shell disagree on what a relative one starts from.
    return url.set(database=str(Path(url.database).absolute()))


def _migration_url(given: Mapping[str, str], database_url: URL) -> URL:
    if 'MIGRATION_DATABASE_URL' not in given:
        return database_url

    url = _database_url(given, 'MIGRATION_DATABASE_URL', '')
    where = (url.get_backend_name(), url.database)
    if where != (database_url.get_backend_name(), database_url.database):
        raise SettingsError(
            f'MIGRATION_DATABASE_URL names {url.render_as_string()}, which is another database than DATABASE_URL; '
            'only host, port, user and password may differ')
    return url


def _password_file(given: Mapping[str, str], name: str) -> Path | None:
    if name not in given:
        return None

    path = Path(given[name])
    if not path.is_file():
        raise SettingsError(f'{name}={given[name]}: no such file; put the password into it or unset {name}')
    return path


def _path(given: Mapping[str, str], name: str) -> Path | None:
    return Path(given[name]) if name in given else None


def _visitor_key(given: Mapping[str, str], embedded: bool) -> bytes | None:
    """Return the key of the address hash, or None where the embedded database keeps one beside itself."""
    if 'VISITOR_KEY' in given and 'VISITOR_KEY_FILE' in given:
        raise SettingsError('VISITOR_KEY and VISITOR_KEY_FILE are both set; keep one of them')
    if 'VISITOR_KEY' in given:
        return checked_key('VISITOR_KEY', given['VISITOR_KEY'])
    if 'VISITOR_KEY_FILE' in given:
        return _key_in_file(given['VISITOR_KEY_FILE'])
    if embedded:
        return None
    raise SettingsError(f'VISITOR_KEY or VISITOR_KEY_FILE must be set for PostgreSQL, always to the same key: without '
                        f'it addresses cannot be hashed, with another one every visitor is new; {KEY_ADVICE}')


def _key_in_file(path: str) -> bytes:
    try:
        text = Path(path).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'not text'
        raise SettingsError(f'VISITOR_KEY_FILE={path}: {reason}; {KEY_ADVICE}') from None
    return checked_key(f'VISITOR_KEY_FILE={path}', text.strip())


def checked_key(name: str, text: str) -> bytes:
    """Return a key's bytes; raise SettingsError, which never shows the key, unless it has 32 to 64 of them."""
    key = text.encode()
    if len(key) not in KEY_BYTES:
        raise SettingsError(f'{name}: a key has 32 to 64 bytes, this one has {len(key)}; {KEY_ADVICE}')
    return key


def _kept_key_file(database_url: URL, root: Path) -> Path:
    if is_embedded(database_url):
        return Path(database_url.database or '').with_name('visitor.key')
    return root / 'data' / 'visitor.key'


def _integer(given: Mapping[str, str], name: str, default: int, allowed: range) -> int:
    text = given.get(name, str(default))
    if not re.fullmatch(r'[0-9]{1,9}', text) or int(text) not in allowed:
        raise SettingsError(f'{name}={text}: use a whole number from {allowed[0]} to {allowed[-1]}')
    return int(text)


def _url_prefix(given: Mapping[str, str]) -> str:
    """Return the path below which a proxy publishes the application, without a slash at its end."""
    text = given.get('URL_PREFIX', '')
    path = text.rstrip('/')
    if not re.fullmatch(r'(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*', path):
        raise SettingsError(f'URL_PREFIX={text}: use a path of letters, digits and . _ ~ -, such as /visitors')
    return path


def _time_zone(given: Mapping[str, str]) -> ZoneInfo:
    """Return the time zone whose midnight begins a day.

    Names without a region are refused but for UTC: PostgreSQL reads some of them, as CET, as offsets without summer
    time, and others, as localtime, mean another zone on each machine.
    """
    text = given.get('TIME_ZONE', 'UTC')
    try:
        if text == 'UTC' or re.fullmatch(r'(?!posix/|right/)[A-Za-z_]+(/[A-Za-z0-9_+-]+)+', text):
            return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise SettingsError(f'TIME_ZONE={text!r}: no such time zone; use UTC or an IANA name with its region, as '
                        'Europe/Berlin or Asia/Kolkata')


def _host(given: Mapping[str, str]) -> str:
    """Return the address or name to listen on; an IPv6 address without the brackets that it has in a URL."""
    text = given.get('HOST', '127.0.0.1')
    host = re.sub(r'\[(.*)\]', r'\1', text)
    try:
        return str(ip_address(host))
    except ValueError:
        if not re.fullmatch(r'[A-Za-z0-9.-]{1,253}', text):
            raise SettingsError(f'HOST={text}: use an address or a name of this machine, as 127.0.0.1, ::1 or '
                                'localhost; 0.0.0.0 are all its addresses') from None
    return text


def _label(given: Mapping[str, str], name: str) -> str | None:
    """Return a name that is written into logs, the database and a connection's application_name."""
    text = given.get(name)
    if text is not None and not re.fullmatch(r'[A-Za-z0-9._:/+-]{1,128}', text):
        raise SettingsError(f'{name}={text!r}: use up to 128 letters, digits and . _ : / + -')
    return text


def _user_url(given: Mapping[str, str]) -> str | None:
    """Return the footer's link, or None where it is unset or is not an http(s) address: then there is no link."""
    text = given.get('USER_URL', '')
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return text if parts.scheme in ('http', 'https') and parts.hostname else None
