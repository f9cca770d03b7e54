"""Step selftest: check a copy of the AMI that boots without network, role or database, and print the verdict."""

from instance import checks, systemd
from instance.checks import Subject
from instance.machine import Machine


def run(machine: Machine) -> str:
    """Print the verdict for the release tool on the console, turn this instance off, and return a summary."""
    try:
        verdict = _verdict(machine)
    finally:
        systemd.power_off()
    return verdict


def _verdict(machine: Machine) -> str:
    problems = checks.find_problems(Subject.of(machine))
    for check, problem in problems:
        print(f'SELFTEST FAILED {check}: {problem}', flush=True)
    if problems:
        return f'self-test failed: {", ".join(check for check, _ in problems)}'

    print(f'SELFTEST PASSED {machine.image.version}', flush=True)
    return f'self-test passed, {len(checks.CHECKS)} checks'
