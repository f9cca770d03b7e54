"""A command line that helps: examples, the nearest right word for a wrong one, completion, and the version."""

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
    """A parser that keeps the lines of its texts, and names the nearest right word with an error."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take what argparse takes."""
        super().__init__(*arguments, **{'formatter_class': argparse.RawDescriptionHelpFormatter, 'allow_abbrev': False,
                                        **options})

    def error(self, message: str) -> NoReturn:
        """End with the code of wrong usage, and say what may have been meant."""
        meant = dict.fromkeys(self._meant(message))
        super().error(f'{message}; did you mean {" or ".join(meant)}?' if meant else message)

    def _meant(self, message: str) -> Iterator[str]:
        invalid = INVALID.search(message)
        if invalid:
            yield from nearest(invalid['word'], re.findall(r"[^\s,']+", invalid['choices']))
        unrecognised = UNRECOGNISED.search(message)
        if unrecognised:
            for word in unrecognised['words'].split():
                yield from nearest(word.partition('=')[0], list(self._options()))

    def _options(self) -> Iterator[str]:
        """Yield the options of this parser, and those of the verb that was called."""
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                for name, parser in action.choices.items():
                    if name in sys.argv and isinstance(parser, Parser):
                        yield from parser._options()


def nearest(word: str, words: Sequence[str]) -> list[str]:
    """Return the word that is most like this one, if one is like it at all."""
    return difflib.get_close_matches(word, words, n=1) if word.strip('-') else []


class PrintVersion(argparse.Action):
    """The option that prints the version of this checkout."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> NoReturn:
        """Print it, and end."""
        try:
            print(f'{parser.prog} {build_version(os.environ).version}')
        except ReleaseError as error:
            parser.exit(error.code, f'{parser.prog}: {error}\n')
        parser.exit()


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add the option that prints the version."""
    parser.add_argument('--version', action=PrintVersion, nargs=0, help='print the version of this checkout, and end')


class PrintCompletion(argparse.Action):
    """The option that prints what a shell completes words by."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> NoReturn:
        """Print it, and end."""
        try:
            import shtab
        except ModuleNotFoundError:
            parser.exit(3, f'{parser.prog}: {missing("shtab", parser.prog)}\n')
        print(shtab.complete(parser, str(values)))
        parser.exit()


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add the option that prints the completion of a shell."""
    parser.add_argument('--print-completion', action=PrintCompletion, choices=SHELLS, metavar='SHELL',
                        help=f'print the completion for {" or ".join(SHELLS)}, and end')


def completion(prog: str) -> str:
    """Return the lines of a help that say how a shell completes the words of a program."""
    return COMPLETE.format(prog=prog, shell='|'.join(SHELLS)).lstrip('\n')


def examples(*lines: str) -> str:
    """Return the part of a help that shows how a verb is called."""
    return '\n'.join(['examples:', *(f'  {line}' for line in lines), '', ''])


def missing(module: str | None, prog: str, installed: str = '.installed-release') -> str:
    """Return the line that says what to call where the program is started by a Python that lacks its libraries."""
    return (f'{module} is not installed for {sys.executable}; run `make .venv/bin/{installed}` once, then call '
            f'bin/{prog}')
