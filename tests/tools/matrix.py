"""python -m tests.tools.matrix [SYSTEM...]: run `make run` and `make test` on newcomers' machines and time them.

A machine is a fresh root file system of a Debian, with git, make and Python and nothing else, in namespaces of its
own on this machine's kernel and network. It gets a clone of the last commit. Needs root and mmdebstrap.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import requests

from rehearsal.machines.debian import apt_settings, root_filesystem, sources
from tests.support.containers.bases import certificates, pip_settings
from tests.support.containers.engine import answers
from tests.support.postgresql import free_port
from tests.support.server import BROWSER, ROOT
from tests.support.waiting import eventually

SYSTEMS = {'debian-13': 'trixie', 'debian-12': 'bookworm'}
VERBS = ('run', 'test')
# The packages that README requires, and git for the clone.
PACKAGES = ('ca-certificates', 'git', 'make', 'python3', 'python3-venv')
MINIMAL = ('--variant=minbase', '--format=tar')
START_SECONDS = 900
CLONE = '/root/visitors'
# The first line makes the root a mount of its own, as a machine's is: `ip netns` changes how it propagates.
INSIDE = """
mount --bind "$0" "$0"
mount -t proc proc "$0/proc"
mount --rbind /sys "$0/sys"
mount --rbind /dev "$0/dev"
mount -t tmpfs tmpfs "$0/run"
exec chroot "$0" sh -c "cd $1 && exec $2"
"""
ENVIRONMENT = {'HOME': '/root', 'LANG': 'C.UTF-8',
               'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'}


class Machine:
    """A newcomer's machine: a folder that holds its root file system."""

    def __init__(self, root: Path) -> None:
        """Take a folder."""
        self._root = root

    def write(self, path: str, content: bytes) -> None:
        """Write a file, in place of an existing one."""
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(content)

    def start(self, *command: str) -> 'subprocess.Popen[bytes]':
        """Start a command in the clone; whatever it starts ends with it."""
        namespaces = ['unshare', '--mount', '--pid', '--fork', '--kill-child']
        return subprocess.Popen([*namespaces, 'sh', '-euc', INSIDE, str(self._root), CLONE, shlex.join(command)],
                                env=ENVIRONMENT, stdin=subprocess.DEVNULL)


def main(arguments: Sequence[str]) -> int:
    """Run the verbs on each system and return 0 if all of them succeed."""
    parser = argparse.ArgumentParser(prog='python -m tests.tools.matrix', description=str(__doc__).splitlines()[2])
    parser.add_argument('systems', nargs='*', metavar='SYSTEM', help=f'by default all of {", ".join(SYSTEMS)}')
    parser.add_argument('--verbs', nargs='+', choices=VERBS, default=VERBS, help='by default both')
    parser.add_argument('--tests', default='', help='these tests only, as in `make test TESTS=...`')
    options = parser.parse_args(arguments)
    unknown = set(options.systems) - SYSTEMS.keys()
    if unknown:
        parser.error(f'unknown system {", ".join(sorted(unknown))}; use {", ".join(SYSTEMS)}')
    if os.geteuid() or not shutil.which('unshare'):
        parser.exit(1, 'root and the command unshare are needed\n')

    results = {}
    for system in options.systems or SYSTEMS:
        with newcomer(SYSTEMS[system]) as machine:
            for verb in options.verbs:
                started = time.monotonic()
                print(f'=== {system}: make {verb}', flush=True)
                succeeds = serves(machine) if verb == 'run' else passes(machine, options.tests)
                end = 'succeeds' if succeeds else 'FAILS'
                results[f'{system}: make {verb} {end} after {time.monotonic() - started:.0f} s'] = succeeds
    print('\n'.join(f'=== {line}' for line in results))
    return 0 if all(results.values()) else 1


@contextmanager
def newcomer(suite: str) -> Iterator[Machine]:
    """Give a machine with a clone, which reaches packages by this machine's settings."""
    archive = root_filesystem('newcomer', PACKAGES, options=MINIMAL, suite=suite)
    with tempfile.TemporaryDirectory(prefix='visitors-newcomer-', dir='/var/tmp') as name:
        root = Path(name)
        subprocess.run(['tar', '--extract', '--file', str(archive), '--directory', name], check=True)
        machine = Machine(root)
        machine.write('etc/apt/sources.list', '\n'.join([*sources(suite), '']).encode())
        machine.write('etc/apt/apt.conf.d/99-as-outside', apt_settings().encode())
        machine.write('etc/pip.conf', pip_settings().encode())
        machine.write('etc/ssl/certs/ca-certificates.crt', certificates())
        for path in ('etc/resolv.conf', 'etc/hosts'):
            machine.write(path, (Path('/') / path).read_bytes())
        subprocess.run(['git', 'clone', '--quiet', str(ROOT), f'{root}{CLONE}'], check=True)
        yield machine


def serves(machine: Machine) -> bool:
    """Return whether `make run` comes to serve the page and counts a visit."""
    port = free_port()
    address = f'http://127.0.0.1:{port}'
    process = machine.start('make', 'run', f'PORT={port}')
    try:
        eventually(lambda: answers(address) or process.poll() is not None, 'it serves or ends', START_SECONDS)
        requests.get(address, headers={'User-Agent': BROWSER}, timeout=30).raise_for_status()
        return bool(requests.get(f'{address}/stats.json', timeout=30).json()['total'] == 1)
    except (AssertionError, requests.ConnectionError):
        return False
    finally:
        process.kill()
        process.wait()


def passes(machine: Machine, tests: str) -> bool:
    """Return whether `make test` succeeds."""
    return machine.start('make', 'test', *([f'TESTS={tests}'] if tests else [])).wait() == 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
