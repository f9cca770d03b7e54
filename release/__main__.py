"""python -m release VERB: run a verb, print its result, and end with its exit code."""

import argparse
from collections.abc import Sequence
import json
import os
import sys

from release.commandline import missing, print_out
from release.errors import Exit, Interrupted, NotReady, ReleaseError
from release.options import make_parser, RENAMED
from release.version import build_version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in RENAMED:
        print(f'release {arguments[0]}: this verb is now called `release {RENAMED[arguments[0]]}`; nothing was done',
              file=sys.stderr)
        return Exit.USAGE
    options = make_parser().parse_args(arguments)
    try:
        text, code = _result(options)
        print_out(f'{text}\n')
    except ReleaseError as error:
        print(f'release {options.verb}: {error}', file=sys.stderr)
        return error.exit_code
    except Interrupted as error:
        print(f'release {options.verb}: ended by {error}', file=sys.stderr)
        return error.exit_code
    return code


def _result(options: argparse.Namespace) -> tuple[str, int]:
    if options.verb == 'version':
        build = build_version(os.environ)
        text = build.image_tag if options.tag else build.version
        return json.dumps(build.as_dict(), indent=2) if options.json else text, Exit.DONE

    # Imported here because `version` must run with nothing installed: the installation itself asks for it.
    try:
        from release.verbs import carry_out
    except ModuleNotFoundError as error:
        if (error.name or '').partition('.')[0] == 'release':
            raise
        raise NotReady(missing(error.name, 'release')) from None
    result = carry_out(options, os.environ)
    return json.dumps(result.data, indent=2) if options.json else result.text, result.exit_code


if __name__ == '__main__':
    sys.exit(main())
