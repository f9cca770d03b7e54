"""The version of this code, read beside it and not in the working directory."""

from dataclasses import dataclass
import json
from pathlib import Path

from visitors.settings import ROOT

UNKNOWN = 'unknown'


@dataclass(frozen=True)
class Version:
    """The version of this code, such as `1.0.2+build.41`, and the commit and time of its build."""

    version: str
    commit: str = UNKNOWN
    build_time: str = UNKNOWN


def read_version(root: Path = ROOT) -> Version:
    """Return the version in build.json, which a build writes, or else the number in version.txt.

    A build.json with another MAJOR.MINOR.PATCH than version.txt is ignored, because an earlier build wrote it.
    """
    number = (root / 'version.txt').read_text(encoding='utf-8').strip()
    try:
        build = json.loads((root / 'build.json').read_text(encoding='utf-8'))
        version = Version(str(build['version']), str(build['commit']), str(build['build_time']))
    except (OSError, ValueError, LookupError, TypeError):  # missing, unreadable, no JSON, or another program's
        return Version(number)
    return version if version.version.partition('+')[0] == number else Version(number)
