"""python -m benchmarks.bake: measures bakes and boots on a rehearsal's machines, and prints their ratios.

Exit codes: 0 measured; 1 something did not work; 2 an option is wrong.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
import re
import signal
from statistics import median
import sys
import tempfile
import time

import requests

from benchmarks.__main__ import FAILURES, Progress
from rehearsal.errors import RehearsalError
from rehearsal.machines.engine import usable_engine
from tests.support.containers.bases import BaseImages
from tests.support.containers.engine import PORT
from tests.support.containers.fixtures import built_image
from tests.support.installation import opened_database, PROFILE
from tests.support.instances import Instance, launch
from tests.support.waiting import eventually
from tests.support.workshop import opened_workshop, Workshop

HEAD = '| ratio | median | least to most | goal |\n|---|--:|--:|--:|'
TIMES_HEAD = '| case | seconds, median | least to most | where the time goes |\n|---|--:|--:|---|'
BOOTED = 'the system has booted'
BOOT_SECONDS = 180
# The lines of a boot about its steps.
PHASE = re.compile(r'visitors ([a-z-]+): ([\d.]+) s: ')
# The two cases of each ratio, and its goal: the most that it should be.
RATIOS = (('no-op bake', 'full bake', None), ('app-only bake', 'full bake', 0.35),
          ('boot to the first 200', 'boot of the bare system', 1.5))
NO_OP_SECONDS = 5


class Case:
    """Something that takes seconds: a function that gets the number of the round and returns where they went."""

    def __init__(self, name: str, act: Callable[[int], str]) -> None:
        """Store the name and the function."""
        self.name = name
        self.seconds: list[float] = []
        self.summary = ''
        self._act = act

    def run(self, number: int) -> None:
        """Do it once."""
        began = time.monotonic()
        self.summary = self._act(number)
        self.seconds.append(time.monotonic() - began)


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; end the process with exit code 2 where one is wrong."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks.bake', description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=3, metavar='N', help='how many rounds, 1 to 20 (3)')
    options = parser.parse_args(arguments)
    if options.rounds not in range(1, 21):
        parser.error(f'--rounds {options.rounds}: use 1 to 20')
    return options


def measure(rounds: int, report: Progress) -> str:
    """Return the tables of so many rounds, in each of which every case has run once."""
    with ExitStack() as stack:
        engine = stack.enter_context(usable_engine())
        bases = BaseImages(engine, report)
        stack.callback(bases.remove)
        image = stack.enter_context(built_image(engine, bases))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix='visitors-bake-benchmark-'))
        workshop = stack.enter_context(opened_workshop(engine, image, Path(folder)))
        cases = [Case('full bake', lambda _: baked(workshop, '--force')),
                 Case('no-op bake', lambda _: baked(workshop)),
                 Case('app-only bake', lambda number: baked_again(workshop, number)),
                 Case('boot of the bare system', lambda _: booted(workshop)),
                 Case('boot to the first 200', served(stack, workshop))]
        report('application image built, rehearsal up')
        for number in range(rounds):
            for case in cases:
                case.run(number)
                report(f'round {number + 1} of {rounds}: {case.name} took {case.seconds[-1]:.1f} s')
        return tables(cases)


def baked(workshop: Workshop, *arguments: str) -> str:
    """Bake, and return the longest phases with their seconds."""
    result = workshop.bake(*arguments)
    if result.code:
        raise RuntimeError(f'the bake has failed: {result}')
    phases = sorted(workshop.report['phases'], key=lambda phase: -float(phase['seconds']))
    return ', '.join(f'{phase["name"]} {float(phase["seconds"]):.0f}' for phase in phases[:4])


def baked_again(workshop: Workshop, number: int) -> str:
    """Bake after a change of the application's role."""
    workshop.touch('application')
    summary = baked(workshop)
    if workshop.report['baked'] != ['app']:
        raise RuntimeError(f'round {number}: {workshop.report["baked"]} was baked instead of the application alone')
    return summary


def booted(workshop: Workshop) -> str:
    """Boot a machine of Debian's own image, up to its user data."""
    machine = launch(workshop.cloud, UserData=f'#!/bin/sh\necho "{BOOTED}" > /dev/console\n')
    try:
        machine.wait_for_console(BOOTED, BOOT_SECONDS)
    finally:
        machine.cloud.client('ec2').terminate_instances(InstanceIds=[machine.name])
    return 'RunInstances to the user data'


def served(stack: ExitStack, workshop: Workshop) -> Callable[[int], str]:
    """Return a function that boots the released AMI until it serves; the first boot migrates the schema."""
    database = stack.enter_context(opened_database(workshop.cloud))
    installation = database.install()

    def serve(_number: int) -> str:
        machine = launch(workshop.cloud, ImageId=workshop.report['amis']['app'], UserData=installation.user_data(),
                         IamInstanceProfile={'Name': PROFILE})
        try:
            wait_until_served(machine)
            console = machine.wait_for_console('visitors ready: ')
        finally:
            machine.cloud.client('ec2').terminate_instances(InstanceIds=[machine.name])
        return ', '.join(f'{name} {seconds}' for name, seconds in PHASE.findall(console))
    return serve


def wait_until_served(machine: Instance) -> None:
    """Return when a machine answers a visitor with 200."""
    address = f'http://{machine.described["PrivateIpAddress"]}:{PORT}/readyz'

    def is_served() -> bool:
        try:
            return requests.get(address, timeout=1).ok
        except requests.RequestException:
            return False

    eventually(is_served, lambda: f'{machine.name} serves: {machine.console}', BOOT_SECONDS)


def tables(cases: Sequence[Case]) -> str:
    """Return ratios with their goals, and seconds, as Markdown."""
    by_name = {case.name: case for case in cases}
    lines = [HEAD]
    for over, under, goal in RATIOS:
        ratios = [a / b for a, b in zip(by_name[over].seconds, by_name[under].seconds)]
        limit = f'≤ {goal:.2f}' if goal else f'{NO_OP_SECONDS} s at most'
        lines.append(f'| {over} over {under} | {median(ratios):.2f} | {spread(ratios, 2)} | {limit} |')
    lines += ['', TIMES_HEAD]
    lines += [f'| {case.name} | {median(case.seconds):.1f} | {spread(case.seconds, 1)} | {case.summary} |'
              for case in cases]
    return '\n'.join(lines)


def spread(figures: Sequence[float], digits: int) -> str:
    """Return the outermost of some figures."""
    return f'{min(figures):.{digits}f} to {max(figures):.{digits}f}'


def main() -> int:
    """Measure and print; return the exit code."""
    options = parse_options()
    # However it ends, the machines end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        print(measure(options.rounds, Progress()))
    except (*FAILURES, RehearsalError) as error:
        print(f'benchmarks.bake: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
