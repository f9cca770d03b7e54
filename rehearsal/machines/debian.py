"""Root file systems of Debian, 13 by default, made by mmdebstrap from the package sources of this host."""

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
# Documentation and translations are half of the packages and have no reader here.
EXCLUDED = tuple(f'--dpkgopt=path-exclude=/usr/share/{name}/*' for name in ('doc', 'info', 'locale', 'man'))
# The package sources of this host may hold its credentials; a root file system must have neither.
TIDY = ('rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/99mmdebstrap '
        '"$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$1"/var/lib/apt/lists/* "$1"/var/cache/*/* "$1"/var/log/*')


def root_filesystem(name: str, packages: Sequence[str], hooks: Sequence[str] = (),
                    options: Sequence[str] = ESSENTIALS, suite: str = SUITE) -> Path:
    """Return a tar archive of a Debian with these packages, changed by hooks: shell lines, the root as $1."""
    arguments = [*options, *EXCLUDED, f'--include={",".join(packages)}',
                 *(f'--customize-hook={hook}' for hook in (TIDY, *hooks))]
    return kept(f'{name}-{suite}.tar', '\n'.join(arguments), lambda path: _bootstrap(path, arguments, suite))


def _bootstrap(path: Path, arguments: Sequence[str], suite: str) -> None:
    if not shutil.which('mmdebstrap'):
        raise RehearsalError('mmdebstrap, which makes root file systems, is missing: apt-get install mmdebstrap')
    with tempfile.NamedTemporaryFile('w', suffix='.conf') as settings:
        settings.write(apt_settings())
        settings.flush()
        command = ['mmdebstrap', '--quiet', f'--aptopt={settings.name}', *arguments, suite, str(path), *sources(suite)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RehearsalError(f'mmdebstrap failed with {result.returncode}:\n{result.stderr}')


def apt_settings() -> str:
    """Return the settings of this host's apt for fetching, such as a proxy; mmdebstrap reads none by itself."""
    settings = subprocess.run(['apt-config', 'dump'], capture_output=True, text=True, check=True).stdout
    return ''.join(line for line in settings.splitlines(keepends=True)
                   if re.match('Acquire::(Check|http|https|Retries)', line))


def sources(suite: str = SUITE) -> list[str]:
    """Return this host's package sources of Debian with the suite changed; without any mmdebstrap uses public ones."""
    form = 'deb [check-valid-until=no] $(REPO_URI) $(RELEASE) $(COMPONENT)|$(ORIGIN)'
    listed = subprocess.run(['apt-get', 'indextargets', '--format', form, 'Created-By: Packages'],
                            capture_output=True, text=True, check=True).stdout
    codename = re.search('^VERSION_CODENAME=(.*)$', Path('/etc/os-release').read_text(encoding='utf-8'), re.MULTILINE)
    lines = [line.removesuffix('|Debian') for line in listed.splitlines() if line.endswith('|Debian')]
    return sorted({re.sub(rf' {codename[1]}\b', f' {suite}', line) for line in lines}) if codename else []


def mirrors() -> dict[str, str]:
    """Return the URLs of the folders of Debian's archive for this host's apt, without a slash at the end."""
    urls = {folder: f'http://deb.debian.org/{folder}' for folder in ('debian', 'debian-security')}
    for line in sources():
        _, _, url, suite, *_ = line.split()
        urls['debian-security' if suite.endswith('-security') else 'debian'] = url.rstrip('/')
    return urls


def proxies() -> dict[str, str]:
    """Return the proxies of this host's apt, by scheme."""
    settings = re.findall(r'^Acquire::(https?)::Proxy "([^"]+)";$', apt_settings(), re.MULTILINE)
    return {scheme: proxy for scheme, proxy in settings if proxy != 'DIRECT'}
