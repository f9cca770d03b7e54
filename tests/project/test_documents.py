"""The documents promise only what there is: verbs, settings, defaults, modules, tests, files."""

from pathlib import Path
import re
import subprocess
from typing import Any

import pytest

from tests.support.server import ROOT
from visitors.settings import Settings

DOCUMENTS = sorted([ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md')])
MODULES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'visitors').rglob('*.py')
                 if path.name != '__init__.py')
LINK = re.compile(r'\]\(([^)#]+)(?:#[^)]*)?\)')
TEST = re.compile(r'`(test_[a-z0-9_]+)`')
# Defaults that depend on the machine or on other settings; README says so in words.
IN_WORDS = {'DATABASE_URL', 'MIGRATION_DATABASE_URL', 'VISITOR_KEY', 'WORKERS', 'INSTANCE_ID'}
NO_FIELD_OF_THEIR_OWN = {'VISITOR_KEY_FILE'}
WRITES = re.compile(r'\b(?:INSERT INTO|UPDATE|DELETE FROM) visitors\b')


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding='utf-8')


def section(title: str) -> str:
    """Return what README says under a title."""
    found = re.search(rf'^## {title}\n(.*?)(?=^## |\Z)', text_of('README.md'), re.MULTILINE | re.DOTALL)
    assert found, f'README.md has no section {title}'
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table's rows."""
    lines = [line for line in text.splitlines() if line.startswith('|') and not set(line) <= set('|-: ')]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[1:]]


def test_the_readme_shows_what_make_help_prints() -> None:
    told = subprocess.run(['make', 'help'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (shown,) = re.findall(r'^\$ make help\n(.*?)^```', section('Verbs'), re.MULTILINE | re.DOTALL)
    assert shown.strip() == told.strip(), 'paste what `make help` prints into README.md'


def test_the_readme_tells_the_defaults_that_the_settings_have(tmp_path: Path) -> None:
    settings: Any = Settings.from_environ({}, tmp_path)
    told = {name.strip('`'): default.strip('`') for name, default, _ in rows(section('Settings'))}
    assert IN_WORDS <= told.keys(), 'a setting is gone, and this test still excuses it'
    for name in told.keys() - IN_WORDS - NO_FIELD_OF_THEIR_OWN:
        default = getattr(settings, name.lower())
        assert told[name] == ('' if default is None else str(default)), name


@pytest.mark.parametrize('name', sorted(IN_WORDS))
def test_a_default_that_depends_on_something_is_told_in_words(name: str) -> None:
    (told,) = [default for row, default, _ in rows(section('Settings')) if row == f'`{name}`']
    assert told


def test_the_readme_lists_the_answers_that_are_served() -> None:
    views = text_of('visitors/views.py') + text_of('visitors/health.py')
    served = re.findall(r"^@\w+\.get\('([^']+)'\)", views, re.MULTILINE)
    assert [path.strip('`') for path, _ in rows(section('What it serves'))] == served


def test_the_readme_lists_the_commands_that_there_are() -> None:
    told = {re.sub(r' (?:--|[A-Z]).*', '', command.strip('`')) for command, *_ in rows(section('Commands'))}
    groups = {'commands.py': 'flask ', 'schema/commands.py': 'flask schema '}
    found = {prefix + name for file, prefix in groups.items()
             for name in re.findall(r"^@(?:click|schema)\.command\('([a-z-]+)'", text_of(f'visitors/{file}'),
                                    re.MULTILINE)}
    assert told == found


@pytest.mark.parametrize('module', MODULES)
def test_every_module_is_in_the_code_map(module: str) -> None:
    table = text_of('docs/architecture.md').partition('## Code map')[2]
    assert f'| `{module}` |' in table


def test_the_code_map_names_nothing_that_is_not_there() -> None:
    named = [name for row in rows(text_of('docs/architecture.md').partition('## Code map')[2])
             for name in re.findall('`([^`]+)`', row[0])]
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_something(document: Path) -> None:
    text = re.sub(r'^```.*?^```$', '', document.read_text(encoding='utf-8'), flags=re.DOTALL | re.MULTILINE)
    links = [link for link in LINK.findall(text) if '://' not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_readme_tells_to_look_only_where_something_is() -> None:
    places = [place for _, where in rows(section('To change')) for place in re.findall('`([^`]+)`', where)]
    assert len(places) > 10, 'this test looks in the wrong place'
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_every_test_that_a_document_names_exists() -> None:
    there = {name for path in (ROOT / 'tests').rglob('test_*.py')
             for name in re.findall(r'^def (test_\w+)', path.read_text(encoding='utf-8'), re.MULTILINE)}
    named = {name for path in DOCUMENTS for name in TEST.findall(path.read_text(encoding='utf-8'))}
    assert len(named) > 30, 'this test looks in the wrong place'
    assert named - there == set()


def test_every_defect_of_the_replaced_application_has_a_test() -> None:
    table = rows(text_of('docs/original.md'))
    assert len(table) > 10, 'this test looks in the wrong place'
    assert [row[0] for row in table if not TEST.search(row[-1])] == []


@pytest.mark.parametrize('module', MODULES)
def test_nothing_but_the_counting_writes_visitors(module: str) -> None:
    assert bool(WRITES.search(text_of(module))) == (module == 'visitors/counting.py')


def test_the_containers_own_check_loads_nothing_of_the_application() -> None:
    assert not re.search(r'^(?:from|import) (?!http\.client|sys)', text_of('visitors/healthcheck.py'), re.MULTILINE)


def test_every_reported_fault_names_its_tests() -> None:
    table = rows(text_of('docs/reported-faults.md'))
    assert [row[0] for row in table] == [str(number) for number in range(1, 39)]
    assert [row[0] for row in table if not TEST.search(row[-1])] == []
