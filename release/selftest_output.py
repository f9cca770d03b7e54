"""The console of an instance that tests itself, parsed: the verdict, the reason of a failed boot, the last lines."""

from dataclasses import dataclass
import re

from release.control_characters import CONTROL

# A line of its own, apart from a prefix of the kernel, journald or a terminal.
VERDICT = re.compile(r'^(?:.*[\]:] ?)?SELFTEST (?P<verdict>PASSED|FAILED) (?P<rest>\S.*?)\s*$')
# The lines of the boot's own steps, and the one of the step that ended the boot.
STEP = re.compile(r'(?:.*[\]:] ?)?visitors (?:FAILED in )?[a-z -]+: ')
FAILED = re.compile(r'(?:.*[\]:] ?)?visitors (?P<reason>FAILED in [a-z -]+: \S.*)')
LAST_LINES = 15


@dataclass(frozen=True)
class Verdict:
    """The outcome of a self-test: the version that the instance runs, or the failed checks."""

    version: str = ''
    failures: tuple[str, ...] = ()

    def objections(self, expected: str) -> tuple[str, ...]:
        """Return the reasons against a release of the AMI; empty if it may be released."""
        if self.failures or self.version == expected:
            return self.failures
        return (f'version: the instance runs {self.version}, but the tag of the AMI says {expected}',)


def verdict_of(console: str) -> Verdict | None:
    """Return the verdict on a console, or None before there is one. A failure outweighs any pass."""
    matches = [match for match in map(VERDICT.match, lines_of(console)) if match]
    failures = tuple(match['rest'] for match in matches if match['verdict'] == 'FAILED')
    passes = [match['rest'] for match in matches if match['verdict'] == 'PASSED']
    if not matches:
        return None
    return Verdict(failures=tuple(dict.fromkeys(failures))) if failures else Verdict(version=passes[-1].split()[0])


def failure_of(console: str) -> str:
    """Return the last reason that a boot printed for its failure; empty if it printed none."""
    reasons = [match['reason'] for match in map(FAILED.match, lines_of(console)) if match]
    return reasons[-1] if reasons else ''


def lines_of(console: str) -> list[str]:
    """Return the non-empty lines of a console, without control characters."""
    return [line for line in (CONTROL.sub('', line).rstrip() for line in console.splitlines()) if line.strip()]


def end_of(console: str) -> str:
    """Return the last lines of a console, preceded by the earlier lines of the boot's own steps."""
    lines = lines_of(console)
    shown = [line for line in lines[:-LAST_LINES] if STEP.match(line)] + lines[-LAST_LINES:]
    return '\n'.join(f'  | {line}' for line in shown) or '  | (nothing)'
