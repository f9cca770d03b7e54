"""The command line of the tools: examples, suggestions for misspelt words, completion, and the version."""

import argparse
from collections.abc import Iterator, Sequence
import difflib
import os
import re
import sys
from typing import Any, NoReturn

from release.errors import ReleaseError
from release.version import build_version

INVALID = re.compile(r"invalid choice: '(?P<word>.*?)' \(choose from (?P<choices>.*)\)")
UNRECOGNISED = re.compile(r'unrecognized arguments: (?P<words>.*)')
SHELLS = ('bash', 'zsh')
COMPLETE = """
completion: {prog} --print-completion {shell} prints it; for this terminal:
  eval "$(bin/{prog} --print-completion bash)"
"""


class Parser(argparse.ArgumentParser):
    """A parser that keeps the line breaks of its texts, and suggests the nearest word in an error."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Pass everything on to argparse."""
        super().__init__(*arguments, **{'formatter_class': argparse.RawDescriptionHelpFormatter, 'allow_abbrev': False,
                                        **options})

    def error(self, message: str) -> NoReturn:
        """Exit with the code of wrong usage, and suggest the nearest word."""
        suggestions = dict.fromkeys(self._suggestions(message))
        super().error(f'{message}; did you mean {" or ".join(suggestions)}?' if suggestions else message)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Exit after flushing the help on stdout, whose reader may have closed it."""
        print_out()
        super().exit(status, message)

    def _suggestions(self, message: str) -> Iterator[str]:
        invalid = INVALID.search(message)
        if invalid:
            yield from nearest(invalid['word'], re.findall(r"[^\s,']+", invalid['choices']))
        unrecognised = UNRECOGNISED.search(message)
        if unrecognised:
            for word in unrecognised['words'].split():
                yield from nearest(word.partition('=')[0], list(self._options()))

    def _options(self) -> Iterator[str]:
        """Yield the options of this parser and of the called verb."""
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for name, parser in action.choices.items():
                    if name in sys.argv and isinstance(parser, Parser):
                        yield from parser._options()


def print_out(text: str = '') -> None:
    """Print to stdout and flush it; ignore a closed stdout, because a reader such as `head` closes it early."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit, and would print a traceback: the rest goes to /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def nearest(word: str, words: Sequence[str]) -> list[str]:
    """Return the word that is most similar to this one; empty if none is similar."""
    return difflib.get_close_matches(word, words, n=1) if word.strip('-') else []


class PrintVersion(argparse.Action):
    """The option that prints the version of this checkout."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> NoReturn:
        """Print the version and exit."""
        try:
            print_out(f'{parser.prog} {build_version(os.environ).version}\n')
        except ReleaseError as error:
            parser.exit(error.exit_code, f'{parser.prog}: {error}\n')
        parser.exit()


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add the option that prints the version."""
    parser.add_argument('--version', action=PrintVersion, nargs=0, help='print the version of this checkout, and exit')


class PrintCompletion(argparse.Action):
    """The option that prints a shell's completion script."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> NoReturn:
        """Print the script and exit."""
        try:
            import shtab
        except ModuleNotFoundError:
            parser.exit(3, f'{parser.prog}: {missing("shtab", parser.prog)}\n')
        print_out(f'{shtab.complete(parser, str(values))}\n')
        parser.exit()


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add the option that prints a shell's completion script."""
    parser.add_argument('--print-completion', action=PrintCompletion, choices=SHELLS, metavar='SHELL',
                        help=f'print the completion for {" or ".join(SHELLS)}, and exit')


def completion(prog: str) -> str:
    """Return the lines of a help text that explain the completion of a program."""
    return COMPLETE.format(prog=prog, shell='|'.join(SHELLS)).lstrip('\n')


def examples(*lines: str) -> str:
    """Return the examples of a help text."""
    return '\n'.join(['examples:', *(f'  {line}' for line in lines), '', ''])


def missing(module: str | None, prog: str, installed: str = '.installed-release') -> str:
    """Return the advice for a Python that lacks the program's libraries."""
    return (f'{module} is not installed for {sys.executable}; run `make .venv/bin/{installed}` once, then call '
            f'bin/{prog}')
