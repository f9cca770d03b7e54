"""Root file systems of Debian, 13 by default, made by mmdebstrap from where this machine's apt gets its packages."""

from collections.abc import Sequence
from pathlib import Path
import re
import shutil
import subprocess
import tempfile

from rehearsal.errors import RehearsalError
from rehearsal.machines.cache import kept

SUITE = 'trixie'
ESSENTIALS = ('--variant=essential', '--format=tar')
# Documentation and translations are half of the packages and nobody reads them here.
LEAVE_OUT = tuple(f'--dpkgopt=path-exclude=/usr/share/{name}/*' for name in ('doc', 'info', 'locale', 'man'))
# The machine's package sources may hold its credentials; what is made here has to be free of both.
TIDY = ('rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/99mmdebstrap '
        '"$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$1"/var/lib/apt/lists/* "$1"/var/cache/*/* "$1"/var/log/*')


def root_filesystem(name: str, packages: Sequence[str], hooks: Sequence[str] = (),
                    options: Sequence[str] = ESSENTIALS, suite: str = SUITE) -> Path:
    """Return a tar archive of a Debian with these packages, changed by hooks: shell lines, the root as $1."""
    arguments = [*options, *LEAVE_OUT, f'--include={",".join(packages)}',
                 *(f'--customize-hook={hook}' for hook in (TIDY, *hooks))]
    return kept(f'{name}-{suite}.tar', '\n'.join(arguments), lambda path: _bootstrap(path, arguments, suite))


def _bootstrap(path: Path, arguments: Sequence[str], suite: str) -> None:
    if not shutil.which('mmdebstrap'):
        raise RehearsalError('no mmdebstrap, which makes images of Debian: apt-get install mmdebstrap')
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as settings:
        settings.write(apt_settings())
        settings.flush()
        command = ['mmdebstrap', '--quiet', f'--aptopt={settings.name}', *arguments, suite, str(path), *sources(suite)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RehearsalError(f'mmdebstrap ended with {done.returncode}:\n{done.stderr}')


def apt_settings() -> str:
    """Return this machine's settings of how apt fetches, such as a proxy; mmdebstrap reads none by itself."""
    settings = subprocess.run(['apt-config', 'dump'], capture_output=True, text=True, check=True).stdout
    return ''.join(line for line in settings.splitlines(keepends=True)
                   if re.match('Acquire::(Check|http|https|Retries)', line))


def sources(suite: str = SUITE) -> list[str]:
    """Return this machine's own sources of Debian with the suite changed; without any mmdebstrap knows public ones."""
    form = 'deb [check-valid-until=no] $(REPO_URI) $(RELEASE) $(COMPONENT)|$(ORIGIN)'
    listed = subprocess.run(['apt-get', 'indextargets', '--format', form, 'Created-By: Packages'],
                            capture_output=True, text=True, check=True).stdout
    codename = re.search('^VERSION_CODENAME=(.*)$', Path('/etc/os-release').read_text(encoding='utf-8'), re.MULTILINE)
    ours = [line.removesuffix('|Debian') for line in listed.splitlines() if line.endswith('|Debian')]
    return sorted({re.sub(rf' {codename[1]}\b', f' {suite}', line) for line in ours}) if codename else []


def mirrors() -> dict[str, str]:
    """Return where this machine's apt finds the folders of Debian's archive, without a slash at the end."""
    found = {folder: f'http://deb.debian.org/{folder}' for folder in ('debian', 'debian-security')}
    for line in sources():
        _, _, place, suite, *_ = line.split()
        found['debian-security' if suite.endswith('-security') else 'debian'] = place.rstrip('/')
    return found


def proxies() -> dict[str, str]:
    """Return the proxies that this machine's apt goes through, by scheme."""
    found = re.findall(r'^Acquire::(https?)::Proxy "([^"]+)";$', apt_settings(), re.MULTILINE)
    return {scheme: proxy for scheme, proxy in found if proxy != 'DIRECT'}
