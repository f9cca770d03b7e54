"""The revisions of a made-up application, r1 to rN, as the migrations folder of a release."""

from collections.abc import Mapping
from pathlib import Path
import shutil
import textwrap

from tests.support.server import ROOT

REVISION = """
'''Revision {name}.'''

from pathlib import Path
import time

from alembic import op

from visitors.schema.operations import create_index

revision = {name!r}
down_revision = {before!r}
{floor}

def upgrade() -> None:
{body}


def downgrade() -> None:
    op.execute('DROP TABLE IF EXISTS {name}')
"""
# Code for the first leader only: a file in the folder marks that a leader ran it.
ONCE = """
been_here = Path(__file__).with_suffix('.been-here')
if not been_here.exists():
    been_here.touch()
{body}
"""


def once(body: str) -> str:
    """Return the body of a revision with code for the first leader only."""
    return ONCE.format(body=textwrap.indent(textwrap.dedent(body).strip(), '    '))


def has_begun(release: Path, revision: str = 'r2') -> bool:
    """Return whether a leader has reached the code that this revision runs for the first leader only."""
    return (release / 'versions' / f'{revision}.been-here').exists()


def make_release(folder: Path, newest: int, bodies: Mapping[str, str] | None = None, *, prefix: str = 'r',
                 floors: Mapping[str, str] | None = None) -> Path:
    """Return a migrations folder whose revisions r1 to rN make a table each, and then run their `bodies`."""
    (folder / 'versions').mkdir(parents=True)
    for name in ('env.py', 'alembic.ini', 'script.py.mako'):
        shutil.copy(ROOT / 'migrations' / name, folder / name)
    before = None
    for number in range(1, newest + 1):
        name = f'{prefix}{number}'
        add_revision(folder, name, before, (bodies or {}).get(name, ''), (floors or {}).get(name))
        before = name
    return folder


def add_revision(folder: Path, name: str, before: str | None, body: str, floor: str | None = None) -> None:
    """Write one revision, which makes a table of its name and then runs a body."""
    table = f"op.execute('CREATE TABLE IF NOT EXISTS {name} (id integer)')\n"
    text = REVISION.format(name=name, before=before, floor=f'min_code_revision = {floor!r}\n' if floor else '',
                           body=textwrap.indent(table + textwrap.dedent(body), '    '))
    (folder / 'versions' / f'{name}.py').write_text(text.lstrip(), encoding='utf-8')
