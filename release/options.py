"""The verbs of the release tool and their options, with the forms of the values that users type."""

import argparse
import os
import re

from release.commandline import add_completion, add_version, completion, examples, Parser
from release.errors import Exit

AMI_ID = re.compile(r'ami-[0-9a-z]{8,}')
VERSION = re.compile(r'[0-9]+\.[0-9]+\.[0-9]+(\+build\.[0-9]+)?')
# release/input_hash.py has the same length; `version` runs without the libraries that it imports.
INPUT_HASH = re.compile('[0-9a-f]{16}')
# The severities of grype, which `--scan` passes on.
SEVERITIES = ('negligible', 'low', 'medium', 'high', 'critical')
# Former names of verbs. Each is accepted for one release, and only to name its successor.
RENAMED = {'purge': 'remove'}
LONGEST_RUN_HOURS = 24
EXIT_CODES = 'exit codes:\n' + '\n'.join(f'  {code.value:<4}{code.meaning}' for code in Exit)
STAGING = '--group visitors-staging'  # in examples
STAGING_PAGE = f'{STAGING} --url https://staging.visitors.example.com'
ENVIRONMENT = """
The usual AWS variables set the region and the credentials: AWS_REGION (or AWS_DEFAULT_REGION), AWS_PROFILE or
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ENDPOINT_URL.

"""
EPILOG = f"""release VERB --help explains each verb, with examples.

{completion('release')}
"""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(prog='release', description='Release this application.', epilog=f'{EPILOG}{EXIT_CODES}')
    add_version(parser)
    add_completion(parser)
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
    _add_version(_verb(verbs, 'version', 'print the version of a build of this checkout', """
        Print the version of a build of this checkout: version.txt, and as build number the one of the CI, or else the
        number of commits.""", 'release version --tag', 'release version --json'))
    _add_archive(_verb(verbs, 'archive', 'save a container image to a file named by its digest', """
        Save a container image of the Docker engine to build/images/DIGEST.tar, and print that path. A machine without
        a Docker engine bakes from this file, and checks it first.""",
                       'release archive visitors:1.0.2-build.41'))
    _add_bake(_verb(verbs, 'bake', 'bake a released AMI of a container image', """
        Bake an AMI in two stages: a base with the system and the engine, and on it the application. A stage whose
        inputs have not changed is not baked again: its AMI is found by the tags. A new AMI is booted, tests itself,
        and is released only if it passes. Prints the id of the AMI, and writes the outcome and the duration of each
        phase to build/bake.json.""",
                    'release bake --image visitors:1.0.2-build.41',
                    'release bake --archive build/images/*.tar --force',
                    'release bake --archive build/images/*.tar --explain', environment=ENVIRONMENT))
    _add_verify(_verb(verbs, 'verify', 'boot a copy of an AMI, which tests itself, and release the AMI', """
        Start a copy of an AMI in self-test mode, follow its console, and tag the AMI Released=true if it passes. If a
        check fails, tag it Released=false and name the check. Without a verdict in time the tag Released stays
        unchanged, and the tag Verified says so. The copy is terminated in any case.""",
                      'release verify ami-0123456789abcdef0',
                      'release verify ami-0123456789abcdef0 --subnet subnet-0123456789abcdef0',
                      environment=ENVIRONMENT))
    _add_list(_verb(verbs, 'list', 'list the AMIs: version, input hash, age, and the uses of each', """
        List the AMIs of this project, the newest first: version, commit, input hash, age, whether it is released, and
        its users.""", 'release list', 'release list --json', environment=ENVIRONMENT))
    _add_remove(_verb(verbs, 'remove', 'remove a broken AMI, after confirmation', """
        Remove an AMI, or all AMIs with an input hash: the AMI, its snapshots, and the files kept beside it. Shows
        them first, and asks for confirmation. Fails if an instance runs the AMI, or if something would start it: a
        group, an instance refresh, a fleet, a launch configuration, the default or latest version of a launch
        template. A description that the tool cannot interpret counts as a use. Repeat the call to finish a removal
        that failed halfway.""",
                      'release remove ami-0123456789abcdef0', 'release remove 0123456789abcdef --yes',
                      environment=ENVIRONMENT))
    _add_diff(_verb(verbs, 'diff', 'compare two AMIs: packages, bill of materials, configuration, application', """
        Print the differences between two AMIs, by the files kept beside each. Without names, compare the AMI that most
        instances of groups run with the newest released one. A deny list has a pattern on each line, such as
        `package removed *` or `package * machine/openssl*`; a change that matches one ends the call with 8.""",
                    'release diff', 'release diff 1.0.2+build.41 1.0.3+build.45 --json',
                    'release diff --deny deny.txt', environment=ENVIRONMENT))
    _add_roll(_verb(verbs, 'roll', 'roll a release to the instances of a group', """
        Check the group, start an instance refresh to a version of its launch template, and follow it to its end.
        Without a name, roll the template's newest version, which `terraform apply` made. If a refresh to that version
        already runs, adopt it. When the first new instance serves, ask the page twenty times, and roll back if it
        fails. The check may only abort, never promote: AWS goes on by itself. A call that ends early leaves the
        refresh running, and prints how to adopt it and how to undo it.""",
                    f'release roll {STAGING_PAGE}', f'release roll {STAGING_PAGE} --plan',
                    f'release roll 1.0.3+build.45 {STAGING_PAGE} --alarm visitors-staging-error-ratio',
                    environment=ENVIRONMENT))
    _add_roll(_verb(verbs, 'rollback', 'return a group to an earlier release', """
        Roll the running instance refresh back, and follow that to its end. Without a running refresh, roll to the
        newest earlier version of the launch template with another release, or to the named AMI or version.""",
                    f'release rollback {STAGING_PAGE}', f'release rollback 1.0.2+build.41 {STAGING_PAGE}',
                    environment=ENVIRONMENT))
    _add_status(_verb(verbs, 'status', 'show a group on one screen: refresh, instances, alarms, newest rolls', """
        Print the capacity of an Auto Scaling group, its newest instance refresh, its instances with their release and
        the phase of their boot, its alarms, and the records of its three newest rolls.""",
                      f'release status {STAGING}', f'release status {STAGING} --watch', environment=ENVIRONMENT))
    _add_prune(_verb(verbs, 'prune', 'remove AMIs, template versions and snapshots that nothing needs', """
        Print a table of all AMIs, versions of launch templates and orphaned snapshots of this project, with reasons
        to keep each. With --yes, remove the others, at most --limit in one call. A resource is removed only if EC2's
        own list of references and the tool's reading of all users say that nothing uses it. Releases in the rollback
        window stay: the newest ones, those before each AMI in use, and all that are young. The tag `Keep` protects an
        AMI or a snapshot.""",
                     'release prune', 'release prune --keep 3 --days 14 --limit 20 --yes', environment=ENVIRONMENT))
    _add_sweep(_verb(verbs, 'sweep', 'remove the leftovers of dead bakes and self-tests', """
        Print a table of all runs that left instances, volumes, AMIs, snapshots, key pairs or security groups, by the
        tag `Run`. With --yes, remove those of runs that are old enough and hold no lease. Resources without this
        project's tags stay, and so do the resources of groups.""",
                     'release sweep', 'release sweep --hours 48 --yes', environment=ENVIRONMENT))
    _add_artefacts(_verb(verbs, 'artefacts', 'fetch the files beside an AMI: bill of materials, packages, inputs', """
        Copy the files kept beside an AMI to a folder named by its id, and print their paths.""",
                         'release artefacts ami-0123456789abcdef0 --to build', environment=ENVIRONMENT))
    return parser


