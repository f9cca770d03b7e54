"""The user data of an instance: the project's template, filled with the settings of that instance."""

from collections.abc import Mapping
from pathlib import Path

from release.errors import NotReady

TEMPLATE = Path('instance') / 'user-data.tftpl'
PLACEHOLDER = '${environment}'
LIMIT = 16 * 1024  # bytes before they are encoded; EC2 refuses more


def render(root: Path, environment: Mapping[str, str]) -> str:
    """Return the user data with these settings."""
    path = root / TEMPLATE
    try:
        template = path.read_text(encoding='utf-8')
    except OSError as error:
        raise NotReady(f'{path}: {error.strerror}; use a checkout that has it') from None
    if template.count(PLACEHOLDER) != 1:
        raise NotReady(f'{path} contains {PLACEHOLDER} {template.count(PLACEHOLDER)} times instead of once')
    text = template.replace(PLACEHOLDER, '\n'.join(f'{name}={value}' for name, value in environment.items()))
    if len(text.encode()) > LIMIT:
        raise NotReady(f'{path}: {len(text.encode())} bytes of user data; EC2 accepts {LIMIT}')
    return text
