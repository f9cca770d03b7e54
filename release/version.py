"""The version of a build: the number in version.txt, and a build number from the CI or the commits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
import re
import subprocess

from release.errors import NotReady

ROOT = Path(__file__).resolve().parent.parent
# The counters of GitLab, Bitbucket and Jenkins. GitLab counts pipelines, so a retried job keeps its number.
BUILD_COUNTERS = ('CI_PIPELINE_IID', 'BITBUCKET_BUILD_NUMBER', 'BUILD_NUMBER')


class VersionError(NotReady):
    """The version of this build is unknown; the text names the cause and the remedy."""


@dataclass(frozen=True)
class BuildVersion:
    """A build: its version, the tag of its image, its commit and its time in UTC."""

    version: str
    image_tag: str
    commit: str
    build_time: str

    def as_dict(self) -> dict[str, str]:
        """Return the content of build.json."""
        return asdict(self)


def build_version(environ: Mapping[str, str], root: Path = ROOT) -> BuildVersion:
    """Return the version of a build made now from this checkout; raise VersionError if it is unknown."""
    number = _number(root)
    build = _build_number(environ, root)
    return BuildVersion(
        version=f'{number}+build.{build}',
        image_tag=f'{number}-build.{build}',  # an image tag may not hold a plus sign
        commit=_git(root, 'rev-parse', 'HEAD'),
        build_time=datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ'),
    )


def _number(root: Path) -> str:
    number = (root / 'version.txt').read_text(encoding='utf-8').strip()
    if not re.fullmatch(r'(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}', number):
        raise VersionError(f'version.txt holds {number!r}; write MAJOR.MINOR.PATCH, as in 1.0.2')
    return number


def _build_number(environ: Mapping[str, str], root: Path) -> int:
    for name in BUILD_COUNTERS:
        if environ.get(name):
            return _counter(name, environ[name])
    if _git(root, 'rev-parse', '--is-shallow-repository') == 'true':
        raise VersionError('this clone is shallow, so the number of commits is unknown; run git fetch --unshallow, '
                           f'or set one of {", ".join(BUILD_COUNTERS)}')
    return int(_git(root, 'rev-list', '--count', 'HEAD'))


def _counter(name: str, text: str) -> int:
    if not re.fullmatch(r'[0-9]{1,12}', text):
        raise VersionError(f'{name}={text}: a build number is a whole number')
    return int(text)


def _git(root: Path, *arguments: str) -> str:
    # Another user may own the checkout (in a CI or a mounted folder); git reads it only with this setting.
    command = ['git', '-c', f'safe.directory={root}', '-C', str(root), *arguments]
    try:
        process = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise VersionError('git is not installed, so the commit is unknown; install git') from None
    except subprocess.CalledProcessError as error:
        raise VersionError(f'git {" ".join(arguments)}: {error.stderr.strip()}; build from a git checkout') from None
    return process.stdout.strip()
