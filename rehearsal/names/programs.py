"""A program of this machine that sees the names of a rehearsal, while no file of this machine changes."""

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import subprocess

from rehearsal.errors import RehearsalError

RESOLV_CONF = Path('/etc/resolv.conf')
# A mount namespace of its own: the mount is seen by the program and its children only, and ends with them.
BIND = 'mount --bind "$0" "$1" && shift && exec "$@"'
ENTER = ('unshare', '--mount', '--propagation', 'private', 'sh', '-c', BIND)


def run(resolver: str | None, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> int:
    """Return the exit code of a command that ran with a rehearsal's DNS server; raise RehearsalError without one."""
    if not resolver:
        raise RehearsalError('the names of a rehearsal need root: its DNS server listens at port 53, and a program '
                             'sees it in a mount namespace of its own; call `rehearsal up` and this as root')
    configuration = folder / 'resolv.conf'
    # Two short tries: a resolver that is silent costs seconds and not the library's default of ten.
    configuration.write_text(f'nameserver {resolver}\noptions timeout:1 attempts:2\n', encoding='ascii')
    try:
        done = subprocess.run([*ENTER, str(configuration), os.path.realpath(RESOLV_CONF), *command],
                              env={**os.environ, **environment}, check=False)
    except FileNotFoundError as error:
        raise RehearsalError(f'{error.filename} is missing; Debian has it in the package util-linux') from error
    return done.returncode
