"""A program that runs one flask command in several processes, which begin together, and prints their exit codes."""

from importlib import import_module
import os
from pathlib import Path
import sys

from flask.cli import main


def main_of_all(number: int, folder: Path, arguments: list[str]) -> None:
    """Fork after all imports, so that the processes reach the database at the same moment."""
    import_module('app')
    children = [_fork(folder / f'together-{index}.log', arguments) for index in range(number)]
    print(*[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])


def _fork(log: Path, arguments: list[str]) -> int:
    child = os.fork()
    if child:
        return child

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ['flask', '--app', 'app', *arguments]
    try:
        main()
    except SystemExit as outcome:
        os._exit(int(outcome.code or 0))
    os._exit(1)


if __name__ == '__main__':
    main_of_all(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
