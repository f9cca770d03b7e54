"""The checks of a booted instance; each returns the problem that it finds, or None."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
import re
import ssl
import time

from instance import application, boot_record, container, probe, subprocesses, systemd
from instance.errors import StepFailed
from instance.machine import Machine

# Files of the AMI are older than this boot by the time between the bake and the start; a clock may be off by this.
CLOCK_SLACK = 2.0
UNITS = Path('etc/systemd/system')
TARGET = 'visitors.target'
ENABLED_BY_USER_DATA = UNITS / f'multi-user.target.wants/{TARGET}'
# Each unit with a unit that it is ordered after.
ORDER = (
    ('visitors-migrate.service', 'visitors-config.service'),
    ('visitors.service', 'visitors-migrate.service'),
    ('visitors-ready.service', 'visitors.service'),
    ('visitors-config.service', 'visitors-logs.service'),
    ('visitors-config.service', 'nftables.service'),
)
# Folders in which a forgotten secret could be, and patterns of secrets in content and name.
SEARCHED = ('etc', 'home', 'opt', 'root', 'run/visitors', 'srv', 'usr/local', 'var/lib/visitors')
SECRET_CONTENT = re.compile(rb'-----BEGIN [A-Z ]*PRIVATE KEY-----|^(?:export )?AWS_SECRET_ACCESS_KEY=|'
                            rb'^aws_secret_access_key\s*=|^(?:VISITOR_KEY|[A-Z_]*PASSWORD)=.', re.MULTILINE)
SECRET_NAME = re.compile(r'\.pgpass|\.netrc|id_(?:rsa|dsa|ecdsa|ed25519)|.*\.(?:key|secret)|credentials')
# Public keys of package archives have the same suffix as private keys of servers.
PUBLIC_FOLDERS = ('etc/apt', 'etc/ssl/certs')
HEAD_BYTES = 64 * 1024
# The metadata service's addresses: any process that connects gets the credentials of the instance's role.
METADATA_ADDRESSES = ('169.254.169.254', 'fd00:ec2::254')
# Prints each address that it can connect to; a connection alone proves the point, so no token is requested.
CONNECT_PROGRAM = """
import socket, sys
for address in sys.argv[1:]:
    try:
        socket.create_connection((address, 80), 3).close()
        print(address)
    except OSError:
        pass
"""
PROGRAM_SECONDS = 60
COUNT_SECONDS = 10


@dataclass(frozen=True)
class Subject:
    """The instance under check, with the moment of its power-on by its own clock."""

    machine: Machine
    power_on: float

    @classmethod
    def of(cls, machine: Machine) -> 'Subject':
        """Return the instance that runs this process."""
        up = time.monotonic() - boot_record.read(machine.boot_record).power_on
        return cls(machine, time.time() - up)

    @property
    def root(self) -> Path:
        """The root folder of the instance's file system."""
        return self.machine.root

    def is_of_the_ami(self, path: Path) -> bool:
        """Return whether a file is older than this boot."""
        return path.lstat().st_mtime < self.power_on - CLOCK_SLACK


Check = Callable[[Subject], str | None]


def host_keys(subject: Subject) -> str | None:
    """Require SSH host keys of this boot: all instances of an AMI would share the keys of the AMI."""
    old = [path.name for path in sorted((subject.root / 'etc/ssh').glob('ssh_host_*_key'))
           if subject.is_of_the_ami(path)]
    return f'{", ".join(old)} came with the AMI' if old else None


def authorized_keys(subject: Subject) -> str | None:
    """Require that no key opens every instance of the AMI."""
    for user, home in _homes(subject.root):
        for name in ('authorized_keys', 'authorized_keys2'):
            path = home / '.ssh' / name
            if path.is_file() and path.read_text(encoding='utf-8', errors='replace').strip():
                return f'{user} has keys in {container.inside(subject.machine, path)}'
    return None


def enabled_units(subject: Subject) -> str | None:
    """Require that no unit of ours was enabled in the AMI: it would start before the user data has configured it."""
    links = sorted(link for link in (subject.root / UNITS).glob('*.*/visitors*') if link.is_symlink())
    for link in links:
        name = link.relative_to(subject.root)
        if name != ENABLED_BY_USER_DATA:
            return f'{link.name} is enabled by /{name}'
        if subject.is_of_the_ami(link):
            return f'{link.name} was enabled in the AMI, by /{name}'
    return None


def passwords(subject: Subject) -> str | None:
    """Require that no account can sign in with a password."""
    lines = (subject.root / 'etc/shadow').read_text(encoding='utf-8').split('\n')
    users = [user for user, secret in (line.split(':')[:2] for line in lines if ':' in line)
             if not secret.startswith(('!', '*'))]
    return f'{", ".join(users)} can sign in with a password' if users else None


def readable_secrets(subject: Subject) -> str | None:
    """Require that no secret is world-readable."""
    for path in _searched(subject.root):
        mode = path.stat().st_mode
        is_ours = subject.machine.run / 'secrets' in path.parents
        if mode & 0o007 and (is_ours or _looks_secret(path)):
            return f'/{path.relative_to(subject.root)} is world-readable (mode {mode & 0o777:04o})'
    return None


def image(subject: Subject) -> str | None:
    """Require the image of the bake in the engine."""
    container.check_image(subject.machine.image)
    return None


