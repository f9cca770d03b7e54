"""Changes the code that counts and decides, one place at a time, and prints the changes that no test notices.

mutmut changes the bodies of functions. It ignores code outside them (SQL, constants, patterns) and functions with
a decorator (properties); the rules in this module change those. `make mutation` runs both and compares docs/mutants.md
with the results.
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from dataclasses import dataclass
import difflib
import io
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tempfile
import tokenize

from tests.support.server import ROOT

DOCUMENT = ROOT / 'docs' / 'mutants.md'
KILLED, SURVIVED, TIMED_OUT = 'killed', 'survived', 'timeout'
AT_ONCE = 2
Replacement = str | Callable[[re.Match[str]], str]


def one_more(match: re.Match[str]) -> str:
    """Return a number's text for the next one."""
    return str(int(match[0]) + 1)


RULES: tuple[tuple[str, Replacement], ...] = (
    # Numbers, but none that is part of a name, a date, a parameter or a range.
    (r"(?<![\w.'$:-])\d+(?![\w.'-])", one_more),
    (r'\d+(?=\.\d)', one_more),
    (r"'0001-01-01'", "'0001-01-02'"),
    # Comparisons and arithmetic.
    (r' > ', ' >= '), (r' > ', ' < '), (r' <= ', ' < '), (r' < ', ' <= '), (r' < ', ' > '), (r"\bday = '", "day <> '"),
    (r' \+ ', ' - '), (r'-sum', 'sum'),
    # Conditions: the other connective, each one dropped, each way of a choice.
    (r' AND ', ' OR '), (r' OR ', ' AND '), (r' AND \S+ \S+ \S+', ''), (r' OR \S+ \S+ \S+', ''),
    (r'CASE WHEN .* THEN (.*) ELSE .* END', r'\1'), (r'CASE WHEN .* ELSE (.*) END', r'\1'),
    (r' or ', ' and '), (r' and ', ' or '), (r'\bnot ', ''), (r' in \(', ' not in ('),
    # Columns and rows: the stored for the given, one sum for another, no order, no update.
    (r'\b(?:visitors|days)\.(\w+)', r'excluded.\1'), (r'\bexcluded\.(\w+)', r'visitors.\1'),
    (r'\bexcluded\.(\w+)', r'days.\1'),
    (r'sum\(visitors\)', 'sum(newcomers)'), (r'sum\(newcomers\)', 'sum(latest)'), (r'sum\(latest\)', 'sum(visitors)'),
    (r' ORDER BY \w+', ''), (r' DO UPDATE SET .*', ' DO NOTHING'),
    # Members of a tuple.
    (r"(?<=\()'[^']*', (?=')", ''), (r", '[^']*'", ''), (r'(?<=\()State\.\w+, (\w+\.\w+)', r'\1,'),
    (r'(?<=\()(State\.\w+), \w+\.\w+', r'\1,'), (r', State\.\w+(?=\))', ','),
    # Patterns: alternatives, lookaheads, repetitions, optional parts, case.
    (r"(?<=')[^|'()]+\|", ''), (r"\|[^|'() ]+", ''), (r'\(\?![^)]*\)', ''), (r'\*', '+'), (r'\+(?=\))', '*'),
    (r'\)\?', ')'), (r', re\.IGNORECASE', ''),
)


@dataclass(frozen=True)
class Mutant:
    """One change: its module, the lines of its difference, and its fate."""

    module: str
    difference: tuple[str, ...]
    fate: str


@dataclass(frozen=True)
class Configuration:
    """The configuration in setup.cfg: the tests of each module, and the files that they need to run."""

    tests: dict[str, str]
    needed: tuple[str, ...]
    arguments: tuple[str, ...]

    @classmethod
    def load(cls) -> 'Configuration':
        """Return the configuration of the sections [mutmut] and [mutation]."""
        parser = ConfigParser(delimiters='=')
        parser.read(ROOT / 'setup.cfg', encoding='utf-8')
        ours = parser['mutmut']
        needed = (*ours['source_paths'].split(), *ours['also_copy'].split(), 'tests', 'setup.cfg')
        return cls(dict(parser['mutation']), needed, tuple(ours['pytest_add_cli_args'].split()))


def changes(source: str) -> Iterator[str]:
    """Return a module's source once for each place outside its plain functions where a rule applies."""
    lines, comments, seen = source.splitlines(keepends=True), comments_of(source), {source}
    for number in sorted(lines_outside(ast.parse(source).body)):
        line = lines[number - 1]
        code = line[:comments.get(number, len(line))].rstrip('\n')
        for pattern, replacement in RULES:
            for match in re.finditer(pattern, code):
                new = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
                changed = code[:match.start()] + new + line[match.end():]
                text = ''.join([*lines[:number - 1], changed, *lines[number:]])
                if text not in seen and is_python(text):
                    yield text
                seen.add(text)


