"""python -m release VERB: the verbs and their exit codes, nothing else."""

import argparse
from collections.abc import Sequence
import json
import os
import sys

from release.version import build_version, VersionError

EXIT_CODES = 'exit codes: 0 done, 1 it could not be done and the last line says why, 2 wrong usage'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        build = build_version(os.environ)
    except VersionError as error:
        print(f'release {options.verb}: {error}', file=sys.stderr)
        return 1

    print(json.dumps(build.as_dict(), indent=2) if options.json else build.image_tag if options.tag else build.version)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='release', description='Release this application.', epilog=EXIT_CODES)
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
    version = verbs.add_parser('version', help='print the version of a build made now from this checkout',
                               description='Print the version of a build made now from this checkout: version.txt '
                                           'and the build number of the CI, or else the number of commits.')
    form = version.add_mutually_exclusive_group()
    form.add_argument('--tag', action='store_true', help='print it in the form of an image tag, 1.0.2-build.41')
    form.add_argument('--json', action='store_true', help='print version, image tag, commit and build time as JSON')
    return parser


if __name__ == '__main__':
    sys.exit(main())
