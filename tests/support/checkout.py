"""A small checkout that bakes in seconds: the real release tool, the real Packer, and no instance to connect to.

Its template is packer/ami.pkr.hcl without the connection to an instance. It runs playbooks of its own on this machine,
where they change nothing. Packer, Ansible, EC2's API and the release tool work together as they do with instances.
"""

from collections.abc import Mapping
import json
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
from typing import Any

from tests.support.account import Account
from tests.support.archives import make_archive
from tests.support.server import ROOT

# The part of the real template that needs an instance, and the part that takes its place.
CONNECTION = 'source "amazon-ebs" "visitors" {\n'
NO_CONNECTION = f'{CONNECTION}  communicator = "none"\n'
PROVISIONER = re.compile(r'^  provisioner "ansible" \{\n.*?^  \}\n', re.MULTILINE | re.DOTALL)
LOCAL_PROVISIONER = """  provisioner "shell-local" {
    environment_vars = ["ANSIBLE_LOCALHOST_WARNING=False", "ANSIBLE_INVENTORY_UNPARSED_WARNING=False"]
    inline           = [join(" ", %s)]
  }
"""
# The provisioner: Ansible, which needs many seconds, or a command that prints a line like Ansible's.
ANSIBLE = f"""["ansible-playbook --inventory=localhost, --connection=local packer/ansible/%(stage)s.yml",
    "--extra-vars=ansible_python_interpreter={sys.executable}", "--extra-vars=inventory=${{var.inventory_folder}}"]"""
WORDS = """["echo 'TASK [%(stage)s : The machine is patient] *****'; sleep 1;",
    "echo '{}' > ${var.inventory_folder}/sbom.cdx.json;",
    "printf 'machine\\\\tdocker.io\\\\t26.1.5+dfsg1-9\\\\n' > ${var.inventory_folder}/packages.tsv"]"""
PLAYBOOK = """
- name: The %(stage)s image
  hosts: all
  gather_facts: false
  roles:
    - %(role)s
    - inventory
"""
ROLES = {
    'engine': """
- name: The engine is there
  ansible.builtin.command: 'true'
  changed_when: false
""",
    'application': """
- name: The application is there
  ansible.builtin.command: 'true'
  changed_when: false
""",
    'inventory': """
- name: The packages are listed
  ansible.builtin.copy:
    content: '{"bomFormat": "CycloneDX", "specVersion": "1.7", "components": []}'
    dest: "{{ inventory }}/sbom.cdx.json"
    mode: "0644"
""",
}
USER_DATA = '#!/bin/sh\ncat > /etc/visitors/instance.env <<END\n${environment}\nEND\nsystemctl start visitors.target\n'
GIT = ('git', '-c', 'user.name=a', '-c', 'user.email=a@example.org', '-c', 'init.defaultBranch=main')
# The seconds of production are for clouds; only these differ in the release tool that is run here.
PATIENCE = {'release.lock.RENEWAL_SECONDS': 1.0, 'release.lock.POLL_SECONDS': 0.5,
            'release.verify.POLL_SECONDS': 0.3, 'release.verify.AFTER_END_SECONDS': 2.0,
            'release.packer.CANCEL_SECONDS': 20.0, 'release.aws.PAUSE_SECONDS': [0.05, 0.2],
            'release.leftovers.INSIST_PAUSE_SECONDS': 0.1}
WITHOUT_VERDICT = 's waiting for the verdict of the self-test'
START = """
import importlib, json, sys
for name, seconds in json.loads(sys.argv.pop(1)).items():
    module, _, constant = name.rpartition('.')
    assert hasattr(importlib.import_module(module), constant), name
    setattr(importlib.import_module(module), constant, seconds)
from release.__main__ import main
sys.exit(main())
"""


