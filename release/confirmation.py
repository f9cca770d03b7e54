"""The confirmation of a removal: by the option --yes, or by an answer on a terminal."""

from collections.abc import Mapping, Sequence
import sys

from release.errors import NotConfirmed

CI = 'CI'


def confirm(items: Sequence[str], yes: bool, environ: Mapping[str, str]) -> None:
    """Show the items to be removed; raise NotConfirmed unless the caller confirms the removal."""
    print('to be removed:', *items, sep='\n  ', file=sys.stderr, flush=True)
    if yes:
        return
    if environ.get(CI) or not sys.stdin or not sys.stdin.isatty():
        raise NotConfirmed('nothing was removed; in a CI and without a terminal use --yes')
    print('Remove all of this? [y/N] ', end='', file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ('y', 'yes'):
        raise NotConfirmed('nothing was removed')
