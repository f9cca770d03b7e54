"""Which version this is, found beside the code and not in the working directory."""

from dataclasses import dataclass
import json
from pathlib import Path

from visitors.settings import ROOT

UNKNOWN = 'unknown'


@dataclass(frozen=True)
class Version:
    """The version of this code, `1.0.2+build.41`, and the commit and moment it was built from."""

    version: str
    commit: str = UNKNOWN
    build_time: str = UNKNOWN


def read_version(root: Path = ROOT) -> Version:
    """Return what the build has written into build.json, or version.txt's number where there was no build.

    A build.json of another MAJOR.MINOR.PATCH than version.txt is an earlier build's and does not count.
    """
    number = (root / 'version.txt').read_text(encoding='utf-8').strip()
    try:
        build = json.loads((root / 'build.json').read_text(encoding='utf-8'))
        made = Version(str(build['version']), str(build['commit']), str(build['build_time']))
    except (OSError, ValueError, LookupError, TypeError):  # missing, unreadable, no JSON, or another program's
        return Version(number)
    return made if made.version.partition('+')[0] == number else Version(number)
