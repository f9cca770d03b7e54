"""Metric math, as far as the alarms of this project use it.

Modelled: numbers, ids of metrics, `+ - * /`, comparisons, FILL with a number, and IF. Python's own grammar reads them.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

import ast
from collections.abc import Callable, Mapping
import operator

from rehearsal.errors import NotModelled

Value = float | None
OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne}
FUNCTIONS = {'FILL': 2, 'IF': 3}


class Expression:
    """An expression, whose value a period of each metric decides."""

    def __init__(self, text: str) -> None:
        """Read the text; raise NotModelled for any other part of metric math."""
        self._text = text
        try:
            self._root = ast.parse(text.strip(), mode='eval').body
        except SyntaxError:
            raise NotModelled(f'the metric math {text!r}') from None
        self.names = frozenset(self._names(self._root))

    def value(self, values: Mapping[str, Value]) -> Value:
        """Return the value for the metrics' values of one period; None if data is missing."""
        return self._value(self._root, values)

    def _names(self, node: ast.AST) -> list[str]:
        match node:
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                return []
            case ast.Name():
                return [node.id]
            case ast.UnaryOp(op=ast.USub()):
                return self._names(node.operand)
            case ast.BinOp() if type(node.op) in OPERATORS:
                return [*self._names(node.left), *self._names(node.right)]
            case ast.Compare(ops=[operation]) if type(operation) in OPERATORS:
                return [*self._names(node.left), *self._names(node.comparators[0])]
            case ast.Call(func=ast.Name(id=function), keywords=[]) if len(node.args) == FUNCTIONS.get(function):
                if function == 'FILL' and not isinstance(node.args[1], ast.Constant):
                    raise NotModelled(f'FILL with anything but a number, in the metric math {self._text!r}')
                return [name for argument in node.args for name in self._names(argument)]
        raise NotModelled(f'{ast.unparse(node)!r} in the metric math {self._text!r}')

    def _value(self, node: ast.AST, values: Mapping[str, Value]) -> Value:
        match node:
            case ast.Constant():
                return float(node.value)  # type: ignore[arg-type]
            case ast.Name():
                return values[node.id]
            case ast.UnaryOp():
                operand = self._value(node.operand, values)
                return None if operand is None else -operand
            case ast.BinOp():
                return combine(node.op, self._value(node.left, values), self._value(node.right, values))
            case ast.Compare():
                return combine(node.ops[0], self._value(node.left, values), self._value(node.comparators[0], values))
            case ast.Call(func=ast.Name(id='FILL')):
                filled = self._value(node.args[0], values)
                return self._value(node.args[1], values) if filled is None else filled
        assert isinstance(node, ast.Call), 'the constructor refuses all other parts'
        condition = self._value(node.args[0], values)
        return None if condition is None else self._value(node.args[1 if condition else 2], values)


def combine(operation: ast.AST, left: Value, right: Value) -> Value:
    """Return the result of an operator; None if a side has no value, or for a division by zero."""
    if left is None or right is None:
        return None
    try:
        return float(OPERATORS[type(operation)](left, right))
    except ZeroDivisionError:
        return None