def authorities(subject: Subject) -> str | None:
    """Require at least one authority of the database's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(subject.machine.authorities)
    return None if context.cert_store_stats()['x509_ca'] else f'{subject.machine.authorities} holds no authority'


def docker(_subject: Subject) -> str | None:
    """Require an engine that runs and answers."""
    if not systemd.is_active('docker.service'):
        return 'docker.service is not active'
    subprocesses.output('docker', 'version', '--format={{.Server.Version}}', seconds=PROGRAM_SECONDS)
    return None


def failed_units(_subject: Subject) -> str | None:
    """Require that no unit of the system has failed."""
    failed = systemd.failed_units()
    return f'{", ".join(failed)} failed' if failed else None


def unit_order(_subject: Subject) -> str | None:
    """Require that our units are ordered, and that systemd-analyze reports no problem in them."""
    for unit, before in ORDER:
        predecessors = systemd.properties('After', unit=unit).get('After', '').split()
        if before not in predecessors:
            return f'{unit} is not ordered after {before}'
    analysis = subprocesses.run('systemd-analyze', 'verify', '--man=no', TARGET, seconds=PROGRAM_SECONDS)
    ours = [line for line in analysis.stderr.splitlines() if 'visitors' in line]
    return ours[0].strip() if ours else None


def machine_id(subject: Subject) -> str | None:
    """Require a machine id of this boot."""
    path = subject.root / 'etc/machine-id'
    identifier = path.read_text(encoding='utf-8').strip() if path.exists() else ''
    if not re.fullmatch('[0-9a-f]{32}', identifier):
        return f'/etc/machine-id holds {identifier!r}'
    return '/etc/machine-id came with the AMI' if subject.is_of_the_ami(path) else None


def ssh(subject: Subject) -> str | None:
    """Require that SSH is off, or accepts no password."""
    if not any(systemd.is_active(unit) or systemd.is_enabled(unit) for unit in ('ssh.service', 'ssh.socket')):
        return None
    lines = subprocesses.output('sshd', '-T', seconds=PROGRAM_SECONDS).lower().splitlines()
    settings = dict(line.split(' ', 1) for line in lines if ' ' in line)
    methods = [name for name in ('passwordauthentication', 'kbdinteractiveauthentication', 'permitemptypasswords')
               if settings.get(name) == 'yes']
    return f'SSH is on with {", ".join(methods)}' if methods else None


def phases(subject: Subject) -> str | None:
    """Require all phases before `ready` in the boot record, in their order."""
    *expected, current = boot_record.PHASES
    record = boot_record.read(subject.machine.boot_record)
    recorded = [phase.phase for phase in record.phases if phase.phase != current]
    if recorded == expected:
        return None
    return f'boot.json has {", ".join(recorded)} instead of {", ".join(expected)}'


def metadata(_subject: Subject) -> str | None:
    """Require that the application cannot reach the metadata service."""
    command = ('docker', 'exec', application.NAME, 'python', '-c', CONNECT_PROGRAM, *METADATA_ADDRESSES)
    addresses = subprocesses.output(*command, seconds=PROGRAM_SECONDS).split()
    if not addresses:
        return None
    return f'the application reaches {", ".join(addresses)}, and so the role of the instance'


def livez(subject: Subject) -> str | None:
    """Require an application that answers."""
    probe.get_json(probe.port(subject.machine), '/livez')
    return None


def readyz(subject: Subject) -> str | None:
    """Require an application that can serve visitors."""
    probe.get_json(probe.port(subject.machine), '/readyz')
    return None


def version(subject: Subject) -> str | None:
    """Require the version of the bake."""
    version_served = probe.get_json(probe.port(subject.machine), '/version').get('version')
    expected = subject.machine.image.version
    return None if version_served == expected else f'/version answers {version_served}, image.json has {expected}'


def page(subject: Subject) -> str | None:
    """Require that a visit is counted."""
    port = probe.port(subject.machine)
    status, text = probe.get(port, '/', probe.BROWSER)
    if status != 200:
        return f'the page answers {status}: {text[:200]}'
    # The statistics may be a second old.
    until = time.monotonic() + COUNT_SECONDS
    while time.monotonic() < until:
        if probe.get_json(port, '/stats.json').get('total', 0) >= 1:
            return None
        time.sleep(0.2)
    return 'the page answers, but the visit is not counted'


CHECKS: dict[str, Check] = {
    'host-keys': host_keys,
    'authorized-keys': authorized_keys,
    'enabled-units': enabled_units,
    'passwords': passwords,
    'readable-secrets': readable_secrets,
    'machine-id': machine_id,
    'ssh': ssh,
    'docker': docker,
    'image': image,
    'authorities': authorities,
    'failed-units': failed_units,
    'unit-order': unit_order,
    'phases': phases,
    'metadata': metadata,
    'livez': livez,
    'readyz': readyz,
    'version': version,
    'page': page,
}


def _homes(root: Path) -> Iterator[tuple[str, Path]]:
    for line in (root / 'etc/passwd').read_text(encoding='utf-8').rstrip('\n').split('\n'):
        user, *_, home, _shell = line.split(':')
        yield user, root / home.lstrip('/')


def _searched(root: Path) -> Iterator[Path]:
    for name in SEARCHED:
        for path in sorted((root / name).rglob('*')):
            relative = str(path.relative_to(root))
            if path.is_file() and not path.is_symlink() and not relative.startswith(PUBLIC_FOLDERS):
                yield path


def _looks_secret(path: Path) -> bool:
    with path.open('rb') as file:
        head = file.read(HEAD_BYTES)
    return bool(head.strip()) and bool(SECRET_NAME.fullmatch(path.name) or SECRET_CONTENT.search(head))


def find_problems(subject: Subject) -> list[tuple[str, str]]:
    """Return the name of each check that failed, with the problem."""
    return [(name, problem) for name, check in CHECKS.items() if (problem := _run(check, subject))]


def _run(check: Check, subject: Subject) -> str | None:
    try:
        return check(subject)
    except StepFailed as error:
        return error.message
    except OSError as error:
        return f'the check failed: {error}'
