"""python -m release VERB: the verbs, their options and their exit codes, nothing else."""

import argparse
from collections.abc import Sequence
import json
import os
import re
import sys

from release.commandline import add_completion, add_version, completion, examples, missing, Parser
from release.errors import Exit, Interrupted, NotReady, ReleaseError
from release.names import AMI, KEY
from release.version import build_version

EXIT_CODES = 'exit codes:\n' + '\n'.join(f'  {code.value:<4}{code.meaning}' for code in Exit)
ENVIRONMENT = """
AWS is told by the environment, as to every AWS SDK: AWS_REGION (or AWS_DEFAULT_REGION), AWS_PROFILE or
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ENDPOINT_URL.

"""
BEGIN = f"""release VERB --help explains each verb, with examples.

{completion('release')}
"""
# What scan.py and bake.py know as well; they import what `version` must do without, and a test compares.
SEVERITIES = ('negligible', 'low', 'medium', 'high', 'critical')


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        print(_result(options))
    except ReleaseError as error:
        print(f'release {options.verb}: {error}', file=sys.stderr)
        return error.code
    except Interrupted as error:
        print(f'release {options.verb}: ended by {error}', file=sys.stderr)
        return error.code
    return Exit.DONE


def _result(options: argparse.Namespace) -> str:
    if options.verb == 'version':
        build = build_version(os.environ)
        text = build.image_tag if options.tag else build.version
        return json.dumps(build.as_dict(), indent=2) if options.json else text

    # Only now: `version` has to work with nothing installed, because it makes what an installation is tagged with.
    try:
        from release.verbs import carry_out
    except ModuleNotFoundError as error:
        if (error.name or '').partition('.')[0] == 'release':
            raise
        raise NotReady(missing(error.name, 'release')) from None
    result = carry_out(options, os.environ)
    return json.dumps(result.data, indent=2) if options.json else result.text


def _parser() -> Parser:
    parser = Parser(prog='release', description='Release this application.', epilog=f'{BEGIN}{EXIT_CODES}')
    add_version(parser)
    add_completion(parser)
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
    _add_version(_verb(verbs, 'version', 'print the version of a build made now from this checkout', """
        Print the version of a build made now from this checkout: version.txt and the build number of the CI, or else
        the number of commits.""", 'release version --tag', 'release version --json'))
    _add_archive(_verb(verbs, 'archive', 'save a container image to a file named by its digest', """
        Save a container image of the Docker engine to build/images/DIGEST.tar, and print that path. A bake takes such
        a file on a machine that has no Docker engine, and checks it.""",
                       'release archive visitors:1.0.2-build.41'))
    _add_bake(_verb(verbs, 'bake', 'make a released machine image of a container image', """
        Bake a machine image: a base with the system and the engine, on it the application, in two stages. What was
        baked from the same inputs before is found by its tags and taken; so nothing is started where nothing has
        changed. A new image is booted, tests itself, and is released only if it passes. Prints the image's id; writes
        what was done, and how long each part took, to build/bake.json.""",
                    'release bake --image visitors:1.0.2-build.41',
                    'release bake --archive build/images/*.tar --force',
                    'release bake --archive build/images/*.tar --explain', environment=ENVIRONMENT))
    _add_verify(_verb(verbs, 'verify', 'boot a copy of an image, which tests itself, and release the image', """
        Start a copy of a machine image in self-test mode, follow its console, and tag the image Released=true if it
        passes. If a check fails, tag it Released=false and say which. If no verdict comes in time, the image stays
        released or not, as it was, and the tag Verified says so. The copy is terminated in any case.""",
                      'release verify ami-0123456789abcdef0',
                      'release verify ami-0123456789abcdef0 --subnet subnet-0123456789abcdef0',
                      environment=ENVIRONMENT))
    _add_list(_verb(verbs, 'list', 'list the images of this project: version, key, age, and what uses each', """
        List the machine images of this project, the newest first: version, commit, key, age, whether it is released,
        and what runs or would start it.""", 'release list', 'release list --json', environment=ENVIRONMENT))
    _add_purge(_verb(verbs, 'purge', 'remove an image that was found broken', """
        Remove a machine image, or all that were baked from the inputs of a key: the image, its snapshots, what is kept
        beside it. Shows them first, and asks. Refused where an instance runs it or something would start it: a group,
        an instance refresh, a fleet, a launch configuration, the default or latest version of a launch template.
        What is not understood counts as a use. A removal that failed goes on when it is called again.""",
                     'release purge ami-0123456789abcdef0', 'release purge 0123456789abcdef --yes',
                     environment=ENVIRONMENT))
    _add_artefacts(_verb(verbs, 'artefacts', 'fetch what is kept beside an image: SBOM, package list, inputs', """
        Copy what is kept beside a machine image to a folder of its id, and print the paths.""",
                         'release artefacts ami-0123456789abcdef0 --to build', environment=ENVIRONMENT))
    return parser


