"""Programs of this host that see the names of a rehearsal, without a change to any file of this host."""

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import subprocess

from rehearsal.errors import RehearsalError

RESOLV_CONF = Path('/etc/resolv.conf')
# A mount namespace of its own: only the program and its children see the mount, which ends with them.
BIND = 'mount --bind "$0" "$1" && shift && exec "$@"'
ENTER = ('unshare', '--mount', '--propagation', 'private', 'sh', '-c', BIND)


def run(resolver: str | None, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> int:
    """Run a command with a rehearsal's DNS server, and return its exit code; raise RehearsalError without a server."""
    if not resolver:
        raise RehearsalError('the names of a rehearsal need root: its DNS server listens at port 53, and a program '
                             'sees it in a mount namespace of its own; call `rehearsal up` and this as root')
    configuration = folder / 'resolv.conf'
    # Two short tries, because a silent server would cost ten seconds by the library's defaults.
    configuration.write_text(f'nameserver {resolver}\noptions timeout:1 attempts:2\n', encoding='ascii')
    try:
        result = subprocess.run([*ENTER, str(configuration), os.path.realpath(RESOLV_CONF), *command],
                                env={**os.environ, **environment}, check=False)
    except FileNotFoundError as error:
        raise RehearsalError(f'{error.filename} is missing; the package util-linux of Debian has it') from error
    return result.returncode
