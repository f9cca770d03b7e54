"""The two forms that the address of a database may have; a text of any other form may hold a password anywhere."""

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
# What a scheme looks like; nothing else of a text that has none of the forms is shown.
SCHEME = re.compile('([a-z][a-z0-9+]{1,30})://', re.IGNORECASE)
PASSWORD = re.compile('//[^/]*:.*@|password', re.IGNORECASE)
# libpq's parameters, without those that hold a secret or lead to a file that no container has.
QUERY_NAMES = (
    'application_name', 'channel_binding', 'client_encoding', 'connect_timeout', 'gssencmode', 'host', 'hostaddr',
    'keepalives', 'keepalives_count', 'keepalives_idle', 'keepalives_interval', 'load_balance_hosts', 'options',
    'port', 'require_auth', 'ssl_max_protocol_version', 'ssl_min_protocol_version', 'sslmode', 'sslnegotiation',
    'sslrootcert', 'sslsni', 'target_session_attrs', 'tcp_user_timeout')
VERIFYING = ('verify-ca', 'verify-full')
AUTHORITIES = '/etc/visitors/database-ca.pem'


def check(parameter: str, url: str, password_parameter: str, has_authorities: bool) -> None:
    """Raise StepFailed, which shows nothing of a URL but its scheme, unless containers can use it as it is."""
    if SQLITE.fullmatch(url):
        return
    form = POSTGRESQL.fullmatch(url)
    query = dict(parse_qsl(form['query'] or '', keep_blank_values=True)) if form else {}
    if form and set(query) <= set(QUERY_NAMES):
        _check_authorities(parameter, query, has_authorities)
        return

    belongs = f'into Secrets Manager, and its name into {password_parameter}'
    if PASSWORD.search(url):
        raise StepFailed(f'parameter {parameter} holds a password; put it {belongs}')
    if form:
        raise StepFailed(f'parameter {parameter} has something else behind the ? than {", ".join(QUERY_NAMES)}; '
                         'delete it')
    scheme = SCHEME.match(url)
    begins = f', which begins with {scheme[1]}://,' if scheme else ''
    raise StepFailed(f'parameter {parameter}{begins} is not of the form {FORMS}; its value is not shown, because it '
                     f'may hold a password, which belongs {belongs}')


def _check_authorities(parameter: str, query: dict[str, str], has_authorities: bool) -> None:
    file = query.get('sslrootcert')
    if file is None and query.get('sslmode') not in VERIFYING:
        return
    if file != AUTHORITIES:
        raise StepFailed(f'parameter {parameter} has no sslrootcert that containers see; use '
                         f'sslrootcert={AUTHORITIES}, which the variable database_ca_file of the bake becomes')
    if not has_authorities:
        raise StepFailed(f'parameter {parameter}: sslrootcert={file} is not on this machine; bake the AMI with '
                         'database_ca_file=FILE')