def _verb(verbs: 'argparse._SubParsersAction[Parser]', name: str, summary: str, description: str, *shown: str,
          environment: str = '') -> Parser:
    lines = '\n'.join(line.strip() for line in description.strip().splitlines())
    epilog = examples(*(f'bin/{line}' for line in shown)) + environment.lstrip('\n') + EXIT_CODES
    return verbs.add_parser(name, help=summary, description=lines, epilog=epilog)


def _add_version(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument('--tag', action='store_true', help='print it in the form of an image tag, 1.0.2-build.41')
    form.add_argument('--json', action='store_true', help='print version, image tag, commit and build time as JSON')


def _add_archive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('image', metavar='NAME', help='name of the image, such as visitors:1.0.2-build.41')
    _add_json(parser)


def _add_bake(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--image', metavar='NAME', help='name of the container image in the Docker engine')
    source.add_argument('--archive', metavar='FILE', help='file that `release archive` or `docker save` has written')
    parser.add_argument('--force', action='store_true', help='bake both stages, also if there is an image of the same '
                        'inputs')
    parser.add_argument('--explain', action='store_true', help='only say which inputs differ from those of the image '
                        'that runs, or else of the newest; begin nothing')
    parser.add_argument('--scan', choices=SEVERITIES, metavar='SEVERITY', help='do not release an image with '
                        f'a vulnerability so severe that has a fix: {", ".join(SEVERITIES)}; needs grype')
    _add_subnet(parser)
    _add_store(parser)
    _add_cloud(parser, seconds=5400)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('ami', metavar='AMI', type=_ami, help='id of the image')
    _add_subnet(parser)
    _add_cloud(parser, seconds=900)


def _add_list(parser: argparse.ArgumentParser) -> None:
    _add_cloud(parser, seconds=300)


def _add_purge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--yes', action='store_true', help='remove without a question; needed where no terminal can '
                        'answer, and in a CI')
    parser.add_argument('which', metavar='KEY|AMI', type=_key_or_ami, help='id of an image, or a key as `bake '
                        '--explain` prints it')
    _add_store(parser)
    _add_cloud(parser, seconds=300)


def _add_artefacts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('ami', metavar='AMI', type=_ami, help='id of the image')
    parser.add_argument('--to', metavar='FOLDER', default='.', help='where to make the folder of that id; here, if '
                        'not said otherwise')
    _add_store(parser)
    _add_cloud(parser, seconds=300)


def _add_subnet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--subnet', metavar='ID', default=os.environ.get('VISITORS_SUBNET', ''),
                        help='subnet for the machines; VISITORS_SUBNET, or else the default one of the region')


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--artefacts', metavar='PLACE', help='where files are kept beside an image: a folder, or '
                        's3://BUCKET/PREFIX; VISITORS_ARTEFACTS, or else build/artefacts')


def _add_cloud(parser: argparse.ArgumentParser, seconds: float) -> None:
    parser.add_argument('--region', help='AWS region; AWS_REGION, if it is not given')
    parser.add_argument('--timeout', type=_seconds, default=seconds, metavar='SECONDS',
                        help=f'how long all of it may take; {seconds:.0f}, if not said otherwise')
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--json', action='store_true', help='print the result as JSON')


def _seconds(text: str) -> float:
    if not re.fullmatch('[0-9]{1,5}', text) or not 1 <= int(text) <= 86400:
        raise argparse.ArgumentTypeError(f'{text!r}: use a whole number of seconds from 1 to 86400')
    return float(text)


def _ami(text: str) -> str:
    if not AMI.fullmatch(text):
        raise argparse.ArgumentTypeError(f'{text!r}: use the id of an image, as in ami-0123456789abcdef0')
    return text


def _key_or_ami(text: str) -> str:
    if not KEY.fullmatch(text) and not AMI.fullmatch(text):
        raise argparse.ArgumentTypeError(f'{text!r}: use the id of an image, as in ami-0123456789abcdef0, or a key, '
                                         'as in 0123456789abcdef')
    return text


if __name__ == '__main__':
    sys.exit(main())
