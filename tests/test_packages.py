"""What the tests need from Debian is installed by itself, or it is said who has to do what."""

from pathlib import Path
import subprocess
import sys

import pytest

from tests.server import ROOT

AS_A_USER = """
import os, pathlib, sys
from tests import packages

os.geteuid = lambda: 1000
packages.POLICY = pathlib.Path(sys.argv[1])
packages.main(sys.argv[2:])
"""
DPKG = 'echo "installed there"; echo "config-files removed"'
NEEDED = ('sh', 'tee', 'chmod', 'rm', 'cat')


class Machine:
    def __init__(self, folder: Path, **commands: str) -> None:
        """Give a machine with these commands, each a shell line; what they are called with is written down."""
        self._folder = folder
        self.bin = folder / 'bin'
        self.bin.mkdir()
        for name, line in {'dpkg-query': DPKG, **commands}.items():
            self._command(name, line)

    def _command(self, name: str, line: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self._folder}/calls\n{line}\n', encoding='utf-8')
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """The commands that were called, but for the question what is installed."""
        lines = (self._folder / 'calls').read_text(encoding='utf-8').splitlines()
        return [line for line in lines if line and not line.startswith('dpkg-query')]

    @property
    def policy(self) -> Path:
        """The file that keeps this machine's services at rest."""
        return self._folder / 'policy-rc.d'

    def install(self, *lines: str) -> subprocess.CompletedProcess[str]:
        """Return what the installation of a list ended with, for a user who is not root."""
        packages = self._folder / 'packages.txt'
        packages.write_text('\n'.join(lines), encoding='utf-8')
        command = [sys.executable, '-c', AS_A_USER, str(self.policy), str(packages)]
        return subprocess.run(command, cwd=ROOT, env={'PATH': str(self.bin)},
                              capture_output=True, text=True, timeout=60, check=False)


def test_what_is_there_is_not_installed_and_needs_no_right(tmp_path: Path) -> None:
    machine = Machine(tmp_path, server='')
    done = machine.install('# a comment', '', 'there  # why', 'other|there', 'absent unless server')
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    assert machine.calls == []


def test_without_root_and_sudo_it_says_what_is_missing(tmp_path: Path) -> None:
    done = Machine(tmp_path, **{'apt-get': ''}).install('there', 'absent', 'removed', 'new|old unless server')
    assert done.returncode == 1
    assert done.stderr == ('missing: absent, removed, new or old. Run this as root, or let root run: '
                           'apt-get install absent removed old\n')


def test_elsewhere_than_on_debian_it_says_what_is_missing(tmp_path: Path) -> None:
    done = Machine(tmp_path).install('absent')
    assert done.returncode == 1
    assert done.stderr == 'missing: absent. This is not Debian: install what they hold, then start again.\n'


@pytest.mark.parametrize(('known', 'chosen'), [('new', 'new'), ('old', 'old')])
def test_with_sudo_it_installs_what_is_missing_and_starts_no_service(tmp_path: Path, known: str, chosen: str) -> None:
    see = f'cat {tmp_path}/policy-rc.d > {tmp_path}/seen'
    machine = Machine(tmp_path, **{'apt-get': see, 'apt-cache': f'[ "$2" = {known} ]', 'sudo': 'exec "$@"'})
    for name in NEEDED:
        (machine.bin / name).symlink_to(f'/bin/{name}')
    done = machine.install('there', 'absent', 'new|old')
    assert (done.returncode, done.stdout) == (0, 'installing absent, new or old\n'), done.stderr
    updates, installs = [call.split() for call in machine.calls if call.startswith('apt-get')]
    assert updates[-1] == 'update'
    assert installs[-2:] == ['absent', chosen]
    assert {'--yes', '--no-install-recommends'} <= set(installs)
    assert 'exit 101' in (tmp_path / 'seen').read_text(encoding='utf-8')
    assert not machine.policy.exists(), 'services that the person installs later will not start'


def test_when_apt_fails_its_own_words_are_shown(tmp_path: Path) -> None:
    machine = Machine(tmp_path, **{'apt-get': 'echo "E: no such thing"; exit 100', 'sudo': 'exec "$@"',
                                   'tee': '', 'chmod': '', 'rm': ''})
    done = machine.install('absent')
    assert done.returncode == 1
    assert 'E: no such thing\n' in done.stderr
    assert 'update ended with 100' in done.stderr
