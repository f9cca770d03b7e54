"""What must hold on a machine as it has booted, check by check; each answers what is wrong, or nothing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
import re
import time

from instance import application, boot_record, container, probe, subprocesses, systemd
from instance.errors import StepFailed
from instance.machine import Machine

# Files of the image are older by the time that it takes to make an image of a machine and start another.
CLOCK_SLACK = 2.0
UNITS = Path('etc/systemd/system')
TARGET = 'visitors.target'
ENABLED_BY_USER_DATA = UNITS / f'multi-user.target.wants/{TARGET}'
# Each unit, and the one that it must follow and cannot do without.
ORDER = (
    ('visitors-migrate.service', 'visitors-config.service'),
    ('visitors.service', 'visitors-migrate.service'),
    ('visitors-ready.service', 'visitors.service'),
    ('visitors-config.service', 'visitors-logs.service'),
    ('visitors-config.service', 'nftables.service'),
)
# Where secrets could lie that somebody has forgotten, and what they look like there.
SEARCHED = ('etc', 'home', 'opt', 'root', 'run/visitors', 'srv', 'usr/local', 'var/lib/visitors')
SECRET_CONTENT = re.compile(rb'-----BEGIN [A-Z ]*PRIVATE KEY-----|^(?:export )?AWS_SECRET_ACCESS_KEY=|'
                            rb'^aws_secret_access_key\s*=|^(?:VISITOR_KEY|[A-Z_]*PASSWORD)=.', re.MULTILINE)
SECRET_NAME = re.compile(r'\.pgpass|\.netrc|id_(?:rsa|dsa|ecdsa|ed25519)|.*\.(?:key|secret)|credentials')
# Public keys of package archives have the same ending as private ones of servers.
PUBLIC_FOLDERS = ('etc/apt', 'etc/ssl/certs')
HEAD_BYTES = 64 * 1024
# What gives credentials of the instance's role to any process that reaches it: IMDS by IPv4 and by IPv6.
METADATA_ADDRESSES = ('169.254.169.254', 'fd00:ec2::254')
# Prints each address that it reaches; a connection is enough, so no question of what a token is.
REACHED = """
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
    """The machine that is checked, and the moment when it was turned on, as a time of its clock."""

    machine: Machine
    turned_on: float

    @classmethod
    def of(cls, machine: Machine) -> 'Subject':
        """Return the machine that this runs on as a subject."""
        up = time.monotonic() - boot_record.read(machine.boot_record).power_on
        return cls(machine, time.time() - up)

    @property
    def root(self) -> Path:
        """The folder that the machine's file system begins at."""
        return self.machine.root

    def is_of_the_image(self, path: Path) -> bool:
        """Return whether a file was there before this machine was turned on."""
        return path.lstat().st_mtime < self.turned_on - CLOCK_SLACK


Check = Callable[[Subject], str | None]


def host_keys(subject: Subject) -> str | None:
    """Want SSH host keys of this boot: with those of the image, all its machines would have the same."""
    old = [path.name for path in sorted((subject.root / 'etc/ssh').glob('ssh_host_*_key'))
           if subject.is_of_the_image(path)]
    return f'{", ".join(old)} came with the image' if old else None


def authorized_keys(subject: Subject) -> str | None:
    """Want no key that lets somebody in on every machine of the image."""
    for user, home in _homes(subject.root):
        for name in ('authorized_keys', 'authorized_keys2'):
            path = home / '.ssh' / name
            if path.is_file() and path.read_text(encoding='utf-8', errors='replace').strip():
                return f'{user} has keys in {container.inside(subject.machine, path)}'
    return None


def enabled_units(subject: Subject) -> str | None:
    """Want none of our units enabled in the image: it would start before the user data has told it anything."""
    links = sorted(link for link in (subject.root / UNITS).glob('*.*/visitors*') if link.is_symlink())
    for link in links:
        name = link.relative_to(subject.root)
        if name != ENABLED_BY_USER_DATA:
            return f'{link.name} is enabled by /{name}'
        if subject.is_of_the_image(link):
            return f'{link.name} was enabled in the image, by /{name}'
    return None


def passwords(subject: Subject) -> str | None:
    """Want nobody who can sign in with a password."""
    lines = (subject.root / 'etc/shadow').read_text(encoding='utf-8').split('\n')
    able = [user for user, secret in (line.split(':')[:2] for line in lines if ':' in line)
            if not secret.startswith(('!', '*'))]
    return f'{", ".join(able)} can sign in with a password' if able else None


