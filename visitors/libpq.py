"""The parameters after the question mark of a PostgreSQL URL: which are allowed, and how both sides' are merged."""

from collections.abc import Mapping
import re

import psycopg2
from psycopg2.extensions import make_dsn
from sqlalchemy.engine import URL

# The application sets these for its connections. It would silently overrule the same parameter of a URL, or a URL
# would overrule a time limit on which the answers depend.
OWN_PARAMETERS = frozenset({
    'application_name', 'connect_timeout', 'hostaddr', 'keepalives', 'keepalives_idle', 'keepalives_interval',
    'keepalives_count', 'tcp_user_timeout',
})
OWN_OPTIONS = frozenset({
    'client_connection_check_interval', 'default_transaction_isolation', 'enable_seqscan',
    'idle_in_transaction_session_timeout', 'idle_session_timeout', 'jit', 'lock_timeout', 'statement_timeout',
    'tcp_keepalives_count', 'tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_user_timeout',
})
# They belong before the question mark, where they are masked when the URL is shown.
BEFORE_THE_QUESTION_MARK = frozenset({'user', 'password', 'dbname', 'port'})
# Each of these adds parameters that no check here sees, or changes the protocol.
REFUSED = frozenset({'service', 'servicefile', 'replication', 'fallback_application_name'})
# Variables that libpq reads beside a URL. Each would be ignored or would change the destination.
REFUSED_VARIABLES = {
    'PGOPTIONS': 'it would be ignored; write ?options= into DATABASE_URL',
    'PGSERVICE': 'it would be mixed with DATABASE_URL; write the parameters of that service into DATABASE_URL',
    'PGHOSTADDR': 'it would lead to another host than DATABASE_URL names',
}
ONE_OPTION = re.compile(r'(?:-c|--)([A-Za-z_][A-Za-z0-9_.-]*)=(.*)', re.DOTALL)


class BadParameter(ValueError):
    """A refused parameter of a URL; the message names it and never its value."""


def check(url: URL) -> None:
    """Raise BadParameter for the first parameter after the question mark that cannot be obeyed."""
    for name, value in url.query.items():
        _check_name(name, isinstance(value, str))
    if url.host and 'host' in url.query:
        raise BadParameter('the host appears before and after the question mark; keep one of them')
    parameters = {name: value for name, value in url.query.items() if isinstance(value, str)}
    try:
        make_dsn(**parameters)
    except psycopg2.ProgrammingError:
        raise BadParameter(f'{_unsupported(parameters)} is not a connection parameter') from None
    for option in options_in(url):
        if option.partition('=')[0] in OWN_OPTIONS:
            raise BadParameter(f'the application itself sets {option.partition("=")[0]}; remove it from options')


def options_of(url: URL, own: Mapping[str, str]) -> str:
    """Return the server's settings of a session: those of a URL's options, and the application's own."""
    settings = [*options_in(url), *(f'{name}={value}' for name, value in own.items())]
    return ' '.join(f'-c {_escaped(setting)}' for setting in settings)


def options_in(url: URL) -> list[str]:
    """Return the settings of a URL's options as NAME=VALUE; raise BadParameter for anything else."""
    options = url.query.get('options', '')
    words = _words(options if isinstance(options, str) else ' '.join(options))
    settings = []
    while words:
        word = words.pop(0)
        if word == '-c' and words:
            word += words.pop(0)
        match = ONE_OPTION.fullmatch(word)
        if not match:
            raise BadParameter('options may hold only -cNAME=VALUE; write a blank in a value as \\%20')
        settings.append(f'{match[1].replace("-", "_").lower()}={match[2]}')
    return settings


def _check_name(name: str, is_single: bool) -> None:
    if not re.fullmatch('[a-z_]+', name):
        raise BadParameter('a name after the question mark is not a parameter name; write @, / and ? in a password as '
                           '%40, %2F and %3F')
    if name in OWN_PARAMETERS:
        raise BadParameter(f'{name} is set by the application itself; remove it')
    if name in BEFORE_THE_QUESTION_MARK:
        raise BadParameter(f'{name} belongs before the question mark')
    if name in REFUSED:
        raise BadParameter(f'{name} is not supported; write its parameters into the URL')
    if not is_single and name != 'host':
        raise BadParameter(f'{name} appears twice; keep one of them')


def _unsupported(parameters: Mapping[str, str]) -> str:
    for name, value in parameters.items():
        try:
            make_dsn(**{name: value})
        except psycopg2.ProgrammingError:
            return name
    return ', '.join(parameters)


def _words(text: str) -> list[str]:
    """Return the words of options as the server splits them: at blanks that have no backslash before them."""
    return [re.sub(r'\\(.)', r'\1', word, flags=re.DOTALL)
            for word in re.findall(r'(?:\\.|[^\\\s])+', text, flags=re.DOTALL)]


def _escaped(option: str) -> str:
    return re.sub(r'([\\\s])', r'\\\1', option)
