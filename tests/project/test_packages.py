"""The tests install their Debian packages themselves, or print the command that a person has to run."""

from pathlib import Path
import re
import subprocess
import sys

import pytest

from tests.support.server import ROOT
from tests.tools import packages

AS_A_USER = """
import os, pathlib, sys
from tests.tools import packages

os.geteuid = lambda: 1000
packages.POLICY = pathlib.Path(sys.argv[1])
packages.FOLDERS = (sys.argv[2],)
packages.main(sys.argv[3:])
"""
NEEDED = ('sh', 'tee', 'chmod', 'rm', 'cat')
LISTS = sorted([*(ROOT / 'tests').glob('packages*.txt'), *(ROOT / 'benchmarks').glob('packages*.txt')])


class Machine:
    def __init__(self, folder: Path, **commands: str) -> None:
        """Give a machine with these commands, each a shell line; each call is recorded."""
        self._folder = folder
        self.bin = folder / 'bin'
        self.bin.mkdir()
        (folder / 'calls').touch()
        for name, line in commands.items():
            self.command(name, line)

    def command(self, name: str, line: str = '', folder: str = 'bin') -> None:
        """Put a command into a folder of the machine."""
        path = self._folder / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self._folder}/calls\n{line}\n', encoding='utf-8')
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """The commands that were called."""
        return (self._folder / 'calls').read_text(encoding='utf-8').splitlines()

    @property
    def policy(self) -> Path:
        """The file that keeps this machine's services at rest."""
        return self._folder / 'policy-rc.d'

    def install(self, *lines: str) -> subprocess.CompletedProcess[str]:
        """Return the result of the installation of a list, for a user who is not root."""
        packages = self._folder / 'packages.txt'
        packages.write_text('\n'.join(lines), encoding='utf-8')
        command = [sys.executable, '-c', AS_A_USER, str(self.policy), f'{self._folder}/lib/*/bin', str(packages)]
        return subprocess.run(command, cwd=ROOT, env={'PATH': str(self.bin)},
                              capture_output=True, text=True, timeout=60, check=False)


def test_commands_that_are_there_are_not_installed_and_need_no_right(tmp_path: Path) -> None:
    machine = Machine(tmp_path, there='', other='')
    machine.command('hidden', folder='lib/17/bin')
    done = machine.install('# a comment', '', 'there  absent  # why', 'another|other absent', 'hidden absent')
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    assert machine.calls == []


def test_a_shared_library_is_there_if_a_program_can_load_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.install('libc.so.6 absent').returncode == 0
    missing = machine.install('libnever.so.9 libnever9')
    assert (missing.returncode, 'missing: libnever.so.9.' in missing.stderr) == (1, True), missing.stderr


def test_the_newest_of_several_versions_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path)
    for version in ('9.6', '17', '15'):
        machine.command('server', folder=f'lib/{version}/bin')
    monkeypatch.setattr(packages, 'FOLDERS', (f'{tmp_path}/lib/*/bin',))
    assert packages.program('server') == tmp_path / 'lib/17/bin/server'
    assert packages.program('no-server') is None


@pytest.mark.parametrize(('output', 'enough'), [
    ('Packer v1.6.6', True), ('Packer v1.14.2', True), ('Packer v1.6.5', False), ('1.10.0', True), ('0 words', False),
])
def test_a_command_is_there_only_if_it_is_new_enough(tmp_path: Path, output: str, enough: bool) -> None:
    done = Machine(tmp_path, packer=f'[ "$1" = version ] && echo "{output}"').install('packer>=1.6.6 packer')
    assert (done.returncode == 0) == enough
    assert enough or 'missing: packer 1.6.6 or newer.' in done.stderr


def test_without_root_and_sudo_it_says_what_is_missing(tmp_path: Path) -> None:
    done = Machine(tmp_path, **{'apt-get': ''}).install('absent package', 'one|other new|old')
    assert done.returncode == 1
    assert done.stderr == ('missing: absent, one or other. Run this as root, or let root run: '
                           'apt-get install package old\n')


def test_where_there_is_no_apt_it_says_which_commands_are_missing_and_how_to_get_them(tmp_path: Path) -> None:
    done = Machine(tmp_path, there='').install('absent package else it is on example.org', 'there other')
    assert done.returncode == 1
    assert done.stderr == (
        'missing: absent. There is no apt here: install them by the means of this system (on Debian the packages '
        'package), then start again.\nabsent: it is on example.org\n')


@pytest.mark.parametrize(('known', 'chosen'), [('new', 'new'), ('old', 'old')])
def test_with_sudo_it_installs_what_is_missing_and_starts_no_service(tmp_path: Path, known: str, chosen: str) -> None:
    see = f'cat {tmp_path}/policy-rc.d > {tmp_path}/seen'
    policy = f'case $2 in {known}|package) echo "  Candidate: 1.0" ;; *) echo "  Candidate: (none)" ;; esac'
    machine = Machine(tmp_path, **{'apt-get': see, 'apt-cache': policy, 'sudo': 'exec "$@"', 'there': ''})
    for name in NEEDED:
        (machine.bin / name).symlink_to(f'/bin/{name}')
    done = machine.install('there other', 'absent package', 'lacking new|old')
    assert (done.returncode, done.stdout) == (0, 'installing package, new or old\n'), done.stderr
    updates, installs = [call.split() for call in machine.calls if call.startswith('apt-get')]
    assert updates[-1] == 'update'
    assert installs[-2:] == sorted(['package', chosen])
    assert {'--yes', '--no-install-recommends'} <= set(installs)
    assert 'exit 101' in (tmp_path / 'seen').read_text(encoding='utf-8')
    assert not machine.policy.exists(), 'services that the person installs later will not start'


def test_what_no_package_of_this_release_holds_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    nothing = {'tee': '', 'chmod': '', 'rm': ''}
    machine = Machine(tmp_path, **{'apt-get': '', 'apt-cache': '', 'sudo': 'exec "$@"', **nothing})
    done = machine.install('packer>=1.6.6 packer else it is on example.org')
    assert done.returncode == 1
    assert done.stderr == ('missing: packer 1.6.6 or newer. This release of the system has no package for it.\n'
                           'packer 1.6.6 or newer: it is on example.org\n')
    assert not [call for call in machine.calls if call.startswith('apt-get') and 'install' in call]


def test_when_apt_fails_its_own_words_are_shown(tmp_path: Path) -> None:
    machine = Machine(tmp_path, **{'apt-get': 'echo "E: no such thing"; exit 100', 'sudo': 'exec "$@"',
                                   'tee': '', 'chmod': '', 'rm': ''})
    done = machine.install('absent package')
    assert done.returncode == 1
    assert 'E: no such thing\n' in done.stderr
    assert 'update ended with 100' in done.stderr


@pytest.mark.parametrize('path', LISTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_list_can_be_read(path: Path) -> None:
    assert list(packages.read(str(path)))


def test_the_tests_of_the_application_need_no_packer() -> None:
    needs = {name for path in LISTS if 'check' not in path.name for each in packages.read(str(path))
             for name in each.commands}
    assert 'postgres' in needs and 'packer' not in needs
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    called = re.findall(r'^(test|coverage):.*?\n((?:\t.*\n)+)', makefile, re.MULTILINE)
    assert len(called) == 2
    for verb, recipe in called:
        assert 'packages.check' not in recipe and '$(OF_THE_APPLICATION)' in recipe, verb
    (marks,) = re.findall(r'^OF_THE_APPLICATION := -m (.*)$', makefile, re.MULTILINE)
    assert 'not packer' in marks
