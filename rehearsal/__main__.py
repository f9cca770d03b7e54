"""python -m rehearsal VERB: the verbs and their exit codes, nothing else."""

import argparse
from collections.abc import Callable, Sequence
import json
import os
import shlex
import sys

from release.commandline import add_completion, add_version, completion, examples, missing, Parser

try:
    from botocore.exceptions import ClientError

    from rehearsal.client import NotUp, Rehearsal
    from rehearsal.errors import RehearsalError
    from rehearsal.settings import DEFAULT_NAME, Settings
    from release.progress import progress
except ModuleNotFoundError as error:
    if (error.name or '').partition('.')[0] in ('rehearsal', 'release'):
        raise
    sys.exit(f'rehearsal: {missing(error.name, "rehearsal", ".installed-tests")}')

DONE, FAILED, NOT_UP, GAPS = 0, 1, 3, 4
DESCRIPTION = """A local AWS: the API that AWS's tools speak, and instances that are real machines.

  eval "$(bin/rehearsal up)"      # every AWS SDK, the AWS CLI and Packer use it from now on
  bin/rehearsal status            # list its instances
  bin/rehearsal down              # end it and remove everything"""
EXAMPLES = {
    'up': ('eval "$(bin/rehearsal up)"', 'eval "$(bin/rehearsal up --name mine --region eu-central-1)"',
           'eval "$(bin/rehearsal up --no-machines)"'),
    'down': ('bin/rehearsal down', 'bin/rehearsal down --name mine'),
    'status': ('bin/rehearsal status', 'bin/rehearsal status --json'),
    'shell': ('bin/rehearsal shell i-0123456789abcdef0', 'bin/rehearsal shell i-0123456789abcdef0 journalctl -b'),
    'console': ('bin/rehearsal console i-0123456789abcdef0',),
    'run': ('bin/rehearsal run aws ec2 describe-instances', 'bin/rehearsal run --name mine curl http://example.org'),
    'mail': ('bin/rehearsal mail', 'bin/rehearsal mail --json'),
    'gaps': ('bin/rehearsal gaps',),
}
EXIT_CODES = """exit codes:
  0  done
  1  failed; the last line names the cause
  2  wrong usage
  3  no rehearsal of this name is up
  4  missing actions were called, or moto failed (gaps)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        act: Callable[[argparse.Namespace], int] = options.act
        return act(options)
    except NotUp as error:
        print(f'rehearsal {options.verb}: {error}', file=sys.stderr)
        return NOT_UP
    except (RehearsalError, ClientError) as error:
        print(f'rehearsal {options.verb}: {error}', file=sys.stderr)
        return FAILED


def up(options: argparse.Namespace) -> int:
    """Start a rehearsal, and print the exports that point to it."""
    rehearsal = Rehearsal(Settings(options.name, options.region, options.port, options.vpc_cidr,
                                   options.shutdown_seconds, not options.no_machines, options.pace,
                                   options.database_address))
    if not rehearsal.up(progress()):
        print(f'rehearsal {options.name!r} is already up', file=sys.stderr)
    for name, value in rehearsal.environment.items():
        print(f'export {name}={shlex.quote(value)}')
    return DONE


def down(options: argparse.Namespace) -> int:
    """End a rehearsal."""
    _named(options).down()
    return DONE


def status(options: argparse.Namespace) -> int:
    """Print the facts about a rehearsal, and its instances."""
    rehearsal = _named(options)
    pages = rehearsal.client('ec2').get_paginator('describe_instances').paginate()
    instances = [instance for page in pages for each in page['Reservations'] for instance in each['Instances']]
    if options.json:
        print(json.dumps({**rehearsal.facts, 'instances': instances}, default=str, indent=2))
        return DONE
    for name, value in rehearsal.facts.items():
        print(f'{name:<17} {value}')
    for instance in instances:
        tags = {tag['Key']: tag['Value'] for tag in instance.get('Tags', [])}
        print(f'{instance["InstanceId"]:<20} {instance["State"]["Name"]:<13} '
              f'{instance.get("PrivateIpAddress", "-"):<15} {instance["InstanceType"]:<10} {instance["ImageId"]} '
              f'{tags.get("Name", "")}'.rstrip())
    return DONE


def shell(options: argparse.Namespace) -> int:
    """Run a shell, or another command, in a machine, in place of this process."""
    rehearsal = _named(options)
    engine = rehearsal.facts.get('engine')
    terminal = ['--tty'] if sys.stdin.isatty() else []
    command = ['docker', 'exec', '--interactive', *terminal, rehearsal.settings.names.machine(options.instance),
               *(options.command or ['bash', '--login'])]
    os.execvpe(command[0], command, {**os.environ, **({'DOCKER_HOST': engine} if engine else {})})


def run(options: argparse.Namespace) -> int:
    """Run a command on this host with the rehearsal's API, credentials and names, and return its exit code."""
    rehearsal = _named(options)
    return rehearsal.run(options.command)


