"""The application's settings, read from its environment once and checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
import os
from pathlib import Path
import re
import socket
import sqlite3
import sys
from typing import TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy.engine import make_url, URL
from sqlalchemy.exc import ArgumentError

from visitors import envfile, libpq
from visitors.errors import SettingsError

ROOT = Path(__file__).resolve().parent.parent
# At this value of FLASK_SKIP_DOTENV only Flask's own reader skips the file .env: bin/flask says why.
ONLY_FLASK = 'flask'
SQLITE_VERSION = (3, 35, 0)  # the first with RETURNING
KEY_ADVICE = "make one with: python3 -c 'import secrets; print(secrets.token_hex(32))'"
KEY_BYTES = range(32, 65)  # BLAKE2b takes 64 at most; a key of fewer than 32 characters can be guessed
CONTROL = re.compile('[\x00-\x1f\x7f]')
FORMS = {'sqlite': '////PATH', 'postgresql+psycopg2': '//USER:PASSWORD@HOST:5432/NAME'}
NAMES = (
    'DATABASE_PASSWORD_FILE', 'DATABASE_PASSWORD_SOCKET', 'DATABASE_URL', 'DEPLOY_ID', 'HOST', 'INSTANCE_ID',
    'MIGRATION_DATABASE_PASSWORD_FILE', 'MIGRATION_DATABASE_URL', 'MIGRATION_LOGIN_GROUP', 'PORT', 'PUBLIC_URL',
    'SITE_NAME', 'THREADS', 'TIME_ZONE', 'TRUSTED_PROXIES', 'URL_PREFIX', 'USER_NAME', 'USER_URL', 'VISITOR_KEY',
    'VISITOR_KEY_FILE', 'WORKERS',
)
Result = TypeVar('Result')
DRIVERS = {
    'sqlite': 'sqlite',
    'postgres': 'postgresql+psycopg2',
    'postgresql': 'postgresql+psycopg2',
    'postgresql+psycopg2': 'postgresql+psycopg2',
}


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
    public_url: str | None
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
        """Return the settings of this process: its environment's, which win over those of .env beside the code."""
        skips = os.environ.get('FLASK_SKIP_DOTENV') not in (None, '', ONLY_FLASK)
        return cls.from_environ({**({} if skips else envfile.read(root / '.env')), **os.environ}, root)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], root: Path = ROOT) -> 'Settings':
        """Return the settings of an environment; raise SettingsError for the first bad one."""
        values = {name: value.strip() for name, value in environ.items() if value.strip()}
        _refuse_undecodable(values)
        database_url = _database_url(values, 'DATABASE_URL', f'sqlite:///{root / "data" / "visitors.sqlite3"}')
        embedded = is_embedded(database_url)
        password_file = _password_file(values, 'DATABASE_PASSWORD_FILE')
        migrates_apart = 'MIGRATION_DATABASE_URL' in values
        migration_password_file = _password_file(values, 'MIGRATION_DATABASE_PASSWORD_FILE')
        return cls(
            database_url=database_url,
            database_password_file=password_file,
            database_password_socket=_path(values, 'DATABASE_PASSWORD_SOCKET'),
            migration_database_url=_migration_url(values, database_url),
            migration_database_password_file=migration_password_file if migrates_apart else password_file,
            migration_login_group=_label(values, 'MIGRATION_LOGIN_GROUP'),
            visitor_key=_visitor_key(values, embedded),
            kept_key_file=_kept_key_file(database_url, root),
            trusted_proxies=_integer(values, 'TRUSTED_PROXIES', 0, range(0, 11)),
            time_zone=_time_zone(values),
            url_prefix=_url_prefix(values),
            public_url=_public_url(values),
            site_name=values.get('SITE_NAME', 'Visitors'),
            user_name=values.get('USER_NAME', ''),
            user_url=_user_url(values),
            host=_host(values),
            port=_integer(values, 'PORT', 8000, range(0, 65536)),
            workers=_integer(values, 'WORKERS', min(os.cpu_count() or 1, 8), range(1, 65)),
            threads=_integer(values, 'THREADS', 8, range(1, 65)),
            deploy_id=_label(values, 'DEPLOY_ID'),
            instance_id=_label(values, 'INSTANCE_ID') or socket.gethostname(),
        )


def load_or_exit() -> Settings:
    """Return the settings of this process, or end it with exit code 1 and one line about the first bad one."""
    return exit_if_bad(Settings.load)


def exit_if_bad(read: Callable[[], Result]) -> Result:
    """Return the result of `read`, or end this process with exit code 1 and one line about the first bad setting."""
    try:
        return read()
    except SettingsError as error:
        sys.exit(f'bad setting: {error}')


def is_embedded(url: URL) -> bool:
    """Return whether a database is a file of this machine instead of a server."""
    return url.get_backend_name() == 'sqlite'


