"""The two forms of a database URL; a text of any other form may contain a password at any place."""

import re
from urllib.parse import parse_qsl

from instance.errors import StepFailed

POSTGRESQL = re.compile(
    r'postgres(?:ql)?(?:\+psycopg2)?://'
    r'(?:[^\s:/?#@\[\]]+@)?'
    r'(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]{1,5})?'
    r'/[^\s:/?#@]+'
    r'(?:\?(?P<query>[^\s?#@]*))?')
SQLITE = re.compile(r'sqlite:///[^\s?#@]+')
FORMS = 'postgresql://USER@HOST:5432/NAME or sqlite:////FILE'
# The form of a scheme, the only part of a text of another form that a message shows.
SCHEME = re.compile('([a-z][a-z0-9+]{1,30})://', re.IGNORECASE)
PASSWORD = re.compile('//[^/]*:.*@|password', re.IGNORECASE)
# libpq's parameters, except those that contain a secret or name a file that containers do not have.
QUERY_NAMES = (
    'application_name', 'channel_binding', 'client_encoding', 'connect_timeout', 'gssencmode', 'host', 'hostaddr',
    'keepalives', 'keepalives_count', 'keepalives_idle', 'keepalives_interval', 'load_balance_hosts', 'options',
    'port', 'require_auth', 'ssl_max_protocol_version', 'ssl_min_protocol_version', 'sslmode', 'sslnegotiation',
    'sslrootcert', 'sslsni', 'target_session_attrs', 'tcp_user_timeout')
VERIFYING = ('verify-ca', 'verify-full')
AUTHORITIES = '/etc/visitors/database-ca.pem'


def check(parameter: str, url: str, password_parameter: str, has_authorities: bool) -> None:
    """Raise StepFailed unless containers can use a URL; the message shows only its scheme."""
    if SQLITE.fullmatch(url):
        return
    form = POSTGRESQL.fullmatch(url)
    query = dict(parse_qsl(form['query'] or '', keep_blank_values=True)) if form else {}
    if form and set(query) <= set(QUERY_NAMES):
        _check_authorities(parameter, query, has_authorities)
        return

    remedy = f'into Secrets Manager, and its name into {password_parameter}'
    if PASSWORD.search(url):
        raise StepFailed(f'parameter {parameter} holds a password; put it {remedy}')
    if form:
        raise StepFailed(f'parameter {parameter} has another name after the ? than {", ".join(QUERY_NAMES)}; '
                         'delete it')
    scheme = SCHEME.match(url)
    beginning = f', which begins with {scheme[1]}://,' if scheme else ''
    raise StepFailed(f'parameter {parameter}{beginning} is not of the form {FORMS}; its value is not shown, because '
                     f'it may contain a password, which belongs {remedy}')


def with_authorities(url: str) -> str:
    """Return a URL that names the AMI's authorities if it verifies the server and names none."""
    form = POSTGRESQL.fullmatch(url)
    query = dict(parse_qsl(form['query'] or '')) if form else {}
    if query.get('sslmode') in VERIFYING and 'sslrootcert' not in query:
        return f'{url}&sslrootcert={AUTHORITIES}'
    return url


def _check_authorities(parameter: str, query: dict[str, str], has_authorities: bool) -> None:
    file = query.get('sslrootcert', AUTHORITIES)
    if 'sslrootcert' not in query and query.get('sslmode') not in VERIFYING:
        return
    if file != AUTHORITIES:
        raise StepFailed(f'parameter {parameter} has no sslrootcert that containers can read; use '
                         f'sslrootcert={AUTHORITIES}, the file from the bake variable database_ca_file, or omit it')
    if not has_authorities:
        raise StepFailed(f'parameter {parameter}: sslrootcert={file} is not on this instance; bake the AMI '
                         'again')