def console(options: argparse.Namespace) -> int:
    """Print the console of an instance."""
    print(_named(options).console(options.instance), end='')
    return DONE


def mail(options: argparse.Namespace) -> int:
    """Print the e-mails that topics sent."""
    messages = _named(options).mail()
    if options.json:
        print(json.dumps(messages, indent=2))
        return DONE
    for message in messages:
        print(f'{message["at"]}  {message["endpoint"]}  {message["subject"] or message["message"]}')
    return DONE


def gaps(options: argparse.Namespace) -> int:
    """Print the missing actions that were called."""
    calls = _named(options).gaps()
    for gap in sorted(set(calls)):
        print(f'{gap} ({calls.count(gap)})')
    return GAPS if calls else DONE


def _named(options: argparse.Namespace) -> Rehearsal:
    return Rehearsal(Settings(options.name))


def _parser() -> argparse.ArgumentParser:
    parser = Parser('rehearsal', description=DESCRIPTION, epilog=f'{completion("rehearsal")}\n{EXIT_CODES}')
    add_version(parser)
    add_completion(parser)
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')

    def verb(act: Callable[[argparse.Namespace], int], summary: str, detail: str = '') -> argparse.ArgumentParser:
        added = verbs.add_parser(act.__name__, help=summary,
                                 epilog=f'{examples(*EXAMPLES[act.__name__])}{EXIT_CODES}',
                                 description=f'{summary[0].upper()}{summary[1:]}. {detail}'.strip())
        added.set_defaults(act=act)
        added.add_argument('--name', default=DEFAULT_NAME, metavar='NAME',
                           help='which rehearsal, of several side by side (default: %(default)s)')
        return added

    starting = verb(up, 'start a rehearsal, and print the exports that point to it',
                    'It runs in the background until `down`. The first one on a host makes the source AMI, '
                    'which takes one to two minutes.')
    starting.add_argument('--region', default=Settings.region, help='its AWS region (default: %(default)s)')
    starting.add_argument('--port', type=int, default=0, help='port of the API; 0 takes a free one (default)')
    starting.add_argument('--vpc-cidr', default='', metavar='BLOCK',
                          help='block of the default VPC (default: a free one between 10.64.0.0/16 and 10.127.0.0/16)')
    starting.add_argument('--shutdown-seconds', type=int, default=Settings.shutdown_seconds, metavar='N',
                          help='seconds for a machine to shut down before it is powered off '
                               '(default: %(default)s)')
    starting.add_argument('--no-machines', action='store_true',
                          help='the API alone, with instances that are only records; needs neither root nor Docker')
    starting.add_argument('--pace', type=float, default=Settings.pace, metavar='N',
                          help="AWS's seconds in a real one, for alarm periods, warm-up and other delays of AWS's own "
                               '(default: %(default)s)')
    starting.add_argument('--database-address', default='', metavar='ADDRESS',
                          help='with --no-machines: address of real database servers, such as 127.0.0.1 '
                               '(default: databases are only records)')
    verb(down, 'end a rehearsal', 'Removes everything that it made, even after its server was killed.')
    showing = verb(status, 'print the endpoints of a rehearsal, and its instances')
    showing.add_argument('--json', action='store_true', help='print it as one JSON object')
    entering = verb(shell, 'open a root shell in a machine, without its SSH')
    entering.add_argument('instance', metavar='INSTANCE', help='its id, such as i-0123456789abcdef0')
    entering.add_argument('command', nargs=argparse.REMAINDER, metavar='COMMAND', help='run this instead of a shell')
    running = verb(run, "run a command on this host with the rehearsal's API, credentials and names",
                   'No file of this host changes: the command sees the DNS server of the rehearsal in a mount '
                   'namespace of its own, which needs root. Returns the exit code of the command.')
    running.add_argument('command', nargs=argparse.REMAINDER, metavar='COMMAND', help='such as: terraform plan')
    reading = verb(console, 'print the console of an instance',
                   'The instance may be stopped or terminated.')
    reading.add_argument('instance', metavar='INSTANCE', help='its id, such as i-0123456789abcdef0')
    posting = verb(mail, 'print the e-mails that topics sent, the oldest first',
                   'A line has time, recipient and subject, or the message if it has no subject.')
    posting.add_argument('--json', action='store_true', help='print them as a JSON list, with the messages')
    verb(gaps, 'print the missing actions that were called', 'Returns 4 if any were called.')
    return parser


if __name__ == '__main__':
    sys.exit(main())
