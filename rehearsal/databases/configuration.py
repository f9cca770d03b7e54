"""The configuration of a PostgreSQL server: its access rules and its settings, from a parameter group."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FORCE_SSL = 'rds.force_ssl'
ADMINISTRATOR = 'rdsadmin'
IDENTITY_MAP = 'rehearsal'
# Settings that RDS does not leave to parameter groups, because the server depends on them.
OWN = frozenset({
    'archive_command', 'archive_mode', 'data_directory', 'external_pid_file', 'fsync', 'full_page_writes', 'hba_file',
    'ident_file', 'listen_addresses', 'log_destination', 'logging_collector', 'port', 'restart_after_crash', 'ssl',
    'ssl_cert_file', 'ssl_key_file', 'unix_socket_directories', 'unix_socket_permissions'})
# The settings that only a start of the server changes. https://www.postgresql.org/docs/current/view-pg-settings.html
STATIC = 'postmaster'


@dataclass(frozen=True)
class Parameter:
    """A parameter of a group: its value, and whether a client wants it at once."""

    value: str
    is_immediate: bool


Parameters = Mapping[str, Parameter]


def default_parameters(major: int) -> dict[str, Parameter]:
    """Return the parameters of RDS's default group of a version that change the behaviour here.

    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/PostgreSQL.Concepts.General.SSL.html
    """
    return {FORCE_SSL: Parameter('1' if major >= 15 else '0', is_immediate=True)}


def in_force(wanted: Parameters, current: Parameters, changed: Iterable[str],
             contexts: Mapping[str, str]) -> dict[str, Parameter]:
    """Return the parameters that a running server has after a change of some of them.

    A static parameter waits for a reboot, as does a dynamic one that the client wants then.
    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/parameter-groups-overview.html
    """
    result = dict(current)
    for name in changed:
        if contexts.get(name) == STATIC:
            continue
        if name not in wanted:
            result.pop(name, None)
        elif wanted[name].is_immediate:
            result[name] = wanted[name]
    return result


def has_pending(wanted: Parameters, current: Parameters) -> bool:
    """Return whether a reboot would change the value of a parameter."""
    return {name: each.value for name, each in wanted.items()} != {name: each.value for name, each in current.items()}


def access_rules(master: str, is_tls_forced: bool, directory_port: int, identifier: str) -> str:
    """Return the rules of pg_hba.conf, of which PostgreSQL takes the first that fits.

    The master stands before the members of rds_iam, because granting that role makes it a member since PostgreSQL 16.
    https://www.postgresql.org/docs/current/auth-pg-hba-conf.html
    """
    directory = f'ldap ldapserver=127.0.0.1 ldapport={directory_port} ldapprefix="{identifier}/" ldapsuffix=""'
    refused = 'all' if is_tls_forced else '+rds_iam'
    return '\n'.join((
        f'local   all         {ADMINISTRATOR} peer map={IDENTITY_MAP}',
        f'local   replication {ADMINISTRATOR} peer map={IDENTITY_MAP}',
        f'host    all         {ADMINISTRATOR} all reject',
        *(() if is_tls_forced else (f'hostnossl all "{master}" all scram-sha-256',)),
        f'hostnossl all       {refused} all reject',
        f'hostssl all         "{master}" all scram-sha-256',
        f'hostssl all         +rds_iam all {directory}',
        'host    all         all all scram-sha-256', ''))


def identity_map(users: Iterable[str]) -> str:
    """Return the lines of pg_ident.conf by which users of this host are the administrator of a server."""
    return ''.join(f'{IDENTITY_MAP} {user} {ADMINISTRATOR}\n' for user in dict.fromkeys(users))


def settings_file(settings: Mapping[str, str]) -> str:
    """Return the text of postgresql.conf."""
    return ''.join(f'{name} = {_quoted(value)}\n' for name, value in settings.items())


def _quoted(value: str) -> str:
    escaped = value.replace('\\', '\\\\').replace("'", "''").replace('\n', ' ')
    return f"'{escaped}'"
