"""Step selftest: a copy of the image, booted without network, role or database, checks itself and says how it is."""

from instance import checks, systemd
from instance.checks import Subject
from instance.machine import Machine


def run(machine: Machine) -> str:
    """Print the verdict that the release tool looks for on the console, turn the machine off, and return it."""
    try:
        verdict = _verdict(machine)
    finally:
        systemd.power_off()
    return verdict


def _verdict(machine: Machine) -> str:
    wrong = checks.find_failures(Subject.of(machine))
    for check, why in wrong:
        print(f'SELFTEST FAILED {check}: {why}', flush=True)
    if wrong:
        return f'self-test failed: {", ".join(check for check, _ in wrong)}'

    print(f'SELFTEST PASSED {machine.image.version}', flush=True)
    return f'self-test passed, {len(checks.CHECKS)} checks'
