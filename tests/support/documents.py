"""Markdown as tests read it: sections, tables and links."""

from pathlib import Path
import re

from tests.support.server import ROOT

DOCUMENTS = sorted([*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')])
LINK = re.compile(r'\]\(([^)\s]+)\)')
HEADING = re.compile(r'^#+ (.*)$', re.MULTILINE)


def text_of(name: str) -> str:
    """Return the text of a file of the repository."""
    return (ROOT / name).read_text(encoding='utf-8')


def section(document: str, title: str) -> str:
    """Return the text below a heading of the second level."""
    match = re.search(rf'^## {re.escape(title)}\n(.*?)(?=^## |\Z)', text_of(document), re.MULTILINE | re.DOTALL)
    assert match, f'{document} has no section {title}'
    return match[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table, without its head."""
    lines = [line for line in text.splitlines() if line.startswith('|') and not set(line) <= set('|-: ')]
    return [[cell.strip() for cell in re.split(r'(?<!\\)\|', line.strip('|'))] for line in lines[1:]]


def without_code(text: str) -> str:
    """Return Markdown without its fenced blocks."""
    return re.sub(r'^```.*?^```$', '', text, flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitLab and GitHub make them."""
    headings = HEADING.findall(without_code(document.read_text(encoding='utf-8')))
    return {re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-') for heading in headings}
