"""python -m tests.tools.packages FILE...: install the programs that lists name and this machine lacks.

A line is `COMMAND PACKAGE`: the command or shared library that is needed, and the Debian package that holds it. Both
may be a choice, as in `docker docker-cli|docker.io`: one of the commands will do, and the first package counts that
this release has.
`>=VERSION` behind a command asks for so new a one. `else ADVICE` says where to get it where no package has it.
With apt, missing packages are installed, as root or with sudo; elsewhere they are only named.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
import ctypes
from dataclasses import dataclass
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

# A package asks this program before it starts its service; the tests start servers of their own.
POLICY = Path('/usr/sbin/policy-rc.d')
NOT_NOW = '#!/bin/sh\nexit 101\n'
# Another process may be installing at this moment.
APT = ('apt-get', '--quiet', '--quiet', '--option', 'DPkg::Lock::Timeout=600')
# Where packages put programs that are not on a user's PATH.
FOLDERS = ('/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/lib/systemd', '/usr/lib/postgresql/*/bin',
           '/usr/pgsql-*/bin')
LINE = re.compile(r'(?P<commands>\S+)\s+(?P<packages>\S+)(?:\s+else\s+(?P<advice>.+))?')
VERSION_SECONDS = 20


@dataclass(frozen=True)
class Wanted:
    """A line of a list: alternative commands, the least version, packages, and advice for systems without them."""

    commands: tuple[str, ...]
    least: tuple[int, ...]
    packages: tuple[str, ...]
    advice: str

    @property
    def text(self) -> str:
        """The commands, as a message names them."""
        least = f' {".".join(map(str, self.least))} or newer' if self.least else ''
        return ' or '.join(self.commands) + least

    @property
    def is_met(self) -> bool:
        """Whether one of the commands is installed, and new enough."""
        paths = filter(None, map(program, self.commands))
        is_met = any(not self.least or _version(path) >= self.least for path in paths)
        return is_met or any(map(_is_library, self.commands))


def _is_library(name: str) -> bool:
    """Return whether a name is that of a shared library that a program can load here."""
    if '.so' not in name:
        return False
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def program(name: str) -> Path | None:
    """Return the path of a program on PATH or in the folders of packages; None if it is missing."""
    on_path = shutil.which(name)
    if on_path:
        return Path(on_path)
    beside = [path for folder in FOLDERS for path in Path('/').glob(f'{folder[1:]}/{name}')]
    usable = [path for path in beside if os.access(path, os.X_OK)]
    # The newest one, where the folder's name holds a version.
    return max(usable, key=lambda path: [int(number) for number in re.findall('[0-9]+', str(path))], default=None)


def main(files: Iterable[str]) -> None:
    """Install the missing entries of the lists; where that is impossible, name them and end with 1."""
    missing = [each for file in files for each in read(file) if not each.is_met]
    if not missing:
        return

    message = f'missing: {", ".join(each.text for each in missing)}.'
    packages = ' '.join(each.packages[-1] for each in missing)
    if not shutil.which('apt-get'):
        sys.exit(_with_advice(f'{message} There is no apt here: install them by the means of this system '
                              f'(on Debian the packages {packages}), then start again.', missing))
    if os.geteuid() and not shutil.which('sudo'):
        sys.exit(_with_advice(f'{message} Run this as root, or let root run: apt-get install {packages}', missing))
    print(f'installing {", ".join(" or ".join(each.packages) for each in missing)}', flush=True)
    _install(missing, [] if os.geteuid() == 0 else ['sudo'])


def read(file: str) -> Iterator[Wanted]:
    """Yield the entries of a list."""
    for line in Path(file).read_text(encoding='utf-8').splitlines():
        text = re.sub(r'(^|\s+)#.*', '', line).strip()
        if not text:
            continue
        parts = LINE.fullmatch(text)
        if not parts:
            sys.exit(f'{file}: {line!r} is no line of COMMAND PACKAGE')
        commands, _, least = parts['commands'].partition('>=')
        yield Wanted(tuple(commands.split('|')), _numbers(least), tuple(parts['packages'].split('|')),
                     parts['advice'] or '')


def _version(path: Path) -> tuple[int, ...]:
    """Return the version that a program prints, or nothing: then it is another program of the same name."""
    try:
        result = subprocess.run([path, 'version'], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                timeout=VERSION_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r'\bv?([0-9]+(?:\.[0-9]+)+)', result.stdout)
    return _numbers(match[1]) if match else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split('.'))) if version else ()


def _with_advice(message: str, missing: Iterable[Wanted]) -> str:
    return '\n'.join([message, *(f'{each.text}: {each.advice}' for each in missing if each.advice)])


def _install(missing: list[Wanted], as_root: list[str]) -> None:
    os.environ['DEBIAN_FRONTEND'] = 'noninteractive'
    with _services_at_rest(as_root):
        _run(*as_root, *APT, 'update')
        chosen = {each: _first_known(each) for each in missing}
        nowhere = [each for each, package in chosen.items() if not package]
        if nowhere:
            sys.exit(_with_advice(f'missing: {", ".join(each.text for each in nowhere)}. '
                                  'This release of the system has no package for it.', nowhere))
        packages = sorted({package for package in chosen.values() if package})
        _run(*as_root, *APT, '--yes', '--no-install-recommends', 'install', *packages)


def _first_known(wanted: Wanted) -> str | None:
    """Return the first package of a choice that apt can install."""
    for package in wanted.packages:
        shown = subprocess.run(['apt-cache', 'policy', package], capture_output=True, text=True, check=False).stdout
        if re.search(r'^ +Candidate: (?!\(none\))', shown, re.MULTILINE):
            return package
    return None


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
    # apt's account of each package is shown only if something fails.
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, check=False)
    if result.returncode:
        sys.exit(f'{result.stdout}{" ".join(command)} ended with {result.returncode}')


if __name__ == '__main__':
    main(sys.argv[1:])
