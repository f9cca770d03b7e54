"""The inputs of an AMI: the stages that a file counts for, the changes of an input hash, and the differences."""

from pathlib import Path
import re
import subprocess

from hypothesis import given
from hypothesis import strategies as st
import pytest

from release import inputs as inputs_module
from release.amis import TAG_LENGTH
from release.errors import NotReady
from release.explain import changes
from release.input_hash import as_tags, from_tags, hash_of, marks
from release.inputs import app_inputs, base_inputs, roles_of
from release.options import INPUT_HASH
from tests.support.checkout import GIT
from tests.support.server import ROOT

FILES = {
    'packer/ami.pkr.hcl': 'template',
    'packer/README.md': 'read me',
    'packer/ansible/requirements.in': 'ansible-core\n',
    'packer/ansible/requirements.txt': 'ansible-core==1\n',
    'packer/ansible/ansible.cfg': '[defaults]\n',
    'packer/ansible/base.yml': '- hosts: all\n  roles:\n    - engine\n    - role: common\n',
    'packer/ansible/app.yml': """
- hosts: all
  pre_tasks:
    - ansible.builtin.import_role:
        name: application
  roles: [common]
""",
    'packer/ansible/roles/engine/tasks/main.yml': '[]\n',
    'packer/ansible/roles/common/tasks/main.yml': '[]\n',
    'packer/ansible/roles/application/tasks/main.yml': '[]\n',
    'packer/ansible/roles/application/meta/main.yml': 'dependencies:\n  - role: units\n',
    'packer/ansible/roles/units/files/a.service': '[Unit]\n',
    'instance/boot.py': 'pass\n',
    'visitors/page.py': 'pass\n',
}


