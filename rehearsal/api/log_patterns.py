"""The patterns of CloudWatch Logs for JSON, as far as the filters of this project use them.

Modelled: conditions joined by `&&`, each `$.field = value`, another comparison, or `$.field IS TRUE`.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
"""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
import json
import operator
import re
from typing import Any

from rehearsal.errors import NotModelled

CONDITION = re.compile(r'\$((?:\.\w+)+)\s*(?:(!=|<=|>=|=|<|>)\s*("[^"]*"|-?\d+(?:\.\d+)?|[\w*.-]+)'
                       r'|IS\s+(TRUE|FALSE|NULL))')
NUMBERS: dict[str, Callable[[float, float], bool]] = {
    '=': operator.eq, '!=': operator.ne, '<': operator.lt, '>': operator.gt, '<=': operator.le, '>=': operator.ge}
CONSTANTS = {'TRUE': True, 'FALSE': False, 'NULL': None}


@dataclass(frozen=True)
class Condition:
    """A condition on a field of a JSON object."""

    path: tuple[str, ...]
    comparison: str
    value: str
    constant: str

    def holds(self, message: Any) -> bool:
        """Return whether a message meets the condition; an absent field meets none."""
        for name in self.path:
            if not isinstance(message, dict) or name not in message:
                return False
            message = message[name]
        if self.constant:
            return message is CONSTANTS[self.constant]
        if isinstance(message, (int, float)) and not isinstance(message, bool) and is_number(self.value):
            return NUMBERS[self.comparison](message, float(self.value))
        matches = isinstance(message, str) and fnmatchcase(message, self.value.strip('"').replace('[', '[[]'))
        return isinstance(message, str) and matches == (self.comparison == '=')


def is_number(text: str) -> bool:
    """Return whether a value of a pattern is a number."""
    return re.fullmatch(r'-?\d+(\.\d+)?', text) is not None


def conditions_of(pattern: str) -> list[Condition]:
    """Return the conditions of a pattern; raise NotModelled for any other pattern."""
    inner = re.fullmatch(r'\s*\{(.*)\}\s*', pattern, re.DOTALL)
    if not inner:
        raise NotModelled(f'the filter pattern {pattern!r}')
    found = []
    for part in inner[1].split('&&'):
        match = CONDITION.fullmatch(part.strip().strip('()').strip())
        if not match or match[2] not in (None, '=', '!=') and not is_number(match[3]):
            raise NotModelled(f'{part.strip()!r} in the filter pattern {pattern!r}')
        found.append(Condition(tuple(match[1].strip('.').split('.')), match[2] or '', match[3] or '', match[4] or ''))
    return found


def matches(conditions: list[Condition], text: str) -> bool:
    """Return whether the text of a log event is JSON that meets all conditions."""
    try:
        message = json.loads(text)
    except ValueError:
        return False
    return all(condition.holds(message) for condition in conditions)