def _database_url(values: Mapping[str, str], name: str, default: str) -> URL:
    text = values.get(name, default)
    scheme, separator, rest = text.partition('://')
    # The text may hold a password, so messages show only the letters of a scheme.
    if not separator or not re.fullmatch('[a-z][a-z0-9+]*', scheme):
        raise SettingsError(f'{name} cannot be read as a URL; use postgresql://USER:PASSWORD@HOST:5432/NAME or '
                            'sqlite:////PATH')
    if scheme not in DRIVERS:
        raise SettingsError(f'{name}: the scheme {scheme!r} is not supported; use postgresql:// or sqlite:///')
    if DRIVERS[scheme] != 'sqlite' and rest.count('@') > 1:
        raise SettingsError(f'{name} has more than one @, so the beginning of its host is unclear; write @ in a name '
                            'or a password as %40')
    try:
        url = make_url(text).set(drivername=DRIVERS[scheme])
    except (ArgumentError, ValueError):
        raise SettingsError(f'{name} cannot be read as a URL; use {scheme}:{FORMS[DRIVERS[scheme]]}') from None
    return _embedded_url(name, url) if is_embedded(url) else _server_url(values, name, url)


def _server_url(values: Mapping[str, str], name: str, url: URL) -> URL:
    parts = [part for part in (url.username, url.password, url.host, url.database) if part]
    if any(CONTROL.search(part) for part in parts):
        raise SettingsError(f'{name} holds a control character (%00 to %1F, %7F); remove it')
    if url.host and not re.fullmatch(r'[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?', url.host):
        raise SettingsError(f'{name}: its host is neither a name nor an address; write /, :, ?, # and @ in a password '
                            'as %2F, %3A, %3F, %23 and %40')
    if not url.database:
        raise SettingsError(f'{name} names no database; end it with /NAME')
    if url.port is not None and url.port not in range(1, 65536):
        raise SettingsError(f'{name}: {url.port} is no port; use a whole number from 1 to 65535')
    try:
        libpq.check(url)
    except libpq.BadParameter as error:
        raise SettingsError(f'{name}: {error}') from None
    for variable, why in libpq.REFUSED_VARIABLES.items():
        if variable in values:
            raise SettingsError(f'{variable} is set, and {why}')
    return url


def _embedded_url(name: str, url: URL) -> URL:
    if url.host or url.username or url.password or url.port or url.query:
        raise SettingsError(f'{name}: an SQLite file has no host, user or parameters; use sqlite:////PATH, or '
                            'sqlite:///PATH for one below the working directory')
    if not url.database or url.database == ':memory:':
        raise SettingsError(f'{name}: {url} keeps nothing; name a file, as in sqlite:////var/lib/visitors.sqlite3')
    if sqlite3.sqlite_version_info < SQLITE_VERSION:
        raise SettingsError(f'{name}: the SQLite {sqlite3.sqlite_version} of this Python is too old, because it lacks '
                            'RETURNING; use one from 3.35 on, or PostgreSQL')
    # An absolute path, because flask-sqlalchemy and a shell resolve a relative one from different folders.
    return url.set(database=str(Path(url.database).absolute()))


def _migration_url(values: Mapping[str, str], database_url: URL) -> URL:
    if 'MIGRATION_DATABASE_URL' not in values:
        return database_url

    url = _database_url(values, 'MIGRATION_DATABASE_URL', '')
    where = (url.get_backend_name(), url.database)
    if where != (database_url.get_backend_name(), database_url.database):
        raise SettingsError(
            f'MIGRATION_DATABASE_URL names {url.set(query={}).render_as_string()}, another database than '
            'DATABASE_URL; only host, port, user and password may differ')
    return url


def _password_file(values: Mapping[str, str], name: str) -> Path | None:
    if name not in values:
        return None

    path = Path(values[name])
    try:
        with path.open('rb') as file:
            file.read()
    except OSError as error:
        reason = 'no such file' if isinstance(error, FileNotFoundError) else error.strerror
        raise SettingsError(f'{name}={values[name]}: {reason}; put the password into it or unset {name}') from None
    return path


def _path(values: Mapping[str, str], name: str) -> Path | None:
    return Path(values[name]) if name in values else None


def _refuse_undecodable(values: Mapping[str, str]) -> None:
    """Refuse a setting that is not UTF-8, because it could be neither sent nor hashed nor shown."""
    for name in [*NAMES, *libpq.REFUSED_VARIABLES]:
        try:
            values.get(name, '').encode()
        except UnicodeEncodeError:
            raise SettingsError(f'{name} is not UTF-8; write it in that encoding') from None


