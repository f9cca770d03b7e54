"""The promises that two files make to each other."""

from pathlib import Path
import re
import shutil
import subprocess

import pytest

from tests.support.documents import DOCUMENTS, section
from tests.support.server import ROOT

MODULES = sorted((ROOT / 'visitors').rglob('*.py'))
VERBS = re.findall(r'^([a-z-]+):(?!=)', (ROOT / 'Makefile').read_text(encoding='utf-8'), re.MULTILINE)


def names_in_settings() -> set[str]:
    source = (ROOT / 'visitors' / 'settings.py').read_text(encoding='utf-8')
    code = source[source.index('class Settings'):source.index('def load_or_exit')] + source
    return set(re.findall(r"'((?:[A-Z]+_)*[A-Z]{2,})'", code)) - {'FLASK_SKIP_DOTENV', 'UTC'}  # the latter is a value


def test_the_reference_lists_exactly_the_settings_that_are_read() -> None:
    table = section('docs/reference.md', 'Settings')
    assert set(re.findall(r'^\| `([A-Z_]+)`', table, re.MULTILINE)) == names_in_settings()


@pytest.mark.parametrize('module', MODULES, ids=lambda path: path.stem)
def test_only_the_settings_read_the_environment(module: object) -> None:
    path = ROOT / str(module)
    reads = 'environ' in re.findall(r'os\.(\w+)', path.read_text(encoding='utf-8'))
    assert not reads or path.name == 'settings.py'


def test_every_verb_that_a_document_or_the_pipeline_calls_exists() -> None:
    verbs = set(VERBS)
    called = set()
    files = ('.gitlab-ci.yml', '.ci/run', 'docker-compose.yml', 'docker-compose.override.yml')
    documents = [path for path in DOCUMENTS if path.name != 'CHANGELOG.md']  # that one names former verbs
    for path in [*documents, *(ROOT / name for name in files)]:
        text = path.read_text(encoding='utf-8')
        called |= set(re.findall(r'(?:`|^\s*-\s|phase |\$ )make ([a-z-]+)', text, re.MULTILINE))
    assert called <= verbs


def test_the_pythons_that_requirements_are_checked_for_are_those_that_are_promised_and_tested() -> None:
    makefile, pipeline = ((ROOT / name).read_text(encoding='utf-8') for name in ('Makefile', '.gitlab-ci.yml'))
    (checked,) = re.findall(r'^PYTHONS := (.*)$', makefile, re.MULTILINE)
    first, *_, last = checked.split()
    assert set(re.findall(r'"(3\.\d+)-\w+"', pipeline)) == set(checked.split())
    for name in ('README.md', 'Dockerfile', '.env.example'):
        assert f'Python {first} to {last}' in (ROOT / name).read_text(encoding='utf-8'), name


@pytest.mark.parametrize('line', ['flask==3.1.3', 'flask'], ids=['without a hash', 'without a version'])
def test_a_requirement_that_is_not_locked_fails_the_check_and_names_the_file(tmp_path: Path, line: str) -> None:
    shutil.copy(ROOT / 'Makefile', tmp_path)
    (tmp_path / '.venv').symlink_to(ROOT / '.venv')
    for name in ('requirements.txt', 'requirements.test.txt', 'release/requirements.txt',
                 'packer/ansible/requirements.txt'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f'{line}\n', encoding='utf-8')
    for command in (['git', 'init', '--quiet'], ['git', 'add', 'requirements.txt']):
        subprocess.run(command, cwd=tmp_path, check=True)
    installed = [f'--assume-old=.venv/bin/{name}' for name in ('.installed-tests', '.installed-release', '.installed')]
    done = subprocess.run(['make', *installed, 'check-requirements'], cwd=tmp_path, capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode != 0
    assert 'requirements.txt does not install on Python 3.11; make requirements locks it again' in done.stderr


@pytest.mark.parametrize('verb', VERBS)
def test_each_command_of_a_verb_and_of_its_installation_is_a_shell_command(verb: str) -> None:
    # On a checkout that is installed already, no other test runs the commands that install.
    printed = subprocess.run(['make', '--dry-run', '--always-make', verb], cwd=ROOT, capture_output=True, text=True,
                             check=True).stdout
    checked = subprocess.run(['bash', '-n'], input=printed, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, ''), printed
