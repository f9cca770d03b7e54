"""A host of its own, in a network namespace of this machine: packets to and from it can be dropped."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
import subprocess

import pytest

HERE, THERE = '10.213.77.1', '10.213.77.2'


class Host:
    """A network namespace with a cable to it, as a host of its own."""

    def __init__(self) -> None:
        """Make a namespace and a cable to it; fails loudly where that cannot be done."""
        self.name = f'visitors-{os.getpid()}'
        self.cable, plug = f'vis{os.getpid()}', f'vit{os.getpid()}'
        if os.geteuid() != 0:
            pytest.fail('NO NETWORK DROP TESTED: network namespaces need root', pytrace=False)
        try:
            _ip('netns', 'add', self.name)
            _ip('link', 'add', self.cable, 'type', 'veth', 'peer', 'name', plug, 'netns', self.name)
            _ip('address', 'add', f'{HERE}/30', 'dev', self.cable)
            _ip('link', 'set', self.cable, 'up')
            _ip('-netns', self.name, 'address', 'add', f'{THERE}/30', 'dev', plug)
            _ip('-netns', self.name, 'link', 'set', plug, 'up')
        except subprocess.CalledProcessError as error:
            self.remove()
            pytest.fail(f'NO NETWORK DROP TESTED: {error.stderr}', pytrace=False)

    @property
    def prefix(self) -> list[str]:
        """The prefix of a command on this host."""
        return ['ip', 'netns', 'exec', self.name]

    def vanish(self) -> None:
        """Drop all packets, both ways, without a word to either end."""
        _run(*self.prefix, 'nft', 'add table inet gone')
        for hook in ('input', 'output'):
            rule = f'{{ type filter hook {hook} priority 0; policy drop; }}'
            _run(*self.prefix, 'nft', f'add chain inet gone {hook} {rule}')

    def come_back(self) -> None:
        """Let packets pass again."""
        _run(*self.prefix, 'nft', 'delete table inet gone')

    def remove(self) -> None:
        """Remove namespace and cable."""
        subprocess.run(['ip', 'netns', 'delete', self.name], check=False, capture_output=True)


@contextmanager
def another_host() -> Iterator[Host]:
    """Give a host that is gone with the block."""
    host = Host()
    try:
        yield host
    finally:
        host.remove()


def _ip(*arguments: str) -> None:
    _run('ip', *arguments)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
