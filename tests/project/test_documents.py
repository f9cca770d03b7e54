"""The documents promise nothing that is missing: verbs, settings, defaults, modules, tests, files."""

from pathlib import Path
import re
import subprocess
from typing import Any

import pytest

from rehearsal.__main__ import _parser as rehearsal_parser
from rehearsal.__main__ import EXIT_CODES
from tests.support.documents import anchors, DOCUMENTS, LINK, rows, section, text_of, without_code
from tests.support.server import ROOT
from visitors.settings import Settings

REFERENCE = 'docs/reference.md'
PACKAGES = ('benchmarks', 'instance', 'migrations', 'rehearsal', 'release', 'visitors')
# Packages and revisions that need no row: empty ones, and one row stands for all revisions.
NO_MODULES = ('__init__.py', 'migrations/versions/', 'rehearsal/machines/files/')
# Every module, each role of the playbooks and each module of the stack.
MAPPED = sorted({*(str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob('*.py')),
                 *(f'{path.relative_to(ROOT)}/' for folder in ('packer/ansible/roles', 'terraform/modules')
                   for path in (ROOT / folder).iterdir()), 'app.py', 'gunicorn.conf.py', 'migrations/versions/'})
# The first cell of each row of a map, where it is code; docs/mutants.md lists modules for another reason.
ROWS = [cell for document in DOCUMENTS if document.name != 'mutants.md'
        for cell in re.findall(r'^\| `([^`|]+)` \|', document.read_text(encoding='utf-8'), re.MULTILINE)]
MODULES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'visitors').rglob('*.py')
                 if path.name != '__init__.py')
TEST = re.compile(r'`(test_[a-z0-9_]+)`')
# Defaults that depend on the machine or on other settings; the reference has them in words.
IN_WORDS = {'DATABASE_URL', 'MIGRATION_DATABASE_URL', 'VISITOR_KEY', 'WORKERS', 'INSTANCE_ID'}
NO_FIELD_OF_THEIR_OWN = {'VISITOR_KEY_FILE'}
WRITES = re.compile(r'\b(?:INSERT INTO|UPDATE|DELETE FROM) visitors\b')
# A verb of make: its name and its help, whose brackets hold the duration and the needs.
VERB = re.compile(r'^([a-z-]+):.*## ([^\n(]*?)(?: \(([^()]*)\))?$', re.MULTILINE)


def names_in(table: list[list[str]]) -> list[str]:
    """Return the code in the first cell of each row."""
    return [row[0].strip('`') for row in table]


