"""The table of faults that the schema survives: each row has its tests, and the document names all of them."""

import ast
from pathlib import Path
import re

from tests.support.server import ROOT

ROWS = set(range(1, 29))


def faults_in(path: Path) -> list[tuple[int, str]]:
    """Return the rows that a file's tests prove, each with the test's name."""
    module = ast.parse(path.read_text(encoding='utf-8'))
    return [(ast.literal_eval(decorator.args[0]), function.name)
            for function in module.body if isinstance(function, ast.FunctionDef)
            for decorator in function.decorator_list
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == 'pytest.mark.fault']


def test_each_row_has_a_test_and_the_document_names_it() -> None:
    tested = sorted(fault for path in sorted((ROOT / 'tests').rglob('test_*.py')) for fault in faults_in(path))
    document = (ROOT / 'docs' / 'faults.md').read_text(encoding='utf-8')
    written = re.findall(r'^\| (\d+) \|.*\| `(test_\w+)` \|$', document, re.MULTILINE)

    assert {row for row, _ in tested} == ROWS
    assert sorted((int(row), name) for row, name in written) == tested
