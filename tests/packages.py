"""python -m tests.packages FILE...: install what lists of Debian packages name and this machine lacks.

A line is a PACKAGE, or `PACKAGE unless COMMAND` for what may be there in another way; PACKAGE may be a choice, as in
`docker-cli|docker.io`, of which the first counts that this release of Debian has. Needs root, or sudo.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import os
from pathlib import Path
import shutil
import subprocess
import sys

# What a service's package asks before it starts its service; the tests start servers of their own.
POLICY = Path('/usr/sbin/policy-rc.d')
NOT_NOW = '#!/bin/sh\nexit 101\n'
# Somebody else may be installing at this moment.
APT = ('apt-get', '--quiet', '--quiet', '--option', 'DPkg::Lock::Timeout=600')


@dataclass(frozen=True)
class Wanted:
    """One line of a list: packages of which one will do, and the command that makes them needless."""

    choice: tuple[str, ...]
    command: str | None

    @property
    def text(self) -> str:
        """What a person would have to install."""
        return ' or '.join(self.choice)


def main(files: Iterable[str]) -> None:
    """Install what the lists name and is missing; end with 1 and say what that is where it cannot be done."""
    missing = missing_of([each for file in files for each in read(file)])
    if not missing:
        return

    told = ', '.join(each.text for each in missing)
    if not shutil.which('apt-get'):
        sys.exit(f'missing: {told}. This is not Debian: install what they hold, then start again.')
    if os.geteuid() and not shutil.which('sudo'):
        packages = ' '.join(each.choice[-1] for each in missing)
        sys.exit(f'missing: {told}. Run this as root, or let root run: apt-get install {packages}')
    print(f'installing {told}', flush=True)
    _install(missing, [] if os.geteuid() == 0 else ['sudo'])


def read(file: str) -> Iterator[Wanted]:
    """Yield what a list names."""
    for line in Path(file).read_text(encoding='utf-8').splitlines():
        package, _, command = (part.strip() for part in line.partition('#')[0].partition(' unless '))
        if package:
            yield Wanted(tuple(package.split('|')), command or None)


def missing_of(wanted: list[Wanted]) -> list[Wanted]:
    """Return what is neither installed nor made needless by a command."""
    command = ['dpkg-query', '--show', '--showformat=${db:Status-Status} ${Package}\\n']
    has_dpkg = shutil.which('dpkg-query')
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout if has_dpkg else ''
    installed = {line.partition(' ')[2] for line in listed.splitlines() if line.startswith('installed ')}
    return [each for each in wanted
            if not installed & set(each.choice) and not (each.command and shutil.which(each.command))]


def _install(missing: list[Wanted], as_root: list[str]) -> None:
    os.environ['DEBIAN_FRONTEND'] = 'noninteractive'
    with _services_at_rest(as_root):
        _run(*as_root, *APT, 'update')
        packages = sorted({_first_known(each) for each in missing})
        _run(*as_root, *APT, '--yes', '--no-install-recommends', 'install', *packages)


def _first_known(wanted: Wanted) -> str:
    for package in wanted.choice[:-1]:
        if subprocess.run(['apt-cache', 'show', package], capture_output=True, check=False).returncode == 0:
            return package
    return wanted.choice[-1]  # if apt does not know this one either, it says so best itself


@contextmanager
def _services_at_rest(as_root: list[str]) -> Iterator[None]:
    if POLICY.exists():
        yield
        return

    subprocess.run([*as_root, 'tee', str(POLICY)], input=NOT_NOW, text=True, stdout=subprocess.DEVNULL, check=True)
    _run(*as_root, 'chmod', '755', str(POLICY))
    try:
        yield
    finally:
        _run(*as_root, 'rm', '--force', str(POLICY))


def _run(*command: str) -> None:
    # What apt tells of each package goes away unless something fails.
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if done.returncode:
        sys.exit(f'{done.stdout}{" ".join(command)} ended with {done.returncode}')


if __name__ == '__main__':
    main(sys.argv[1:])
