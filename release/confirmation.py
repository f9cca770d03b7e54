"""What deletes shows first what it would delete, and wants a word: an option, or an answer on a terminal."""

from collections.abc import Mapping, Sequence
import sys

from release.errors import NotConfirmed

CI = 'CI'


def confirm(what: Sequence[str], yes: bool, environ: Mapping[str, str]) -> None:
    """Return if the removal of all this is wanted; raise NotConfirmed if it is not, or if no one can be asked."""
    print('to be removed:', *what, sep='\n  ', file=sys.stderr, flush=True)
    if yes:
        return
    if environ.get(CI) or not sys.stdin or not sys.stdin.isatty():
        raise NotConfirmed('nothing was removed: give --yes where no terminal can answer')
    print('Remove all of this? [y/N] ', end='', file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ('y', 'yes'):
        raise NotConfirmed('nothing was removed')
