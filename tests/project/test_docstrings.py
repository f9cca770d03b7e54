"""Docstrings of modules and classes: present, and a noun, because a module or a class is a thing and not a command."""

import ast
from collections.abc import Iterator
from pathlib import Path

from pydocstyle.wordlists import IMPERATIVE_VERBS
import pytest

from tests.support.server import ROOT

PACKAGES = ('benchmarks', 'instance', 'migrations', 'rehearsal', 'release', 'tests/support', 'tests/tools', 'visitors')
FILES = sorted([ROOT / 'app.py', ROOT / 'gunicorn.conf.py',
                *(path for package in PACKAGES for path in (ROOT / package).rglob('*.py'))])
# The files of packages that only make them packages.
EMPTY = {path for path in FILES if path.name == '__init__.py' and not path.read_text(encoding='utf-8').strip()}
# Nouns that are verbs as well, where these packages begin a docstring with them.
NOUNS = {'launch', 'step'}
COMMANDS = {verb for verbs in IMPERATIVE_VERBS.values() for verb in verbs} - NOUNS
# A program's docstring is its description in its help, a revision's is its message: both are commands.
DESCRIPTIONS = ('tests/tools/', 'migrations/versions/', 'benchmarks/', '__main__.py')
CODE = sorted(set(FILES) - EMPTY)


def public_classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    """Yield the classes of a module, and those inside public classes."""
    pending: list[ast.AST] = [tree]
    while pending:
        for node in ast.iter_child_nodes(pending.pop()):
            if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
                yield node
                pending.append(node)


def is_a_command(docstring: str) -> bool:
    """Return whether a docstring begins with a verb in the imperative."""
    return docstring.split()[0].lower().strip('.,:;') in COMMANDS


@pytest.mark.parametrize('docstring', ['Keep a lease.', 'Return the answer.', 'Make the lock of a key.'])
def test_a_command_is_recognised(docstring: str) -> None:
    assert is_a_command(docstring)


@pytest.mark.parametrize('docstring', ['The lock that serialises bakes.', 'A lease.', 'Settings of the application.'])
def test_a_noun_is_no_command(docstring: str) -> None:
    assert not is_a_command(docstring)


@pytest.mark.parametrize('path', CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_a_docstring_that_names_its_subject(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
    assert docstring, 'a reader of the folder would have to read the code'
    is_a_description = any(name in str(path.relative_to(ROOT)) for name in DESCRIPTIONS)
    assert is_a_description or not is_a_command(docstring), docstring.splitlines()[0]


@pytest.mark.parametrize('path', CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_public_class_has_a_docstring_that_is_a_noun(path: Path) -> None:
    for node in public_classes(ast.parse(path.read_text(encoding='utf-8'))):
        docstring = ast.get_docstring(node)
        assert docstring, f'{node.name}: help() and editors would show nothing'
        assert not is_a_command(docstring), f'{node.name}: {docstring.splitlines()[0]}'
