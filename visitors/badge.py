"""The geometry of /badge.svg; templates/badge.svg draws it."""

from dataclasses import dataclass

LABEL = 'visitors'
PADDING = 12  # of a part, the sum of both sides
# Widths of characters in the usual sans-serif faces at the size of the drawing. It stretches its texts to their sums.
NARROW, DIGIT, LETTER = 3.5, 7.0, 6.2


@dataclass(frozen=True)
class Part:
    """A text, its width, and the width of the field around it."""

    text: str
    text_width: float
    width: float


def parts_of(total: int) -> tuple[Part, Part]:
    """Return the label and the number of the badge for a total."""
    return _part(LABEL), _part(f'{total:,}')


def _part(text: str) -> Part:
    width = sum(NARROW if character in ',.' else DIGIT if character.isdigit() else LETTER for character in text)
    return Part(text, width, width + PADDING)
