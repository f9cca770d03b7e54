"""python3 -m instance STEP: run one step of an instance, print its line on the console, return its exit code."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
import signal
import sys
import time
import traceback
from types import FrameType
from typing import NoReturn

from instance import application, boot_record, config, failed, logs, migrate, password_renewal, purge, ready, selftest
from instance.boot_record import Failure, Phase, PHASE_OF_STEP
from instance.errors import FAILED, message_of, StepFailed
from instance.machine import Machine

Step = Callable[[Machine], str]
STEPS: dict[str, tuple[Step, str]] = {
    'logs': (logs.run, 'send the journal to CloudWatch Logs until SIGTERM'),
    'config': (config.run, 'copy settings and secrets from Parameter Store and Secrets Manager to memory'),
    'migrate': (migrate.run, 'migrate the schema, or wait for the instance that does'),
    'application start': (application.start, "become the process that runs the application's container"),
    'application wait': (application.wait, 'wait until the application answers'),
    'application stop': (application.stop, 'stop the application after its last answers'),
    'ready': (ready.run, 'check this instance, complete its launch hook, wait for its target groups'),
    'selftest': (selftest.run, 'check this instance, print the verdict, turn it off'),
    'failed': (failed.run, 'report why this instance cannot serve, and turn it off'),
    'token': (password_renewal.run, "renew the application's database password"),
    'purge': (purge.run, 'forget old visitors, unless another instance does'),
}
MIGRATE_CODES = '\n'.join(f'  {code:<4}{meaning}' for code, meaning in migrate.MEANINGS.items())
EPILOG = f"""exit codes: 0 done; 1 failed, the last line has the reason; 2 wrong usage.
migrate also ends with the codes of `flask schema ready`:
{MIGRATE_CODES}
Any other code is from docker or from the application."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one step and return its exit code."""
    options = _parser().parse_args(arguments)
    name = ' '.join(options.step)
    machine = Machine(options.root.resolve())
    signal.signal(signal.SIGTERM, _end)
    started = time.monotonic()
    try:
        outcome = STEPS[name][0](machine)
    except Exception as error:
        if not isinstance(error, StepFailed):
            # An unexpected error is a defect: the traceback shows where.
            traceback.print_exc()
        return _fail(machine, name, started, error)

    _succeed(machine, name, started, outcome)
    return 0


def _succeed(machine: Machine, name: str, started: float, outcome: str) -> None:
    phase = _phase(machine, name, started, outcome)
    if name in PHASE_OF_STEP:
        boot_record.change(machine.boot_record, lambda record: record.with_phase(phase))
    print(boot_record.console_line(phase), flush=True)


def _fail(machine: Machine, name: str, started: float, error: Exception) -> int:
    code = error.exit_code if isinstance(error, StepFailed) else FAILED
    phase = _phase(machine, name, started, message_of(error))
    print(boot_record.console_line(phase, code), flush=True)
    if name in PHASE_OF_STEP:
        failure = Failure(phase.phase, code, phase.outcome)
        boot_record.change(machine.boot_record, lambda record: record.with_failure(failure))
    return code


def _phase(machine: Machine, name: str, started: float, outcome: str) -> Phase:
    if name == 'application wait':
        # The phase began in the process of another step, when the container was started.
        started = boot_record.read(machine.boot_record).application_started or started
    return Phase(PHASE_OF_STEP.get(name, name), round(time.monotonic() - started, 2), outcome)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    steps = '\n'.join(f'  {name:<18} {description}' for name, (_, description) in STEPS.items())
    parser = argparse.ArgumentParser(
        prog='python3 -m instance', description='Run one step of an instance; the systemd units call this.',
        epilog=f'steps:\n{steps}\n\n{EPILOG}', formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path('/'), metavar='FOLDER',
                        help="root folder of the instance's file system (default: /)")
    parser.add_argument('step', nargs='+', metavar='STEP', action=_StepAction, help='one of the steps below')
    return parser


class _StepAction(argparse.Action):
    """The check that the words of the command line name a step."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object,
                 option_string: str | None = None) -> None:
        """Keep the words, or end with exit code 2."""
        if not isinstance(values, list) or ' '.join(values) not in STEPS:
            parser.error(f'unknown step; use one of: {", ".join(STEPS)}')
        setattr(namespace, self.dest, values)


if __name__ == '__main__':
    sys.exit(main())
