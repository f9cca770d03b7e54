"""The check of wording: which phrases it finds, where, and that code and quotations pass."""

from pathlib import Path
import subprocess
import sys

import pytest

from tests.support.server import ROOT
from tests.tools.words import check, load_phrases, passages_of, Phrase

PHRASES = load_phrases()


def findings(file: str, text: str) -> list[tuple[int, str]]:
    """Return the line and the name of each phrase that a file of this text contains."""
    return [(finding.line, finding.phrase.name) for finding in check(file, passages_of(file, text), PHRASES)]


@pytest.mark.parametrize('phrase', PHRASES, ids=lambda phrase: phrase.bad)
def test_the_example_of_a_phrase_is_found_and_the_better_wording_passes(phrase: Phrase) -> None:
    assert (1, phrase.name) in findings('docs/page.md', phrase.bad)
    assert findings('docs/page.md', phrase.good) == []
    assert phrase.instead


@pytest.mark.parametrize(('file', 'text', 'line'), [
    ('visitors/a.py', '"""Serve.\n\nIt is baked anew.\n"""\n', 3),
    ('visitors/a.py', 'x = 1\n# The server\n# tells it.\n', 3),
    ('visitors/a.py', 'x = 1  # nobody asks\n', 1),
    ('visitors/a.py', 'x = 1\nraise ValueError(f"{x} tells it")\n', 2),
    ('visitors/a.py', 'def told() -> None:\n    """Return the lock, and give it\n    back."""\n', 2),
    ('tests/tools/a.py', 'print("nobody asks")\n', 1),
    ('packer/a.yml', '---\n- name: The file is there\n', 2),
    ('packer/a.yml', '---\n# The file is\n# there.\n', 2),
    ('templates/a.html', '<p>Try it anew.</p>\n', 1),
    ('Makefile', 'run: ## tell the address\n', 1),
    ('docs/a.md', 'A page.\n\n| a | b |\n|---|---|\n| c | nobody |\n', 5),
    ('docs/a.md', '```mermaid\nstate --> other: nobody asks\n```\n', 2),
])
def test_prose_is_looked_at_wherever_it_stands(file: str, text: str, line: int) -> None:
    assert [number for number, _ in findings(file, text)] == [line]


@pytest.mark.parametrize(('file', 'text'), [
    ('visitors/a.py', 'told = somebody.tell(nobody)\n'),
    ('visitors/a.py', 'def nobody_asks() -> None:\n    """Return `told`, or `is there`."""\n'),
    ('tests/test_a.py', 'assert "nobody asks" in text\n'),
    ('terraform/a.tftest.hcl', 'run "nobody_becomes_admin" {}\n'),
    ('templates/a.html', '{% if first is none -%}\n'),
    ('docs/a.md', '```console\n$ tell nobody\n```\n'),
    ('docs/a.md', 'The verb `tell nobody` exists.\n'),
])
def test_code_and_quotations_pass(file: str, text: str) -> None:
    assert findings(file, text) == []


def run(folder: Path, *arguments: str) -> 'subprocess.CompletedProcess[str]':
    """Return the result of the check in a repository of one file."""
    subprocess.run(['git', 'init', '--quiet'], cwd=folder, check=True)
    subprocess.run(['git', 'add', '.'], cwd=folder, check=True)
    return subprocess.run([sys.executable, '-m', 'tests.tools.words', *arguments], cwd=folder, text=True,
                          env={'PATH': '/usr/bin:/bin', 'PYTHONPATH': str(ROOT)}, capture_output=True, check=False)


def test_a_phrase_fails_the_check_with_file_line_and_better_wording(tmp_path: Path) -> None:
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'docs' / 'page.md').write_text('# Page\n\nIt is baked anew.\n', encoding='utf-8')
    done = run(tmp_path)
    assert done.returncode == 1, done.stderr
    assert 'docs/page.md:3: anew. ... (anew; better: again; retry; rebuild)' in done.stdout
    assert done.stdout.splitlines()[-1].split() == ['all', '5', '1', '200.0']


def test_a_repository_without_a_phrase_passes(tmp_path: Path) -> None:
    (tmp_path / 'page.md').write_text('# Page\n', encoding='utf-8')
    assert run(tmp_path).returncode == 0