def test_the_reference_shows_the_help_of_make() -> None:
    printed = subprocess.run(['make', 'help'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (shown,) = re.findall(r'^\$ make help\n(.*?)^```', section(REFERENCE, 'Verbs of make'), re.MULTILINE | re.DOTALL)
    assert shown.strip() == printed.strip(), 'paste the output of `make help` into docs/reference.md'


def test_the_guide_and_the_help_name_the_same_durations_and_needs() -> None:
    verbs = {name: cost or '' for name, _, cost in VERB.findall(text_of('Makefile'))}
    table = rows(section('CONTRIBUTING.md', 'Verbs'))
    assert {name for name in verbs if name.startswith(('test', 'check'))} <= {
        row[0].strip('`').removeprefix('make ') for row in table}
    for verb, duration, needs in table:
        assert verbs[verb.strip('`').removeprefix('make ')] == '; '.join(filter(None, [duration, needs])), verb


def test_the_guide_names_each_variable_that_a_verb_takes() -> None:
    taken = set(re.findall(r'\$\(([A-Z]+)\)', ''.join(re.findall(r'^\t.*', text_of('Makefile'), re.MULTILINE))))
    chosen = {'TESTS', 'WORDS', 'OPTIONS', 'ARCHIVE'}
    assert chosen <= taken, 'a variable is gone, and this test still looks for it'
    for name in chosen:
        assert any(f'{name}=' in text for text in map(text_of, ('CONTRIBUTING.md', 'docs/operations.md'))), name


def test_the_readme_fits_into_90_lines() -> None:
    assert len(text_of('README.md').splitlines()) <= 90


def test_the_reference_lists_the_defaults_of_the_settings(tmp_path: Path) -> None:
    settings: Any = Settings.from_environ({}, tmp_path)
    defaults = {name.strip('`'): default.strip('`') for name, default, _ in rows(section(REFERENCE, 'Settings'))}
    assert IN_WORDS <= defaults.keys(), 'a setting is gone, and this test still excuses it'
    for name in defaults.keys() - IN_WORDS - NO_FIELD_OF_THEIR_OWN:
        default = getattr(settings, name.lower())
        assert defaults[name] == ('' if default is None else str(default)), name


@pytest.mark.parametrize('name', sorted(IN_WORDS))
def test_a_default_that_depends_on_something_is_described(name: str) -> None:
    (default,) = [default for row, default, _ in rows(section(REFERENCE, 'Settings')) if row == f'`{name}`']
    assert default


def test_the_reference_lists_the_paths_that_are_served() -> None:
    views = text_of('visitors/views.py') + text_of('visitors/health.py')
    served = re.findall(r"^@\w+\.get\('([^']+)'\)", views, re.MULTILINE)
    assert names_in(rows(section(REFERENCE, 'Paths'))) == served


def test_the_reference_lists_the_commands_of_flask() -> None:
    listed = {re.sub(r' (?:--|[A-Z]).*', '', command) for command in names_in(rows(section(REFERENCE, 'Commands')))}
    groups = {'commands.py': 'flask ', 'schema/commands.py': 'flask schema '}
    commands = {prefix + name for file, prefix in groups.items()
                for name in re.findall(r"^@(?:click|schema)\.command\('([a-z-]+)'", text_of(f'visitors/{file}'),
                                       re.MULTILINE)}
    assert listed == commands


def test_the_reference_lists_the_verbs_and_the_exit_codes_of_the_rehearsal() -> None:
    text = section(REFERENCE, 'Verbs of the rehearsal')
    verbs = rehearsal_parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    assert [name.split()[0] for name in names_in(rows(text))] == list(verbs or ())
    (codes,) = re.findall(r'^Exit codes: (.*?);', text, re.MULTILINE | re.DOTALL)
    assert re.findall(r'\b\d+\b', codes) == re.findall(r'^  (\d+)  ', EXIT_CODES, re.MULTILINE)


def test_the_table_of_contents_of_the_reference_is_complete() -> None:
    contents, _, rest = text_of(REFERENCE).partition('\n## ')
    linked = {link.removeprefix('#') for link in LINK.findall(contents) if link.startswith('#')}
    assert linked == anchors(ROOT / REFERENCE) - {'reference'}


@pytest.mark.parametrize('module', MAPPED)
def test_every_module_has_one_row_in_a_map(module: str) -> None:
    needs_a_row = module.endswith('versions/') or not any(name in module for name in NO_MODULES)
    number = ROWS.count(module)
    assert number == 1 or not needs_a_row, f'the maps have {number} rows of it'


def test_every_name_in_a_map_exists() -> None:
    named = [name for name in ROWS if name.split('/')[0] in (*PACKAGES, 'packer', 'terraform') and '/' in name]
    assert len(named) > 100, 'this test looks in the wrong place'
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_something(document: Path) -> None:
    links = [link.partition('#') for link in LINK.findall(without_code(document.read_text(encoding='utf-8')))
             if '://' not in link]
    targets = [(document.parent / name if name else document, anchor) for name, _, anchor in links]
    assert [str(target) for target, _ in targets if not target.exists()] == []
    assert [(str(target), anchor) for target, anchor in targets if anchor and anchor not in anchors(target)] == []


def test_every_document_that_a_file_names_exists() -> None:
    listing = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    references = [(name, document) for name in filter(None, listing.split('\0')) if (ROOT / name).is_file()
                  for document in re.findall(rb'\bdocs/[\w/-]+\.md\b', (ROOT / name).read_bytes())
                  if not name.startswith('tests/')]
    assert len(references) > 30, 'this test looks in the wrong place'
    placeholders = (b'docs/runbooks/NAME.md',)
    assert [(name, document) for name, document in references
            if document not in placeholders and not (ROOT / document.decode()).exists()] == []


@pytest.mark.parametrize('title', ['Entry points', 'Where to change something'])
def test_the_architecture_leads_to_files_that_exist(title: str) -> None:
    places = [place for row in rows(section('docs/architecture.md', title)) for cell in row[1:]
              for place in re.findall(r'`([\w.-]+/[\w./-]*|[\w.-]+\.(?:py|yml|txt|in))`', cell)]
    assert len(places) > 10, 'this test looks in the wrong place'
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_every_test_that_a_document_names_exists() -> None:
    functions = {name for path in (ROOT / 'tests').rglob('test_*.py')
                 for name in re.findall(r'^def (test_\w+)', path.read_text(encoding='utf-8'), re.MULTILINE)}
    named = {name for path in DOCUMENTS for name in TEST.findall(path.read_text(encoding='utf-8'))}
    assert len(named) > 30, 'this test looks in the wrong place'
    assert named - functions == set()


def test_the_operations_name_the_templates_own_defaults() -> None:
    template = text_of('packer/ami.pkr.hcl')
    table = {row[0].strip('`'): row[1].strip('`') for row in rows(section('docs/operations.md', 'Bake an AMI'))}
    default = re.search(r'variable "ssh_interface" \{.*?default *= "(.*?)"', template, re.DOTALL)
    assert default and table['PKR_VAR_ssh_interface'] == default[1]


def test_an_image_has_the_moment_of_its_commit_and_make_run_that_of_the_call() -> None:
    assert 'CREATED="$$(TZ=UTC git show --no-patch' in text_of('Makefile')
    (answer,) = [answer for path, answer in rows(section(REFERENCE, 'Paths')) if path == '`/version`']
    assert 'of an image: the moment of its commit; of `make run`: the moment of the call' in answer


def test_every_defect_of_the_replaced_application_has_a_test() -> None:
    table = rows(text_of('docs/original.md'))
    assert len(table) > 10, 'this test looks in the wrong place'
    assert [row[0] for row in table if not TEST.search(row[-1])] == []


@pytest.mark.parametrize('module', MODULES)
def test_only_counting_the_import_and_retention_write_visitors(module: str) -> None:
    writers = ('visitors/counting.py', 'visitors/original.py', 'visitors/retention.py')
    assert bool(WRITES.search(text_of(module))) == (module in writers)


def test_the_containers_own_check_loads_nothing_of_the_application() -> None:
    assert not re.search(r'^(?:from|import) (?!http\.client|sys)', text_of('visitors/healthcheck.py'), re.MULTILINE)


def test_every_reported_fault_names_its_tests() -> None:
    table = rows(text_of('docs/reported-faults.md'))
    assert [row[0] for row in table] == [str(number) for number in range(1, 39)]
    assert [row[0] for row in table if not TEST.search(row[-1])] == []
