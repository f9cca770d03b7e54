"""The source AMI: Debian 13 as in Debian's own AMI, without the kernel and its boot loader."""

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
import shlex

import docker

from rehearsal.api.source_ami import SourceAmi
from rehearsal.machines.debian import root_filesystem
from rehearsal.naming import LABEL, Names

# The packages of Debian's AMI beyond those of priority important, as far as they work in a container.
PACKAGES = ('apparmor', 'bash-completion', 'ca-certificates', 'cloud-guest-utils', 'cloud-init', 'curl', 'dbus',
            'dhcpcd-base', 'gdisk', 'iproute2', 'less', 'locales-all', 'netbase', 'openssh-server', 'python3',
            'python3-apt', 'sudo', 'systemd', 'systemd-sysv', 'systemd-timesyncd', 'unattended-upgrades')
FILES = Path(__file__).parent / 'files' / 'source'
# mmdebstrap leaves this host's name and resolver behind, and packages leave keys; an AMI must have none of them.
HOOKS = ('rm -f "$1"/etc/resolv.conf "$1"/etc/ssh/ssh_host_*_key* && truncate --size=0 "$1"/etc/machine-id',
         'echo localhost > "$1"/etc/hostname && chmod 0644 "$1"/etc/hostname')
VARIANT = ('--variant=important', '--format=tar')


def make_source_ami(client: docker.DockerClient, names: Names,
                    begin: Callable[[str], None] = lambda phase: None) -> SourceAmi:
    """Return the source AMI, which is made unless one of the same inputs exists."""
    begin('make the source AMI (once on a host, one to two minutes)')
    archive = root_filesystem('source', PACKAGES, (*HOOKS, *writing_hooks()), VARIANT)
    created = datetime.fromtimestamp(archive.stat().st_mtime, timezone.utc)
    key = sha256(archive.name.encode()).hexdigest()
    ami = f'ami-{key[:17]}'
    label = f'{LABEL}.source={key}'
    present = client.images.list(filters={'reference': f'{names.family}:{ami}', 'label': label})
    if present:  # another rehearsal's; it stays until the last of them removes its tag
        present[0].tag(names.images, ami)
    else:
        begin('load the source AMI into the engine')
        client.api.import_image_from_file(str(archive), repository=names.images, tag=ami,
                                          changes=[f'LABEL {label}'])
    return SourceAmi(ami, f'debian-13-amd64-{created:%Y%m%d}-{int(key, 16) % 10000:04}', created,
                     f'{names.images}:{ami}')


def writing_hooks() -> Iterator[str]:
    """Yield shell lines that write the files of the source AMI, so that their text is part of its key."""
    for path in sorted(FILES.rglob('*')):
        if path.is_file():
            text, target = path.read_text(encoding='utf-8'), path.relative_to(FILES)
            yield f'printf %s {shlex.quote(text)} > "$1"/{target}'