def _verb(verbs: 'argparse._SubParsersAction[Parser]', name: str, summary: str, description: str, *calls: str,
          environment: str = '') -> Parser:
    lines = '\n'.join(line.strip() for line in description.strip().splitlines())
    epilog = examples(*(f'bin/{call}' for call in calls)) + environment.lstrip('\n') + EXIT_CODES
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
    source.add_argument('--archive', metavar='FILE', help='file that `release archive` or `docker save` wrote')
    parser.add_argument('--force', action='store_true', help='bake both stages, even if an AMI of the same inputs '
                        'exists')
    parser.add_argument('--explain', action='store_true', help='print which inputs differ from those of the running '
                        'AMI, or else of the newest one; start nothing')
    parser.add_argument('--scan', choices=SEVERITIES, metavar='SEVERITY', help='do not release an AMI with a '
                        f'vulnerability of this severity or worse that has a fix: {", ".join(SEVERITIES)}; needs '
                        'grype 0.92 or newer')
    _add_subnet(parser)
    _add_store(parser)
    _add_aws(parser, seconds=5400)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('ami', metavar='AMI', type=_ami_id, help='id of the AMI')
    _add_subnet(parser)
    _add_aws(parser, seconds=900)


def _add_list(parser: argparse.ArgumentParser) -> None:
    _add_aws(parser, seconds=300)