class Checkout:
    """A checkout with one commit, and the archive of an image beside it."""

    def __init__(self, folder: Path, account: Account, provision: str = WORDS) -> None:
        """Make a checkout with one commit, and an archive of a container image beside it."""
        self.root = folder / 'checkout'
        self.account = account
        self.patience = PATIENCE
        self.archive = folder / 'image.tar'
        self.image_id = make_archive(self.archive)
        self._copy()
        self.write('packer/ami.pkr.hcl', _template(provision))
        for stage, role in (('base', 'engine'), ('app', 'application')):
            self.write(f'packer/ansible/{stage}.yml', PLAYBOOK % {'stage': stage, 'role': role})
        for role, tasks in ROLES.items():
            self.write(f'packer/ansible/roles/{role}/tasks/main.yml', tasks)
        self.write('instance/user-data.tftpl', USER_DATA)
        self.git('init', '--quiet')
        self.git('add', '--all')
        self.git('commit', '--quiet', '--message', 'begin')

    def _copy(self) -> None:
        shutil.copytree(ROOT / 'release', self.root / 'release', ignore=shutil.ignore_patterns('__pycache__'))
        for name in ('version.txt', '.gitignore'):
            shutil.copy(ROOT / name, self.root / name)

    def clone(self, folder: Path) -> 'Checkout':
        """Return another checkout of the same, as another machine has it."""
        other = Checkout.__new__(Checkout)
        other.root, other.account, other.patience = folder / 'checkout', self.account, self.patience
        other.archive, other.image_id = self.archive, self.image_id
        subprocess.run([*GIT, 'clone', '--quiet', str(self.root), str(other.root)], check=True)
        return other

    def write(self, path: str, text: str) -> None:
        """Write a file, and make git know it."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding='utf-8')
        if (self.root / '.git').exists():
            self.git('add', '--', path)

    def add_task(self, role: str, task: str) -> None:
        """Add a task to a role."""
        path = f'packer/ansible/roles/{role}/tasks/main.yml'
        self.write(path, (self.root / path).read_text(encoding='utf-8') + task)

    def git(self, *arguments: str) -> None:
        """Run a git command."""
        subprocess.run([*GIT, '-C', str(self.root), *arguments], check=True)

    def environment(self, **settings: str) -> dict[str, str]:
        """Return an environment for the release tool, free of the caller's own."""
        kept = {name: os.environ[name] for name in ('HOME', 'LANG', 'PATH') if name in os.environ}
        return {**kept, **self.account.environment, 'PYTHONUNBUFFERED': '1',
                'PKR_VAR_ssh_interface': 'private_ip', **settings}

    def start(self, *arguments: str, **settings: str) -> 'subprocess.Popen[str]':
        """Start the release tool in a process group of its own, as a shell does that has a terminal."""
        command = [sys.executable, '-c', START, json.dumps(self.patience), *arguments]
        return subprocess.Popen(command, cwd=self.root, env=self.environment(**settings), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0)

    def release(self, *arguments: str, **settings: str) -> 'Ended':
        """Return the result of the release tool."""
        return ended(self.start(*arguments, **settings))

    def bake(self, *arguments: str, **settings: str) -> 'Ended':
        """Return the result of a bake of the archive."""
        return self.release('bake', '--archive', str(self.archive), *arguments, **settings)

    def verify_in_vain(self, ami: str) -> 'Ended':
        """Return the result of a verification whose time ends before the verdict of the self-test.

        A machine that is so slow that the time is over before the copy runs gets more of it.
        """
        for seconds in (2, 20, 200):
            outcome = self.release('verify', ami, '--timeout', str(seconds))
            if WITHOUT_VERDICT in outcome.err:
                break
        return outcome

    @property
    def report(self) -> dict[str, Any]:
        """The report of the last bake."""
        return dict(json.loads((self.root / 'build' / 'bake.json').read_text(encoding='utf-8')))


class Ended:
    """The exit code and the output of a command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        """Store the exit code and the output of a command."""
        self.code = code
        self.out = out.strip()
        self.err = err

    def __repr__(self) -> str:
        """Return all of it, for a test that has failed."""
        return f'exit code {self.code}\nstdout: {self.out}\nstderr:\n{self.err}'


def ended(process: 'subprocess.Popen[str]', timeout: float = 400) -> Ended:
    """Return the result of a started command; end it if it does not end by itself."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        raise AssertionError(f'still running after {timeout} s: {Ended(process.returncode, out, err)!r}') from None
    return Ended(process.returncode, out, err)


def processes_with(word: str) -> list[str]:
    """Return the command lines that hold a word, of processes that are no zombies."""
    listing = subprocess.run(['ps', '-eo', 'stat=,args='], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if word in line and not line.startswith('Z')]


def without(program: str, environ: Mapping[str, str], folder: Path) -> str:
    """Return a PATH that has the programs of another one, but not this."""
    folder.mkdir()
    for place in reversed(environ['PATH'].split(os.pathsep)):
        for path in Path(place).glob('*') if Path(place).is_dir() else ():
            (folder / path.name).unlink(missing_ok=True)
            (folder / path.name).symlink_to(path)
    (folder / program).unlink(missing_ok=True)
    return str(folder)


def _template(provision: str) -> str:
    """Return the real template without the connection to an instance: a command on this machine provisions it."""
    text = (ROOT / 'packer' / 'ami.pkr.hcl').read_text(encoding='utf-8')
    assert text.count(CONNECTION) == 1, 'the real template has another source'
    stages = iter(('base', 'app'))
    text, count = PROVISIONER.subn(lambda _: LOCAL_PROVISIONER % (provision % {'stage': next(stages)}), text)
    assert count == 2, 'the real template has other provisioners'
    return text.replace(CONNECTION, NO_CONNECTION)
