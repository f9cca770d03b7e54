"""The documents agree with the release tool: verbs, options, exit codes, settings and modules."""

import argparse
import os
import re
import subprocess
import sys

import pytest

from release.errors import Exit
from release.inputs import NEUTRAL
from release.options import make_parser
from tests.support.documents import rows, section
from tests.support.server import ROOT


def verbs() -> dict[str, argparse.ArgumentParser]:
    """Return the verbs of the release tool."""
    (choices,) = [action.choices for action in make_parser()._actions
                  if isinstance(action, argparse._SubParsersAction)]
    return dict(choices)


def test_the_reference_lists_exactly_the_verbs() -> None:
    table = rows(section('docs/reference.md', 'Verbs of the release tool'))
    assert [row[0].strip('`') for row in table] == list(verbs())


def test_the_reference_lists_the_exit_codes_with_their_meanings() -> None:
    table = rows(section('docs/reference.md', 'Exit codes of the release tool'))
    assert table == [[str(code.value), code.meaning] for code in Exit]


@pytest.mark.parametrize('verb', verbs())
def test_the_help_of_each_verb_lists_the_exit_codes(verb: str) -> None:
    process = subprocess.run([sys.executable, '-m', 'release', verb, '--help'], cwd=ROOT, text=True,
                             capture_output=True, check=True)
    for code in Exit:
        assert re.search(rf'^  {code.value} +{re.escape(code.meaning)}$', process.stdout, re.MULTILINE)


@pytest.mark.parametrize('verb', verbs())
def test_every_option_has_help(verb: str) -> None:
    assert all(action.help for action in verbs()[verb]._actions)


def test_the_commands_in_the_operations_are_verbs_with_options_that_exist() -> None:
    text = (ROOT / 'docs' / 'operations.md').read_text(encoding='utf-8')
    for verb, options in re.findall(r'bin/release ([a-z]+)(.*?)(?:#|`|\n)', text):
        existing = {option for action in verbs()[verb]._actions for option in action.option_strings}
        assert set(re.findall(r'--[a-z-]+', options)) <= existing, verb


@pytest.mark.parametrize('arguments', [
    [], ['nothing'], ['bake'], ['bake', '--image', 'a', '--archive', 'b'], ['bake', '--image', 'a', '--timeout', 'x'],
    ['bake', '--image', 'a', '--timeout', '0'], ['bake', '--image', 'a', '--scan', 'some'], ['verify'], ['remove'],
    ['verify', 'ami'], ['remove', ''], ['artefacts', '0123456789abcdef'],
])
def test_wrong_usage_ends_with_its_code(arguments: list[str]) -> None:
    process = subprocess.run([sys.executable, '-m', 'release', *arguments], cwd=ROOT, text=True,
                             capture_output=True, check=False)
    assert process.returncode == Exit.USAGE
    assert 'usage: release' in process.stderr


def test_the_version_is_printed_where_nothing_is_installed() -> None:
    program = ('import sys; sys.modules.update(boto3=None, rich=None, yaml=None)\n'
               'from release.__main__ import main; main()')
    process = subprocess.run([sys.executable, '-S', '-c', program, 'version'], cwd=ROOT, text=True,
                             capture_output=True, check=False)
    assert (process.returncode, '+build.' in process.stdout) == (0, True), process.stderr


def test_a_former_verb_names_its_successor_and_does_nothing() -> None:
    for command in ([sys.executable, '-m', 'release', 'purge', 'ami-0123456789abcdef0', '--yes'], ['make', 'purge']):
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert process.returncode == Exit.USAGE, process
        assert re.search('this verb is now called `(release remove|make remove-ami AMI=ID)`; nothing was done',
                         process.stderr), process


@pytest.mark.parametrize('arguments', [
    ['--help'], ['--version'], ['version'], ['--print-completion', 'bash']], ids=' '.join)
def test_a_reader_that_closes_stdout_causes_no_traceback(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as `head` does once it has enough
    process = subprocess.run([ROOT / 'bin' / 'release', *arguments], stdout=writing, stderr=subprocess.PIPE, text=True,
                             check=False)
    os.close(writing)
    assert (process.returncode, process.stderr) == (0, '')


def test_every_module_has_a_row_in_the_page_of_the_release_tool() -> None:
    table = [row[0].strip('`') for row in rows(section('docs/release.md', 'Modules'))]
    modules = [str(path.relative_to(ROOT)) for path in (ROOT / 'release').glob('*.py') if path.stem != '__init__']
    assert sorted(table) == sorted(modules)


def test_a_job_bakes_with_a_role_and_no_stored_key() -> None:
    pipeline = (ROOT / '.gitlab-ci.yml').read_text(encoding='utf-8')
    assert 'AWS_SECRET_ACCESS_KEY' not in pipeline
    assert re.search(r'^\.aws:\n  id_tokens:', pipeline, re.MULTILINE)


def test_the_settings_in_the_operations_are_read() -> None:
    table = section('docs/operations.md', 'Bake an AMI')
    code = '\n'.join(path.read_text(encoding='utf-8') for path in (ROOT / 'release').glob('*.py'))
    for setting in re.findall(r'^\| `(VISITORS_[A-Z]+)`', table, re.MULTILINE):
        assert f"'{setting}'" in code
    assert 'ssh_interface' in NEUTRAL
