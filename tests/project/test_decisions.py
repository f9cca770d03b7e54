"""The decisions: numbered without gaps, dated, in the same form, and referred to by names that exist."""

from datetime import date
from pathlib import Path
import re
import subprocess

import pytest

from tests.support.server import ROOT

DECISIONS = sorted((ROOT / 'docs' / 'decisions').glob('*.md'))
PARTS = ['Context', 'Decision', 'Options not taken', 'Consequences']


def date_of(decision: Path) -> date:
    """Return the day on which something was decided."""
    (day,) = re.findall(r'^Status: decided, (\S+)\.$', decision.read_text(encoding='utf-8'), re.MULTILINE)
    return date.fromisoformat(day)


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    assert len(DECISIONS) > 14, 'this test looks in the wrong place'


def test_the_numbers_follow_the_dates() -> None:
    dates = [date_of(path) for path in DECISIONS]
    assert dates == sorted(dates)


@pytest.mark.parametrize('decision', DECISIONS, ids=lambda path: path.stem)
def test_a_decision_has_its_number_a_title_and_its_parts_in_their_order(decision: Path) -> None:
    text = decision.read_text(encoding='utf-8')
    assert text.startswith(f'# {int(decision.name[:4])}. ')
    parts = re.findall(r'^\*\*(.+?)\.\*\*', text, re.MULTILINE)
    assert parts in (PARTS, [part for part in PARTS if part != 'Options not taken'])


def test_every_reference_leads_to_a_decision() -> None:
    listing = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = {path.name for path in DECISIONS}
    references = 0
    for name in filter(None, listing.split('\0')):
        path = ROOT / name
        if path.suffix in ('.png', '.ico', '.txt') or path == Path(__file__) or not path.is_file():
            continue
        text = path.read_text(encoding='utf-8')
        for file in re.findall(r'\bdecisions/(\d{4}[\w.-]*)', text):
            references += 1
            assert file.rstrip('.') in names, f'{name} refers to {file}'
        for numbers in re.findall(r'\bdecisions? (\d+(?:(?:,| to| and) \d+)*)', text):
            assert int(numbers.split()[-1]) <= len(DECISIONS), f'{name} refers to decision {numbers}'
    assert references > 5, 'this test looks in the wrong place'
