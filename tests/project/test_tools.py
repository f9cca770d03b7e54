"""The way into the tools: from any folder, without .venv, by a wrong word, with completion, with examples."""

import argparse
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

import pytest

from rehearsal.__main__ import _parser as rehearsal_parser
from release.options import make_parser
from tests.support.server import environment, ROOT

PARSERS = {'release': make_parser(), 'rehearsal': rehearsal_parser()}
TOOLS = sorted(PARSERS)


def verbs(tool: str) -> dict[str, argparse.ArgumentParser]:
    """Return the verbs of a tool."""
    (choices,) = [action.choices for action in PARSERS[tool]._actions
                  if isinstance(action, argparse._SubParsersAction)]
    return dict(choices)


VERBS = [(tool, verb) for tool in TOOLS for verb in verbs(tool)]


def call(*arguments: str, cwd: Path = ROOT, **settings: str) -> 'subprocess.CompletedProcess[str]':
    """Return the result of a command."""
    return subprocess.run(arguments, cwd=cwd, env={**os.environ, **settings}, text=True, capture_output=True,
                          check=False)


@pytest.fixture(scope='module')
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a checkout without .venv."""
    folder = tmp_path_factory.mktemp('bare')
    for name in ('bin', 'release', 'rehearsal', 'visitors'):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(ROOT / 'app.py', folder)
    shutil.copy(ROOT / 'version.txt', folder)
    return folder


def bare_python(*arguments: str, cwd: Path) -> 'subprocess.CompletedProcess[str]':
    """Return the result of a Python without libraries."""
    return call(sys.executable, '-S', *arguments, cwd=cwd)


@pytest.mark.parametrize('tool', TOOLS)
def test_a_tool_starts_from_any_folder_and_by_a_link(tool: str, tmp_path: Path) -> None:
    link = tmp_path / tool
    link.symlink_to(ROOT / 'bin' / tool)
    for path in (ROOT / 'bin' / tool, link):
        done = call(str(path), '--version', cwd=tmp_path)
        assert re.fullmatch(rf'{tool} [0-9.]+\+build\.[0-9]+\n', done.stdout), done


@pytest.mark.parametrize(('arguments', 'message'), [
    (['bin/release', 'list'], 'call bin/release'),
    (['bin/rehearsal', 'status'], 'call bin/rehearsal'),
    (['-m', 'release', 'list'], 'call bin/release'),
    (['-m', 'rehearsal', 'status'], 'call bin/rehearsal'),
    (['app.py'], 'use `make run`'),
], ids=' '.join)
def test_without_libraries_a_tool_says_in_one_line_what_to_call(
        bare: Path, arguments: list[str], message: str) -> None:
    done = bare_python(*arguments, cwd=bare)
    assert (done.returncode in (1, 3), done.stderr.count('\n')) == (True, 1), done
    assert message in done.stderr and 'is not installed for' in done.stderr


@pytest.mark.parametrize(('arguments', 'meant'), [
    (['release', 'bkae'], 'bake'), (['release', 'lst'], 'list'), (['release', 'remove', '--yse', '0' * 16], '--yes'),
    (['release', 'bake', '--imgae=x', '--archive', 'y'], '--image'), (['rehearsal', 'stauts'], 'status'),
    (['rehearsal', 'up', '--no-machine'], '--no-machines'),
    (['release', 'bake', '--image', 'x', '--scan', 'hihg'], 'high'),
])
def test_a_wrong_word_is_answered_with_the_nearest_right_one(arguments: list[str], meant: str) -> None:
    tool, *rest = arguments
    done = call(str(ROOT / 'bin' / tool), *rest)
    assert (done.returncode, f'; did you mean {meant}?' in done.stderr) == (2, True), done


def test_a_word_like_none_gets_no_guess() -> None:
    done = call(str(ROOT / 'bin' / 'release'), 'xyzzy')
    assert (done.returncode, 'did you mean' in done.stderr) == (2, False), done


@pytest.mark.parametrize(('tool', 'verb'), VERBS, ids=map(' '.join, VERBS))
def test_each_verb_shows_examples_that_its_own_parser_takes(tool: str, verb: str) -> None:
    shown = re.findall(rf'^  (?:eval "\$\()?bin/{tool} ({verb}\b[^")\n]*)', verbs(tool)[verb].epilog or '',
                       re.MULTILINE)
    assert shown
    for line in shown:
        PARSERS[tool].parse_args(line.replace('build/images/*.tar', 'build/images/0.tar').split())


@pytest.mark.parametrize('tool', TOOLS)
def test_bash_completes_the_verbs_by_the_line_that_the_help_names(tool: str) -> None:
    (line,) = re.findall(r'^  (eval .*completion bash.*)$', call(str(ROOT / 'bin' / tool), '--help').stdout,
                         re.MULTILINE)
    completing = f'{line}; COMP_WORDS=(bin/{tool} ""); COMP_CWORD=1; _shtab_{tool}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = call('bash', '--norc', '-c', completing)
    assert set(verbs(tool)) <= set(done.stdout.split()), done


def test_zsh_gets_a_completion_too() -> None:
    assert call(str(ROOT / 'bin' / 'release'), '--print-completion', 'zsh').stdout.startswith('#compdef release\n')


@pytest.fixture(scope='module')
def flask_helps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the help of flask, and of each of its groups, on a terminal of 80 columns."""
    settings = environment(f'sqlite:///{tmp_path_factory.mktemp("flask")}/f', COLUMNS='80')
    return {group: subprocess.run([sys.executable, '-m', 'flask', '--app', 'app', *group.split(), '--help'], cwd=ROOT,
                                  env=settings, text=True, capture_output=True, check=True).stdout
            for group in ('', 'schema', 'db')}


def test_no_line_of_a_help_is_cut_off(flask_helps: dict[str, str]) -> None:
    for group, text in flask_helps.items():
        listed = text.partition('\nCommands:\n')[2]
        assert listed and '...' not in listed, f'flask {group}: {listed}'


def test_flask_db_shows_only_what_may_be_used(flask_helps: dict[str, str]) -> None:
    shown = set(re.findall(r'^  ([a-z-]+) ', flask_helps['db'].partition('\nCommands:\n')[2], re.MULTILINE))
    assert {'upgrade', 'migrate', 'revision', 'current', 'history'} <= shown
    assert not shown & {'downgrade', 'stamp', 'init', 'list-templates'}
