"""The conditions of policy statements.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
import operator
import re
from typing import Any

# Values by key in lower case; a key with several values has a tuple of them.
Context = Mapping[str, tuple[str, ...]]
VARIABLE = re.compile(r'\$\{([^}]+)\}')
LITERALS = {'*': '*', '?': '?', '$': '$'}


class UnsupportedCondition(ValueError):
    """The error that this module does not evaluate an operator."""


def listed(value: Any) -> tuple[Any, ...]:
    """Return a value of a policy, which may be one or a list, as a tuple."""
    return tuple(value) if isinstance(value, list) else (value,)


def matches(pattern: str, text: str) -> bool:
    """Return whether a pattern with * and ? matches a text."""
    return bool(compiled(pattern).fullmatch(text))


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern as a regular expression."""
    parts = {'*': '.*', '?': '.'}
    return re.compile(''.join(parts.get(sign) or re.escape(sign) for sign in pattern), re.DOTALL)


def matches_arn(pattern: str, text: str) -> bool:
    """Return whether each of the six parts of an ARN matches that of a pattern."""
    patterns, parts = pattern.split(':', 5), text.split(':', 5)
    return len(patterns) == len(parts) == 6 and all(map(matches, patterns, parts))


def number(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    """Return a comparison of a condition's number with that of a request."""
    return lambda expected, actual: compare(float(actual), float(expected))


def date(compare: Callable[[datetime, datetime], bool]) -> Callable[[str, str], bool]:
    """Return a comparison of a condition's date with that of a request."""
    return lambda expected, actual: compare(datetime.fromisoformat(actual), datetime.fromisoformat(expected))


def is_in_block(expected: str, actual: str) -> bool:
    """Return whether an address is in a block."""
    return ip_address(actual) in ip_network(expected, strict=False)


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    'StringEquals': operator.eq,
    'StringEqualsIgnoreCase': lambda expected, actual: expected.lower() == actual.lower(),
    'StringLike': matches,
    'ArnEquals': matches_arn,
    'ArnLike': matches_arn,
    'Bool': lambda expected, actual: expected.lower() == actual.lower(),
    'NumericEquals': number(operator.eq),
    'NumericLessThan': number(operator.lt),
    'NumericLessThanEquals': number(operator.le),
    'NumericGreaterThan': number(operator.gt),
    'NumericGreaterThanEquals': number(operator.ge),
    'DateLessThan': date(operator.lt),
    'DateGreaterThan': date(operator.gt),
    'IpAddress': is_in_block,
}
NEGATIONS = {
    'StringNotEquals': 'StringEquals', 'StringNotEqualsIgnoreCase': 'StringEqualsIgnoreCase',
    'StringNotLike': 'StringLike', 'ArnNotEquals': 'ArnEquals', 'ArnNotLike': 'ArnLike',
    'NumericNotEquals': 'NumericEquals', 'NotIpAddress': 'IpAddress'}


def holds(condition: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    """Return whether all operators of a condition hold for all their keys."""
    return all(compare(name, [text(value) for value in listed(expected)], context.get(key.lower()), context)
               for name, block in condition.items() for key, expected in block.items())


def compare(name: str, expected: list[str], actual: tuple[str, ...] | None, context: Context) -> bool:
    """Return whether an operator holds for one key; None stands for a key that the request lacks.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html
    """
    quantifier, _, plain = name.rpartition(':')
    is_optional, plain = plain.endswith('IfExists'), plain.removesuffix('IfExists')
    if plain == 'Null':
        return expected == ['true' if actual is None else 'false']
    is_negated, plain = plain in NEGATIONS, NEGATIONS.get(plain, plain)
    if plain not in OPERATORS or quantifier not in ('', 'ForAllValues', 'ForAnyValue'):
        raise UnsupportedCondition(f'the operator {name} of a condition')
    if actual is None:
        return is_optional or quantifier == 'ForAllValues' or (is_negated and not quantifier)
    values = [filled(each, context) for each in expected]

    def holds_for(value: str) -> bool:
        return any(OPERATORS[plain](each, value) for each in values) != is_negated

    return any(map(holds_for, actual)) if quantifier == 'ForAnyValue' else all(map(holds_for, actual))


def filled(value: str, context: Context) -> str:
    """Return a value with its policy variables replaced.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
    """
    def replace(match: re.Match[str]) -> str:
        if match[1] in LITERALS:
            return LITERALS[match[1]]
        values = context.get(match[1].lower(), ())
        return values[0] if len(values) == 1 else match[0]

    return VARIABLE.sub(replace, value)


def text(value: Any) -> str:
    """Return a value of JSON as conditions compare it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