class Tree:
    """A checkout of FILES."""

    def __init__(self, root: Path) -> None:
        """Write and track the files."""
        self.root = root
        subprocess.run([*GIT, 'init', '--quiet', str(root)], check=True)
        for path, text in FILES.items():
            self.write(path, text)
        self.add()

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, encoding='utf-8')

    def add(self) -> None:
        """Track all files."""
        subprocess.run([*GIT, '-C', str(self.root), 'add', '--all'], check=True)

    def hashes(self, source: str = 'ami-1', image: str = 'sha256:1', **environ: str) -> tuple[str, str]:
        """Return the input hashes of both stages."""
        base = hash_of('base', base_inputs(self.root, source, environ))
        return base, hash_of('app', app_inputs(self.root, base, image))

    def changed(self, before: tuple[str, str], **others: str) -> list[str]:
        """Return the stages whose input hash differs from an earlier one."""
        after = self.hashes(**others)
        return [stage for stage, old, new in zip(('base', 'app'), before, after) if old != new]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Give a checkout."""
    return Tree(tmp_path)


@pytest.mark.parametrize(('path', 'stages'), [
    ('packer/ami.pkr.hcl', ['base', 'app']),
    ('packer/ansible/requirements.txt', ['base', 'app']),
    ('packer/ansible/ansible.cfg', ['base', 'app']),
    ('packer/ansible/roles/engine/tasks/main.yml', ['base', 'app']),
    ('packer/ansible/roles/common/tasks/main.yml', ['base', 'app']),
    ('packer/ansible/roles/application/tasks/main.yml', ['app']),
    ('packer/ansible/roles/units/files/a.service', ['app']),
    ('instance/boot.py', ['app']),
    ('packer/README.md', []),
    ('packer/ansible/requirements.in', []),
    ('visitors/page.py', []),
])
def test_a_file_changes_the_stages_that_read_it(tree: Tree, path: str, stages: list[str]) -> None:
    before = tree.hashes()
    tree.write(path, FILES[path] + '# changed\n')
    assert tree.changed(before) == stages


def test_a_new_file_that_no_playbook_names_counts_for_both(tree: Tree) -> None:
    before = tree.hashes()
    tree.write('packer/ansible/files/key.pem', '')
    tree.add()
    assert tree.changed(before) == ['base', 'app']


@pytest.mark.parametrize(('others', 'stages'), [
    ({'source': 'ami-2'}, ['base', 'app']), ({'image': 'sha256:2'}, ['app']),
    ({'PKR_VAR_ssh_enabled': 'true'}, ['base', 'app']), ({'PKR_VAR_subnet_id': 'subnet-1'}, []),
    ({'PKR_VAR_ssh_enabled': ''}, []), ({'HOME': '/root'}, []),
])
def test_inputs_that_are_no_files_count_too(tree: Tree, others: dict[str, str], stages: list[str]) -> None:
    assert tree.changed(tree.hashes(), **others) == stages


def test_a_variable_that_names_a_file_counts_by_the_content_of_the_file(tree: Tree, tmp_path: Path) -> None:
    agent = tmp_path / 'agent.deb'
    agent.write_bytes(b'one')
    variables = {'PKR_VAR_ssm_agent_file': str(agent)}
    before = tree.hashes(**variables)
    agent.touch()
    assert tree.changed(before, **variables) == []
    agent.write_bytes(b'two')
    assert tree.changed(before, **variables) == ['base', 'app']


def test_the_mode_of_a_file_counts_and_its_age_does_not(tree: Tree) -> None:
    before = tree.hashes()
    path = tree.root / 'instance' / 'boot.py'
    path.touch()
    assert tree.changed(before) == []
    path.chmod(0o755)
    assert tree.changed(before) == ['app']


def test_a_link_counts_by_its_target(tree: Tree) -> None:
    link = tree.root / 'instance' / 'link'
    link.symlink_to('boot.py')
    tree.add()
    before = tree.hashes()
    link.unlink()
    link.symlink_to('nowhere')
    assert tree.changed(before) == ['app']


def test_a_deleted_file_counts(tree: Tree) -> None:
    before = tree.hashes()
    (tree.root / 'instance' / 'boot.py').unlink()
    assert tree.changed(before) == ['app']


def test_an_ignored_file_does_not_count(tree: Tree) -> None:
    tree.write('.gitignore', '*.pyc\n')
    tree.add()
    before = tree.hashes()
    tree.write('instance/boot.pyc', 'x')
    assert tree.changed(before) == []


def test_an_untracked_file_is_refused(tree: Tree) -> None:
    tree.write('instance/new.py', '')
    with pytest.raises(NotReady, match='untracked: instance/new.py;'):
        tree.hashes()


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    for path in ('packer/ansible/base.yml', 'packer/ansible/app.yml'):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(FILES[path], encoding='utf-8')
    with pytest.raises(NotReady, match='bake from a git checkout'):
        base_inputs(tmp_path, 'ami-1', {})


@pytest.mark.parametrize('text', [None, '- hosts: [\n'])
def test_an_unreadable_playbook_is_named(tree: Tree, text: str | None) -> None:
    path = tree.root / 'packer' / 'ansible' / 'base.yml'
    path.unlink()
    if text:
        path.write_text(text, encoding='utf-8')
    with pytest.raises(NotReady, match='base.yml is unreadable'):
        tree.hashes()


def test_the_roles_of_a_playbook_include_their_dependencies(tree: Tree) -> None:
    assert roles_of(tree.root, 'packer/ansible/app.yml') == {'common', 'application', 'units'}


def test_a_difference_names_new_missing_and_changed_inputs() -> None:
    differences = changes({'a': '1', 'b': '1', 'c': '1'}, {'a': '1', 'b': '2', 'd': '1'})
    assert [str(change) for change in differences] == ['changed  b', 'gone     c', 'new      d']


names = st.from_regex(r'[a-z]{1,20}(/[a-z._-]{1,30}){0,5}', fullmatch=True)


@given(st.dictionaries(names, st.text(max_size=80), max_size=80))
def test_tags_hold_the_marks_of_any_inputs(inputs: dict[str, str]) -> None:
    tags = as_tags(inputs)
    assert from_tags({'Name': 'a=b', **tags}) == marks(inputs)
    assert all(len(value) <= TAG_LENGTH for value in tags.values())


@given(some := st.dictionaries(names, st.text(max_size=5), max_size=6), some)
def test_hashes_are_equal_exactly_if_the_inputs_are(first: dict[str, str], second: dict[str, str]) -> None:
    assert (hash_of('base', first) == hash_of('base', second)) == (first == second)
    assert hash_of('base', first) != hash_of('app', first)
    assert INPUT_HASH.fullmatch(hash_of('base', first)), 'the command line would refuse it'


def test_the_neutral_variables_exist_in_the_template() -> None:
    template = (ROOT / 'packer' / 'ami.pkr.hcl').read_text(encoding='utf-8')
    declared = set(re.findall(r'^variable "([a-z0-9_]+)"', template, re.MULTILINE))
    assert set(inputs_module.NEUTRAL) <= declared


def test_each_role_of_this_project_is_an_input() -> None:
    playbooks = (inputs_module.BASE_PLAYBOOK, inputs_module.APP_PLAYBOOK)
    named = set.union(*(roles_of(ROOT, playbook) for playbook in playbooks))
    there = {path.name for path in (ROOT / 'packer' / 'ansible' / 'roles').iterdir()}
    assert named <= there
