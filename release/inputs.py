"""The inputs of an AMI: the tracked files of each stage, by content and mode, and the inputs that are no files."""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
import os
from pathlib import Path
import stat
import subprocess

import yaml

from release.errors import NotReady, ToolFailed

# A file in packer/ counts for the base unless only the application stage reads it: an unforeseen one counts for both.
FOLDER, ANSIBLE = 'packer', 'packer/ansible'
BASE_PLAYBOOK, APP_PLAYBOOK = f'{ANSIBLE}/base.yml', f'{ANSIBLE}/app.yml'
INSTANCE = 'instance'
# Documents and the sources of lock files: a bake reads neither.
NO_INPUT = ('.in', '.md')
GIT_SECONDS = 60
VARIABLE = 'PKR_VAR_'
# Variables of the template that say where and by whom an AMI is baked, without effect on its content.
NEUTRAL = ('build_url', 'created_by', 'ec2_endpoint', 'iam_instance_profile', 'input_hash', 'instance_type',
           'inventory_folder', 'manifest', 'region', 'run_id', 'ssh_interface', 'ssh_source_cidrs', 'ssh_username',
           'subnet_id', 'user_data_file')

Inputs = dict[str, str]


def base_inputs(root: Path, source_ami: str, environ: Mapping[str, str]) -> Inputs:
    """Return the inputs of the base AMI."""
    app_only = set(_app_only(root))
    own = _hashed(root, (path for path in _packer_files(root) if path not in app_only))
    return {'source-ami': source_ami, **own, **_variables(environ)}


def app_inputs(root: Path, base_hash: str, image_id: str) -> Inputs:
    """Return the inputs of the application's AMI: the base, the container image, and the files of this stage."""
    own = [*_app_only(root), *_tracked(root, INSTANCE)]
    return {'base': base_hash, 'image': image_id, **_hashed(root, own)}


def _variables(environ: Mapping[str, str]) -> Inputs:
    """Return the template's variables that the environment sets; for a variable that names a file, its content."""
    settings = {name.removeprefix(VARIABLE): value for name, value in environ.items() if name.startswith(VARIABLE)}
    return {f'variable {name}': _hash(Path(value)) if Path(value).is_file() else value
            for name, value in sorted(settings.items()) if value and name not in NEUTRAL}


def _app_only(root: Path) -> Iterator[str]:
    """Yield the files that only the application stage reads: its playbook, and the roles that no other one names."""
    base, app = roles_of(root, BASE_PLAYBOOK), roles_of(root, APP_PLAYBOOK)
    folders = tuple(f'{ANSIBLE}/roles/{role}/' for role in sorted(app - base))
    for path in _packer_files(root):
        if path == APP_PLAYBOOK or path.startswith(folders):
            yield path


def _packer_files(root: Path) -> list[str]:
    return [path for path in _tracked(root, FOLDER) if not path.endswith(NO_INPUT)]


def roles_of(root: Path, playbook: str) -> set[str]:
    """Return the names of a playbook's roles, including those that these roles depend on."""
    roles: set[str] = set()
    new = set(_named(_read_yaml(root / playbook)))
    while new:
        roles |= new
        metas = [root / ANSIBLE / 'roles' / role / 'meta' / 'main.yml' for role in new]
        new = {name for meta in metas if meta.exists() for name in _named(_read_yaml(meta))} - roles
    return roles


def _named(part: object) -> Iterator[str]:
    """Yield the names of roles anywhere below a part of a playbook or of a role's metadata."""
    if isinstance(part, list):
        for entry in part:
            yield from _named(entry)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key in ('roles', 'dependencies'):
                yield from (entry if isinstance(entry, str) else entry.get('role') or entry['name'] for entry in value)
            elif str(key).rpartition('.')[2] in ('import_role', 'include_role'):
                yield value['name']
            else:
                yield from _named(value)


def _read_yaml(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, yaml.YAMLError) as error:
        raise NotReady(f'{path} is unreadable ({error}), so the inputs of the AMI are unknown') from None


def _tracked(root: Path, folder: str) -> list[str]:
    """Return the tracked files below a folder; raise NotReady for untracked ones, which a bake would use too."""
    untracked = _git(root, 'ls-files', '-z', '--others', '--exclude-standard', '--', folder)
    if untracked:
        raise NotReady(f'untracked: {", ".join(untracked)}; a bake would use them without counting them; git '
                       'add them, delete them, or name them in .gitignore')
    return [path for path in _git(root, 'ls-files', '-z', '--', folder) if os.path.lexists(root / path)]


def _git(root: Path, *arguments: str) -> list[str]:
    command = ['git', '-c', f'safe.directory={root}', '-C', str(root), *arguments]
    try:
        process = subprocess.run(command, capture_output=True, check=True, timeout=GIT_SECONDS)
    except FileNotFoundError:
        raise ToolFailed('git is not installed, so the inputs of the AMI are unknown; install git') from None
    except subprocess.CalledProcessError as error:
        raise NotReady(f'git {arguments[0]}: {error.stderr.decode().strip()}; bake from a git checkout') from None
    return sorted(os.fsdecode(name) for name in process.stdout.split(b'\0') if name)


def _hashed(root: Path, paths: Iterable[str]) -> Inputs:
    return {path: _hash(root / path) for path in paths}


def _hash(path: Path) -> str:
    """Return a file's mode, as git distinguishes modes, and its hash; the content of a link is its target."""
    if path.is_symlink():
        return f'120000 {sha256(os.fsencode(os.readlink(path))).hexdigest()}'
    mode = '100755' if path.stat().st_mode & stat.S_IXUSR else '100644'
    return f'{mode} {sha256(path.read_bytes()).hexdigest()}'
