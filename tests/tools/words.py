"""Look for the phrases of phrases.toml in prose: docstrings, comments, messages, Markdown.

Each is printed with its file, its line and the better wording; a table of the packages follows.
Exit codes: 0 no phrase, 1 phrases, 2 wrong usage.
"""

import argparse
import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
import io
from pathlib import Path
import re
import subprocess
import sys
import tokenize
import tomllib

HERE = Path(__file__).parent
PHRASES = HERE / 'phrases.toml'
# Locks and other generated text, and the list itself.
NOT_PROSE = re.compile(r'(?:^|/)(?:.*requirements[a-z.]*\.txt|\.terraform\.lock\.hcl|botocore-.*\.txt|phrases\.toml|'
                       r'.*\.(?:png|svg|ico|woff2?))$')
# Strings of tests quote the sentences of the programs that they test, and of other people's.
STRINGS_QUOTE = re.compile(r'^tests/(?!tools/)')
# Code in prose: between backticks, and Jinja's expressions and statements.
CODE = re.compile(r'`[^`\n]+(?:\n[^`\n]+)?`|\{\{.*?\}\}|\{%.*?%\}')
FENCE = re.compile(r'^ *```(?!mermaid).*?^ *```$', re.MULTILINE | re.DOTALL)
WORD = re.compile(r"[A-Za-z']+")
COMMENT = re.compile(r'^\s*(?:#+|//)(?:\s|$)')
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Phrase:
    """A banned phrase and the wording that replaces it."""

    name: str
    pattern: re.Pattern[str]
    instead: str
    bad: str
    good: str


@dataclass(frozen=True)
class Passage:
    """A connected piece of prose, and the line on which it begins."""

    line: int
    text: str


@dataclass(frozen=True)
class Finding:
    """A banned phrase in a file."""

    file: str
    line: int
    words: str
    phrase: Phrase

    def __str__(self) -> str:
        """Return the line that is printed."""
        return f'{self.file}:{self.line}: {self.words} ... ({self.phrase.name}; better: {self.phrase.instead})'