def _add_remove(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--yes', action='store_true', help='remove without a question; required in a CI and without a '
                        'terminal')
    parser.add_argument('which', metavar='AMI|HASH', type=_ami_id_or_input_hash, help='id of an AMI, or an input hash '
                        'as `bake --explain` prints it')
    _add_store(parser)
    _add_aws(parser, seconds=300)


def _add_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('before', metavar='A', nargs='?', default='', type=_ami_id_or_version, help='id or version of '
                        'an AMI; default: the running one')
    parser.add_argument('after', metavar='B', nargs='?', default='', type=_ami_id_or_version, help='id or version of '
                        'the other AMI; default: the newest released one')
    parser.add_argument('--deny', metavar='FILE', help='file with patterns of changes that must not happen')
    _add_store(parser)
    _add_aws(parser, seconds=300)


def _add_roll(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('which', metavar='AMI|VERSION', nargs='?', default='', type=_ami_id_or_version, help='id of '
                        'an AMI, or a version as in 1.0.2+build.41')
    _add_group(parser)
    url = os.environ.get('VISITORS_URL', '')
    parser.add_argument('--url', default=url, required=not url, help='URL of the page behind the load balancer; '
                        'default: VISITORS_URL')
    parser.add_argument('--alarm', metavar='NAME', action='append', help='alarm that stops the roll; may be repeated, '
                        'at most ten times')
    parser.add_argument('--surge', type=_percentage, default=150, metavar='PERCENT', help='maximum of healthy '
                        'instances, of the desired capacity; default: 150, and 200 for one instance')
    parser.add_argument('--canary', type=_pause, default=120, metavar='SECONDS', help='pause after the first new '
                        'instance; default: 120')
    parser.add_argument('--bake', type=_pause, default=300, metavar='SECONDS', help='watch of the alarms after the '
                        'last new instance; default: 300')
    parser.add_argument('--plan', action='store_true', help='check and print the plan; start nothing')
    _add_store(parser)
    _add_aws(parser, seconds=7200)


def _add_status(parser: argparse.ArgumentParser) -> None:
    _add_group(parser)
    parser.add_argument('--watch', action='store_true', help='repeat it every five seconds until --timeout or Ctrl-C')
    _add_store(parser)
    _add_aws(parser, seconds=3600)


def _add_group(parser: argparse.ArgumentParser) -> None:
    group = os.environ.get('VISITORS_GROUP', '')
    parser.add_argument('--group', metavar='NAME', default=group, required=not group, help='the Auto Scaling group; '
                        'default: VISITORS_GROUP')


def _add_prune(parser: argparse.ArgumentParser) -> None:
    _add_removal(parser, 'removals')
    parser.add_argument('--keep', type=_number, default=5, metavar='NUMBER', help='number of the newest releases, '
                        'of those before each AMI in use, and of versions of a launch template that stay; default: 5')
    parser.add_argument('--days', type=_number, default=30, metavar='DAYS', help='all that is younger stays; '
                        'default: 30')
    _add_store(parser)
    _add_aws(parser, seconds=1800)


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    _add_removal(parser, 'swept runs')
    parser.add_argument('--hours', type=_hours, default=LONGEST_RUN_HOURS + 1, metavar='HOURS', help='age of the runs '
                        f'that may be swept: at least {LONGEST_RUN_HOURS}, the longest --timeout; default: '
                        f'{LONGEST_RUN_HOURS + 1}')
    _add_aws(parser, seconds=1800)


def _add_removal(parser: argparse.ArgumentParser, unit: str) -> None:
    parser.add_argument('--yes', action='store_true', help='remove; without it the call only prints the table')
    parser.add_argument('--limit', type=_number, default=10, metavar='NUMBER', help=f'maximum of {unit} in this call; '
                        'default: 10')


def _add_artefacts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('ami', metavar='AMI', type=_ami_id, help='id of the AMI')
    parser.add_argument('--to', metavar='FOLDER', default='.', help='parent of the new folder; default: the current '
                        'folder')
    _add_store(parser)
    _add_aws(parser, seconds=300)


def _add_subnet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--subnet', metavar='ID', default=os.environ.get('VISITORS_SUBNET', ''),
                        help="subnet of the instances; default: VISITORS_SUBNET, or else the region's default subnet")