def is_python(text: str) -> bool:
    """Return whether a text can be compiled; a change that cannot would prove nothing."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def lines_outside(body: list[ast.stmt]) -> set[int]:
    """Return the numbers of the lines that hold values outside of functions without a decorator."""
    numbers: set[int] = set()
    for node in body:
        if isinstance(node, ast.ClassDef) or isinstance(node, ast.FunctionDef) and node.decorator_list:
            numbers |= lines_outside(node.body)
        elif not isinstance(node, ast.FunctionDef | ast.Import | ast.ImportFrom | ast.Expr):
            numbers |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return numbers


def comments_of(source: str) -> dict[int, int]:
    """Return where in which line a comment begins."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.start[1] for token in tokens if token.type == tokenize.COMMENT}


def difference(before: str, after: str) -> tuple[str, ...]:
    """Return the lines that differ, each behind its - or +."""
    return changed_lines(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=''))


def changed_lines(diff: Iterator[str] | list[str]) -> tuple[str, ...]:
    """Return the removed and added lines of a unified diff, without indentation."""
    return tuple(line[0] + line[1:].strip() for line in diff if re.match(r'[-+](?!--|\+\+)', line))


def mutants_outside(configuration: Configuration) -> list[Mutant]:
    """Return the fate of each change outside functions."""
    planned = [(module, changed) for module in configuration.tests
               for changed in changes((ROOT / module).read_text(encoding='utf-8'))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda plan: tried(configuration, *plan), planned))


def tried(configuration: Configuration, module: str, changed: str) -> Mutant:
    """Return the fate of one change, made in a copy of the project, under the module's tests."""
    with tempfile.TemporaryDirectory(prefix='visitors-mutant-') as folder:
        copy = Path(folder)
        for name in configuration.needed:
            copy_of = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy_of(ROOT / name, copy / name)
        before = (copy / module).read_text(encoding='utf-8')
        (copy / module).write_text(changed, encoding='utf-8')
        result = subprocess.run([sys.executable, '-m', 'pytest', '-x', '--quiet', '-p', 'no:cacheprovider',
                                 *configuration.arguments, configuration.tests[module]],
                                cwd=copy, capture_output=True, text=True, check=False)
    if result.returncode > 2:
        raise RuntimeError(f'the tests of {module} could not be run: {result.stdout}{result.stderr}')
    print(end='.' if result.returncode else 'S', flush=True)
    return Mutant(module, difference(before, changed), KILLED if result.returncode else SURVIVED)


def mutants_of_functions() -> list[Mutant]:
    """Return the fate of each change that mutmut makes."""
    fates = re.findall(r'^ *(\S+): (.+)$', mutmut('results', '--all', 'true'), re.MULTILINE)
    return [Mutant(module_of(name), () if fate == KILLED else changed_lines(mutmut('show', name).splitlines()), fate)
            for name, fate in fates]


def module_of(name: str) -> str:
    """Return the file of a mutant that mutmut calls module.x_function__mutmut_number."""
    return '/'.join(name.split('.')[:-1]) + '.py'


def mutmut(*arguments: str) -> str:
    """Return the output of a command of mutmut."""
    command = [str(Path(sys.executable).with_name('mutmut')), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def table(inside: list[Mutant], outside: list[Mutant]) -> str:
    """Return the counts by module, as docs/mutants.md has them."""
    rows = ['| module | changed | mutants | killed | survived | time-outs |', '|---|---|---|---|---|---|']
    for part, mutants in (('functions', inside), ('the rest', outside)):
        for module in dict.fromkeys(mutant.module for mutant in mutants):
            fates = Counter(mutant.fate for mutant in mutants if mutant.module == module)
            survived = fates.total() - fates[KILLED] - fates[TIMED_OUT]
            cells = (f'`{module}`', part, fates.total(), fates[KILLED], survived, fates[TIMED_OUT])
            rows.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(rows)


def answered(document: str) -> Counter[tuple[str, ...]]:
    """Return the differences that the document answers, each as often as it stands there."""
    blocks = re.findall(r'^```diff\n(.*?)^```', document, re.DOTALL | re.MULTILINE)
    return Counter(changed_lines(each.splitlines()) for block in blocks for each in block.split('\n\n'))


def complaints(document: str, inside: list[Mutant], outside: list[Mutant]) -> list[str]:
    """Return where the document and a run differ; none when every survivor is answered and every count right."""
    survivors = Counter(mutant.difference for mutant in [*inside, *outside] if mutant.fate != KILLED)
    answers = answered(document)
    return [*('no test notices, and no answer stands in docs/mutants.md:\n' + '\n'.join(each)
              for each in (survivors - answers).elements()),
            *('answered in docs/mutants.md, but noticed or gone:\n' + '\n'.join(each)
              for each in (answers - survivors).elements()),
            *(f'docs/mutants.md lacks this row:\n{row}'
              for row in table(inside, outside).splitlines() if row not in document.splitlines())]


def main() -> int:
    """Print the counts and the errors of docs/mutants.md; return 1 if it has any."""
    configuration = Configuration.load()
    inside, outside = mutants_of_functions(), mutants_outside(configuration)
    print('', table(inside, outside), sep='\n')
    errors = complaints(DOCUMENT.read_text(encoding='utf-8'), inside, outside)
    print('', *errors, sep='\n\n')
    return bool(errors)


if __name__ == '__main__':
    sys.exit(main())
