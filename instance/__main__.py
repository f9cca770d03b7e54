"""python3 -m instance STEP: one step of a machine's life, its line on the console, and its exit code."""

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
    'logs': (logs.run, 'send the journal to CloudWatch Logs, until it is told to end'),
    'config': (config.run, 'prepare what containers need, from the Parameter Store and Secrets Manager'),
    'migrate': (migrate.run, 'bring the schema up, or wait for the machine that does'),
    'application start': (application.start, 'become the command that runs the application'),
    'application wait': (application.wait, 'return when the application answers'),
    'application stop': (application.stop, 'let the application finish its answers and end'),
    'ready': (ready.run, 'prove this machine, tell its group, wait for its load balancers'),
    'selftest': (selftest.run, 'check this machine, print the verdict, turn it off'),
    'failed': (failed.run, 'tell why this machine cannot serve, and turn it off'),
    'token': (password_renewal.run, "renew the application's password of the database"),
    'purge': (purge.run, 'forget visitors, unless another machine does'),
}
EPILOG = """exit codes: 0 done; 1 it could not be done, the last line says why; 2 wrong usage.
migrate has those of `flask schema ready` as well: 20 this deploy's migration has failed, 21 waiting took too long,
22 the image does not fit the schema, 23 other time zone than the database's, 24 a pooler is in between; any other one
is docker's or the application's."""


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
            # Nobody has foreseen it, so it is a defect, and where it is matters.
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
        # The phase has begun when the container was started, which is another process's step.
        started = boot_record.read(machine.boot_record).application_started or started
    return Phase(PHASE_OF_STEP.get(name, name), round(time.monotonic() - started, 2), outcome)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    steps = '\n'.join(f'  {name:<18} {what}' for name, (_, what) in STEPS.items())
    parser = argparse.ArgumentParser(
        prog='python3 -m instance', description="One step of a machine's life; units of systemd call them.",
        epilog=f'steps:\n{steps}\n\n{EPILOG}', formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path('/'), metavar='FOLDER',
                        help="where the machine's file system begins (default: /)")
    parser.add_argument('step', nargs='+', metavar='STEP', action=_KnownStep, help='one of the steps below')
    return parser


class _KnownStep(argparse.Action):
    """Accepts the words of one step."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object,
                 option_string: str | None = None) -> None:
        """Keep the words, or end with exit code 2."""
        if not isinstance(values, list) or ' '.join(values) not in STEPS:
            parser.error(f'there is no such step; use one of: {", ".join(STEPS)}')
        setattr(namespace, self.dest, values)


if __name__ == '__main__':
    sys.exit(main())