def _add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--artefacts', metavar='PLACE', help='place of the files kept beside an AMI: a folder, or '
                        's3://BUCKET/PREFIX; default: VISITORS_ARTEFACTS, or else build/artefacts')


def _add_aws(parser: argparse.ArgumentParser, seconds: float) -> None:
    parser.add_argument('--region', help='AWS region; default: AWS_REGION')
    parser.add_argument('--timeout', type=_seconds, default=seconds, metavar='SECONDS',
                        help=f'time limit for the whole call; default: {seconds:.0f}')
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--json', action='store_true', help='print the result as JSON')


def _seconds(text: str) -> float:
    if not re.fullmatch('[0-9]{1,5}', text) or not 1 <= int(text) <= LONGEST_RUN_HOURS * 3600:
        raise argparse.ArgumentTypeError(f'{text!r}: use a whole number of seconds from 1 to 86400')
    return float(text)


def _number(text: str) -> int:
    if not re.fullmatch('[0-9]{1,4}', text) or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r}: use a whole number from 1 to 9999')
    return int(text)


def _percentage(text: str) -> int:
    if not re.fullmatch('[0-9]{3}', text) or not 101 <= int(text) <= 200:
        raise argparse.ArgumentTypeError(f'{text!r}: use a whole number from 101 to 200')
    return int(text)


def _pause(text: str) -> int:
    if not re.fullmatch('[0-9]{1,6}', text) or int(text) > 172800:
        raise argparse.ArgumentTypeError(f'{text!r}: use a whole number of seconds from 0 to 172800')
    return int(text)


def _hours(text: str) -> int:
    if _number(text) < LONGEST_RUN_HOURS:
        raise argparse.ArgumentTypeError(f'{text!r}: use a whole number of hours from {LONGEST_RUN_HOURS} on')
    return _number(text)


def _ami_id(text: str) -> str:
    if not AMI_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f'{text!r}: use the id of an AMI, as in ami-0123456789abcdef0')
    return text


def _ami_id_or_version(text: str) -> str:
    if text and not AMI_ID.fullmatch(text) and not VERSION.fullmatch(text):
        raise argparse.ArgumentTypeError(f'{text!r}: use the id of an AMI, or a version as in 1.0.2+build.41')
    return text


def _ami_id_or_input_hash(text: str) -> str:
    if not AMI_ID.fullmatch(text) and not INPUT_HASH.fullmatch(text):
        raise argparse.ArgumentTypeError(f'{text!r}: use the id of an AMI, as in ami-0123456789abcdef0, or an input '
                                         'hash, as in 0123456789abcdef')
    return text
