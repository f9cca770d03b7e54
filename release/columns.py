"""Tables for people: rows in columns."""

from collections.abc import Sequence


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of equal length as lines whose cells stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join('  '.join(f'{cell:<{width}}' for cell, width in zip(row, widths)).rstrip() for row in rows)


def with_further(row: Sequence[str], further: Sequence[str]) -> list[tuple[str, ...]]:
    """Return a row, and below it a row for each further text of its last column."""
    return [tuple(row), *((*[''] * (len(row) - 1), text) for text in further)]