def _visitor_key(values: Mapping[str, str], embedded: bool) -> bytes | None:
    """Return the key of the address hash, or None if the embedded database keeps one beside itself."""
    if 'VISITOR_KEY' in values and 'VISITOR_KEY_FILE' in values:
        raise SettingsError('VISITOR_KEY and VISITOR_KEY_FILE are both set; keep one of them')
    if 'VISITOR_KEY' in values:
        return checked_key('VISITOR_KEY', values['VISITOR_KEY'])
    if 'VISITOR_KEY_FILE' in values:
        return _key_in_file(values['VISITOR_KEY_FILE'])
    if embedded:
        return None
    raise SettingsError(f'VISITOR_KEY or VISITOR_KEY_FILE must be set for PostgreSQL, always to the same key: with '
                        f'another key every visitor is new; {KEY_ADVICE}')


def _key_in_file(path: str) -> bytes:
    try:
        text = Path(path).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'not text'
        raise SettingsError(f'VISITOR_KEY_FILE={path}: {reason}; {KEY_ADVICE}') from None
    return checked_key(f'VISITOR_KEY_FILE={path}', text.strip())


def checked_key(name: str, text: str) -> bytes:
    """Return a key's bytes; unless it has 32 to 64, raise SettingsError, which never shows the key."""
    key = text.encode()
    if len(key) not in KEY_BYTES:
        raise SettingsError(f'{name}: a key has 32 to 64 bytes, this one has {len(key)}; {KEY_ADVICE}')
    return key


def _kept_key_file(database_url: URL, root: Path) -> Path:
    if is_embedded(database_url):
        return Path(database_url.database or '').with_name('visitor.key')
    return root / 'data' / 'visitor.key'


def _integer(values: Mapping[str, str], name: str, default: int, allowed: range) -> int:
    text = values.get(name, str(default))
    if not re.fullmatch(r'[0-9]{1,9}', text) or int(text) not in allowed:
        raise SettingsError(f'{name}={text}: use a whole number from {allowed[0]} to {allowed[-1]}')
    return int(text)


def _url_prefix(values: Mapping[str, str]) -> str:
    """Return the path below which a proxy publishes the application, without a slash at its end."""
    text = values.get('URL_PREFIX', '')
    path = text.rstrip('/')
    if not re.fullmatch(r'(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*', path):
        raise SettingsError(f'URL_PREFIX={text}: use a path of letters, digits and . _ ~ -, such as /visitors')
    return path


def _public_url(values: Mapping[str, str]) -> str | None:
    """Return the page's address on the internet, which ends with a slash, or None if it is not set."""
    text = values.get('PUBLIC_URL')
    if text is None:
        return None

    prefix = _url_prefix(values)
    parts = re.fullmatch(r'(https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?)(/[^?#]*)?', text)
    if not parts:
        # The text may hold a password before an @.
        shown = re.sub('//.*@', '//...@', text)
        raise SettingsError(f'PUBLIC_URL={shown}: use http or https, a host, and a port if it is not the default one, '
                            'such as https://visitors.example.org')
    origin, path = parts.groups()
    if path and path.rstrip('/') not in ('', prefix):
        raise SettingsError(f'PUBLIC_URL={text}: its path is not URL_PREFIX, which is {prefix or "unset"}; '
                            'set both to the same path')
    return f'{origin}{prefix}/'


def _time_zone(values: Mapping[str, str]) -> ZoneInfo:
    """Return the time zone whose midnight begins a day.

    A name without a region is refused, except UTC. PostgreSQL reads some of them, such as CET, as offsets without
    summer time; others, such as localtime, mean a different zone on each machine.
    """
    text = values.get('TIME_ZONE', 'UTC')
    try:
        if text == 'UTC' or re.fullmatch(r'(?!posix/|right/)[A-Za-z_]+(/[A-Za-z0-9_+-]+)+', text):
            return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise SettingsError(f'TIME_ZONE={text!r}: no such time zone; use UTC or an IANA name with its region, such as '
                        'Europe/Berlin or Asia/Kolkata')


def _host(values: Mapping[str, str]) -> str:
    """Return the address or name to listen on, without the brackets that an IPv6 address has in a URL."""
    text = values.get('HOST', '127.0.0.1')
    host = re.sub(r'\[(.*)\]', r'\1', text)
    try:
        return str(ip_address(host))
    except ValueError:
        if not re.fullmatch(r'[A-Za-z0-9.-]{1,253}', text):
            raise SettingsError(f'HOST={text}: use an address or a name of this machine, such as 127.0.0.1, ::1 or '
                                'localhost; 0.0.0.0 stands for all its addresses') from None
    return text


def _label(values: Mapping[str, str], name: str) -> str | None:
    """Return a name for logs, the database and a connection's application_name."""
    text = values.get(name)
    if text is not None and not re.fullmatch(r'[A-Za-z0-9._:/+-]{1,128}', text):
        raise SettingsError(f'{name}={text!r}: use up to 128 letters, digits and . _ : / + -')
    return text


def _user_url(values: Mapping[str, str]) -> str | None:
    """Return the link of the name in the footer, or None if it is unset or not an http(s) address."""
    text = values.get('USER_URL', '')
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return text if parts.scheme in ('http', 'https') and parts.hostname else None