def readable_secrets(subject: Subject) -> str | None:
    """Want no secret that everybody can read."""
    for path in _searched(subject.root):
        mode = path.stat().st_mode
        is_ours = subject.machine.run / 'secrets' in path.parents
        if mode & 0o007 and (is_ours or _looks_secret(path)):
            return f'/{path.relative_to(subject.root)} can be read by everybody (mode {mode & 0o777:04o})'
    return None


def image(subject: Subject) -> str | None:
    """Want the very application image that was baked."""
    container.check_image(subject.machine.image)
    return None


def docker(_subject: Subject) -> str | None:
    """Want an engine that runs and answers."""
    if not systemd.is_active('docker.service'):
        return 'docker.service is not active'
    subprocesses.output('docker', 'version', '--format={{.Server.Version}}', seconds=PROGRAM_SECONDS)
    return None


def failed_units(_subject: Subject) -> str | None:
    """Want no unit of the whole system that has failed."""
    failed = systemd.failed_units()
    return f'{", ".join(failed)} failed' if failed else None


def unit_order(_subject: Subject) -> str | None:
    """Want each of our units to wait for the one before, and systemd to find nothing wrong with any of them."""
    for unit, before in ORDER:
        known = systemd.properties('After', unit=unit).get('After', '').split()
        if before not in known:
            return f'{unit} does not wait for {before}'
    verified = subprocesses.outcome('systemd-analyze', 'verify', '--man=no', TARGET, seconds=PROGRAM_SECONDS)
    ours = [line for line in verified.stderr.splitlines() if 'visitors' in line]
    return ours[0].strip() if ours else None


def machine_id(subject: Subject) -> str | None:
    """Want an id that is this machine's own."""
    path = subject.root / 'etc/machine-id'
    known = path.read_text(encoding='utf-8').strip() if path.exists() else ''
    if not re.fullmatch('[0-9a-f]{32}', known):
        return f'/etc/machine-id holds {known!r}'
    return '/etc/machine-id came with the image' if subject.is_of_the_image(path) else None


def ssh(subject: Subject) -> str | None:
    """Want SSH off, or without passwords."""
    if not any(systemd.is_active(unit) or systemd.is_enabled(unit) for unit in ('ssh.service', 'ssh.socket')):
        return None
    shown = subprocesses.output('sshd', '-T', seconds=PROGRAM_SECONDS).lower().splitlines()
    settings = dict(line.split(' ', 1) for line in shown if ' ' in line)
    open_ways = [name for name in ('passwordauthentication', 'kbdinteractiveauthentication', 'permitemptypasswords')
                 if settings.get(name) == 'yes']
    return f'SSH is on with {", ".join(open_ways)}' if open_ways else None


def phases(subject: Subject) -> str | None:
    """Want all phases before this one in the record, in their order."""
    *expected, this_one = boot_record.PHASES
    told = [phase.phase for phase in boot_record.read(subject.machine.boot_record).phases if phase.phase != this_one]
    return None if told == expected else f'boot.json has {", ".join(told)} instead of {", ".join(expected)}'


def metadata(_subject: Subject) -> str | None:
    """Want a metadata service that the application cannot reach."""
    reached = subprocesses.output('docker', 'exec', application.NAME, 'python', '-c', REACHED, *METADATA_ADDRESSES,
                                  seconds=PROGRAM_SECONDS).split()
    return f'the application reaches {", ".join(reached)}, and so the role of the instance' if reached else None


def livez(subject: Subject) -> str | None:
    """Want an application that answers."""
    probe.get_json(probe.port(subject.machine), '/livez')
    return None


def readyz(subject: Subject) -> str | None:
    """Want an application that can serve visitors."""
    probe.get_json(probe.port(subject.machine), '/readyz')
    return None


def version(subject: Subject) -> str | None:
    """Want the version that was baked."""
    answered = probe.get_json(probe.port(subject.machine), '/version').get('version')
    known = subject.machine.image.version
    return None if answered == known else f'/version answers {answered}, image.json says {known}'


def page(subject: Subject) -> str | None:
    """Want a visit to be counted."""
    port = probe.port(subject.machine)
    status, text = probe.get(port, '/', probe.BROWSER)
    if status != 200:
        return f'the page answers {status}: {text[:200]}'
    # The numbers may be a second old.
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


def find_failures(subject: Subject) -> list[tuple[str, str]]:
    """Return, by the name of its check, everything that is wrong with a machine."""
    return [(name, wrong) for name, check in CHECKS.items() if (wrong := _answer(check, subject))]


def _answer(check: Check, subject: Subject) -> str | None:
    try:
        return check(subject)
    except StepFailed as error:
        return error.message
    except OSError as error:
        return f'it cannot be checked: {error}'
