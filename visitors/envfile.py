"""The file .env beside the code: settings over which the environment's win."""

import io
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from visitors.errors import SettingsError


def read(path: Path) -> dict[str, str]:
    """Return the settings of a file .env; raise SettingsError for a line that cannot be obeyed."""
    text = _text_of(path)
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            raise SettingsError(f'{path}, line {binding.original.line}: use NAME=VALUE, or # before a comment')
    values = dotenv_values(stream=io.StringIO(text), interpolate=True)
    return {name: value or '' for name, value in values.items()}


def _text_of(path: Path) -> str:
    try:
        # Some editors begin a file with a byte order mark, which would become a part of the first name.
        text = path.read_text(encoding='utf-8-sig')
    except FileNotFoundError:
        return ''
    except OSError as error:
        raise SettingsError(f'{path}: {error.strerror}; make it a readable file, or remove it') from None
    except UnicodeDecodeError as error:
        raise SettingsError(f'{path} is not UTF-8 (byte {error.start}); save it in that encoding') from None
    if '\0' in text:
        raise SettingsError(f'{path} is not UTF-8, but probably UTF-16; save it in UTF-8')
    return text
