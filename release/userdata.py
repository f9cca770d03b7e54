"""The user data of an instance: the project's template with the names that the instance cannot know."""

from collections.abc import Mapping
from pathlib import Path

from release.errors import NotReady

TEMPLATE = Path('instance') / 'user-data.tftpl'
PLACEHOLDER = '${environment}'
LIMIT = 16 * 1024  # of the bytes, before they are encoded: EC2 refuses more


def render(root: Path, environment: Mapping[str, str]) -> str:
    """Return the user data that give an instance these names."""
    path = root / TEMPLATE
    try:
        template = path.read_text(encoding='utf-8')
    except OSError as error:
        raise NotReady(f'{path}: {error.strerror}; verify from a checkout that has it') from None
    if template.count(PLACEHOLDER) != 1:
        raise NotReady(f'{path} has {PLACEHOLDER} {template.count(PLACEHOLDER)} times instead of once')
    text = template.replace(PLACEHOLDER, '\n'.join(f'{name}={value}' for name, value in environment.items()))
    if len(text.encode()) > LIMIT:
        raise NotReady(f'{path}: {len(text.encode())} bytes of user data; EC2 takes {LIMIT}')
    return text
