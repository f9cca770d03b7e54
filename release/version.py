"""The version of this build: version.txt's number, and a build number that nobody has to write down."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
import re
import subprocess

from release.errors import NotReady

ROOT = Path(__file__).resolve().parent.parent
# The counters of GitLab, Bitbucket and Jenkins. GitLab's rises by pipeline, so a job's retry keeps its number.
BUILD_COUNTERS = ('CI_PIPELINE_IID', 'BITBUCKET_BUILD_NUMBER', 'BUILD_NUMBER')


class VersionError(NotReady):
    """The version of this build cannot be told; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class BuildVersion:
    """A build's version, the tag of its image, the commit it is made from and the moment, in UTC."""

    version: str
    image_tag: str
    commit: str
    build_time: str

    def as_dict(self) -> dict[str, str]:
        """Return the fields by their names, as build.json holds them."""
        return asdict(self)


def build_version(environ: Mapping[str, str], root: Path = ROOT) -> BuildVersion:
    """Return the version of a build made now from this checkout; raise VersionError where it cannot be told."""
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
        raise VersionError('this clone is shallow, so its commits cannot be counted; run git fetch --unshallow, '
                           f'or set one of {", ".join(BUILD_COUNTERS)}')
    return int(_git(root, 'rev-list', '--count', 'HEAD'))


def _counter(name: str, text: str) -> int:
    if not re.fullmatch(r'[0-9]{1,12}', text):
        raise VersionError(f'{name}={text}: a build number is a whole number')
    return int(text)


def _git(root: Path, *arguments: str) -> str:
    # A checkout that another user owns (CI, a mounted folder) is ours to read all the same.
    command = ['git', '-c', f'safe.directory={root}', '-C', str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise VersionError('git is not installed, so the commit cannot be told; install git') from None
    except subprocess.CalledProcessError as error:
        raise VersionError(f'git {" ".join(arguments)}: {error.stderr.strip()}; build from a git checkout') from None
    return done.stdout.strip()
