"""What a machine that tests itself has written on its console, understood."""

from dataclasses import dataclass
import re

from release.progress import CONTROL

# A line of its own, but for what the kernel, journald or a terminal put before it.
LINE = re.compile(r'^(?:.*[\]:] ?)?SELFTEST (?P<verdict>PASSED|FAILED) (?P<rest>\S.*?)\s*$')
# What the steps of a boot say of themselves, and which of them has ended it.
STEP = re.compile(r'(?:.*[\]:] ?)?visitors (?:FAILED in )?[a-z -]+: ')
FAILED = re.compile(r'(?:.*[\]:] ?)?visitors (?P<said>FAILED in [a-z -]+: \S.*)')
TOLD_LINES = 15


@dataclass(frozen=True)
class Verdict:
    """How a self-test ended: the version that the machine runs, or what is wrong with it."""

    version: str = ''
    failures: tuple[str, ...] = ()

    def objections(self, expected: str) -> tuple[str, ...]:
        """Return why the image must not be released; nothing when it may."""
        if self.failures or self.version == expected:
            return self.failures
        return (f'version: the machine runs {self.version}, the image is said to hold {expected}',)


def verdict_of(console: str) -> Verdict | None:
    """Return the verdict on a console; nothing while there is none. Whatever failed counts, whatever else passed."""
    found = [match for match in map(LINE.match, lines_of(console)) if match]
    failures = tuple(match['rest'] for match in found if match['verdict'] == 'FAILED')
    passed = [match['rest'] for match in found if match['verdict'] == 'PASSED']
    if not found:
        return None
    return Verdict(failures=tuple(dict.fromkeys(failures))) if failures else Verdict(version=passed[-1].split()[0])


def failure_of(console: str) -> str:
    """Return the reason that a boot gave last for its failure; nothing where it gave none."""
    found = [match['said'] for match in map(FAILED.match, lines_of(console)) if match]
    return found[-1] if found else ''


def lines_of(console: str) -> list[str]:
    """Return the lines of a console that say something, without what moves a cursor."""
    return [line for line in (CONTROL.sub('', line).rstrip() for line in console.splitlines()) if line.strip()]


def end_of(console: str) -> str:
    """Return the last lines of a console, and what its boot has said before, for people who want to know why."""
    lines = lines_of(console)
    told = [line for line in lines[:-TOLD_LINES] if STEP.match(line)] + lines[-TOLD_LINES:]
    return '\n'.join(f'  | {line}' for line in told) or '  | (nothing)'