def main(arguments: Sequence[str] | None = None) -> int:
    """Check files and return the exit code."""
    parser = argparse.ArgumentParser(prog='python -m tests.tools.words', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('paths', nargs='*', default=['.'], metavar='PATH', help='a file or folder of the repository')
    options = parser.parse_args(arguments)
    phrases, findings, counts = load_phrases(), Counter[str](), Counter[str]()
    for file in tracked_files(options.paths):
        passages = list(passages_of(file, Path(file).read_text(encoding='utf-8')))
        counts[package_of(file)] += sum(len(WORD.findall(passage.text)) for passage in passages)
        for finding in check(file, passages, phrases):
            findings[package_of(file)] += 1
            print(finding)
    print('\n'.join(table(counts, findings)))
    return 1 if findings else 0


def load_phrases() -> list[Phrase]:
    """Return the list of banned phrases."""
    entries = tomllib.loads(PHRASES.read_text(encoding='utf-8'))['phrase']
    return [Phrase(**{**entry, 'pattern': re.compile(entry['pattern'].replace(' ', r'\s+'), re.IGNORECASE)})
            for entry in entries]


def tracked_files(paths: Sequence[str]) -> Iterator[str]:
    """Yield the files that git tracks below some paths, and that contain prose."""
    listing = subprocess.run(['git', 'ls-files', '-z', '--', *paths], capture_output=True, text=True, check=True)
    for file in listing.stdout.split('\0'):
        if file and Path(file).is_file() and not NOT_PROSE.search(file):
            yield file


def passages_of(file: str, text: str) -> Iterator[Passage]:
    """Yield the prose of a file, with blanks in place of code."""
    if file.endswith('.md'):
        passages: Iterable[Passage] = paragraphs(FENCE.sub(blank, text))
    elif file.endswith('.py') or text.startswith('#!/usr/bin/env python'):
        passages = python_prose(text, not STRINGS_QUOTE.search(file))
    else:
        passages = lines_and_comments(text)
    for passage in passages:
        yield Passage(passage.line, CODE.sub(blank, passage.text))


def blank(match: re.Match[str]) -> str:
    """Return a text of the same lines and columns without the words of a match."""
    return re.sub(r'[^\n]', 'x', match[0])


def paragraphs(text: str) -> Iterator[Passage]:
    """Yield the paragraphs, list entries and table rows of Markdown."""
    line = 1
    for part in re.split(r'(\n(?=\s*\n|\s*[-*|#] |\s*\d+\. |\s*\|))', text):
        if part.strip():
            yield Passage(line, part)
        line += part.count('\n')


def lines_and_comments(text: str) -> Iterator[Passage]:
    """Yield comments of several lines as one passage, and each other line alone."""
    comment: list[str] = []
    number = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if COMMENT.match(line):
            comment.append(COMMENT.sub('', line))
            continue
        if comment:
            yield Passage(number - len(comment), '\n'.join(comment))
            comment = []
        if line.strip():
            yield Passage(number, line)
    if comment:
        yield Passage(number + 1 - len(comment), '\n'.join(comment))


def python_prose(source: str, strings: bool) -> Iterator[Passage]:
    """Yield docstrings and comments, and other strings if they count."""
    tree = ast.parse(source)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)  # type: ignore[attr-defined]
                  if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
             for part in ast.walk(node) if part is not node}
    for node in ast.walk(tree):
        text = text_of(node)
        if text and (id(node) in docstrings or (strings and id(node) not in parts)):
            # A `\n` in a string is no line of the source.
            first, last = node.lineno, node.end_lineno  # type: ignore[attr-defined]
            yield Passage(first, text if text.count('\n') == last - first else ' '.join(text.split()))
    yield from comments(source)


def text_of(node: ast.AST) -> str:
    """Return the text of a string, with braces in place of expressions; nothing for another node."""
    if isinstance(node, ast.JoinedStr):
        return ''.join(str(part.value) if isinstance(part, ast.Constant) else '{}' for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ''


def comments(source: str) -> Iterator[Passage]:
    """Yield the comments of Python; those of consecutive lines are one passage."""
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, alone = token.start[0], not token.line[:token.start[1]].strip()
        if block and not (alone and line == last + 1):
            yield Passage(last + 1 - len(block), '\n'.join(block))
            block = []
        block.append(token.string.lstrip('#!'))
        last = line
    if block:
        yield Passage(last + 1 - len(block), '\n'.join(block))


def check(file: str, passages: Iterable[Passage], phrases: Sequence[Phrase]) -> list[Finding]:
    """Return the banned phrases of some passages, in their order."""
    return sorted((Finding(file, passage.line + passage.text.count('\n', 0, match.start()),
                           ' '.join(passage.text[match.start():match.end() + 30].split()), phrase)
                   for passage in passages for phrase in phrases for match in phrase.pattern.finditer(passage.text)),
                  key=lambda finding: finding.line)


def package_of(file: str) -> str:
    """Return the row of the table in which a file counts."""
    parts = Path(file).parts
    if parts[:2] == ('visitors', 'schema'):
        return 'visitors/schema'
    return parts[0] if len(parts) > 1 else 'top level'


def table(counts: Counter[str], findings: Counter[str]) -> Iterator[str]:
    """Yield the lines of the table: package, words, phrases, phrases of a thousand words."""
    yield f'{"package":16} {"words":>7} {"phrases":>8} {"per 1,000":>10}'
    for package in [*sorted(counts), 'all']:
        words = counts[package] if package in counts else counts.total()
        number = findings[package] if package in counts else findings.total()
        yield f'{package:16} {words:7} {number:8} {1000 * number / max(words, 1):10.1f}'


if __name__ == '__main__':
    sys.exit(main())
