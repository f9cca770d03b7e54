"""The container image that goes into a machine image: what it is, saved to a file, and that file checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
import gzip
import hashlib
import json
from pathlib import Path
import re
import subprocess
import tarfile
from typing import Any, IO

from release.errors import NotReady, ToolFailed

LABEL = 'org.opencontainers.image.'
LABELS = ('version', 'revision', 'created')
INSPECT_SECONDS, SAVE_SECONDS = 30, 600
BLOCK = 1024 * 1024
SHA256 = 'sha256:'
BUILD_ADVICE = 'build it by `make image`'


@dataclass(frozen=True)
class ContainerImage:
    """A container image: its name, its id, and the build that its labels tell of."""

    name: str
    image_id: str
    version: str
    commit: str
    build_time: str


class Source:
    """Where a container image comes from; it is saved only when a bake needs the file."""

    def describe(self) -> ContainerImage:
        """Return what the image is."""
        raise NotImplementedError

    def archive(self) -> Path:
        """Return a checked file that holds the image, named by its id where this made it."""
        raise NotImplementedError


class FromEngine(Source):
    def __init__(self, name: str, folder: Path) -> None:
        """Take the image of this name from the Docker engine; save it in a folder."""
        self._name = name
        self._folder = folder

    def describe(self) -> ContainerImage:
        """Return what the image is; an engine whose ids are another thing than ours has to save it for that."""
        (told,) = json.loads(docker('image', 'inspect', self._name))
        if told.get('Descriptor'):
            return read(self._save(f'{told["Id"].removeprefix(SHA256)}.manifest'), self._name)
        return described(self._name, told['Id'], told.get('Config', {}).get('Labels'))

    def archive(self) -> Path:
        """Return the image's file, saved unless it is there already."""
        image = self.describe()
        path = self._folder / f'{image.image_id.removeprefix(SHA256)}.tar'
        if not path.exists():
            self._save(path.stem)
        read(path, self._name)
        return path

    def _save(self, stem: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        path, partial = self._folder / f'{stem}.tar', self._folder / f'{stem}.partial'
        try:
            docker('image', 'save', '--output', str(partial), self._name, seconds=SAVE_SECONDS)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path


class FromArchive(Source):
    def __init__(self, path: Path) -> None:
        """Take the image from a file that `docker save` has written."""
        self._path = path

    def describe(self) -> ContainerImage:
        """Return what the image is, when the file has been checked."""
        return read(self._path)

    def archive(self) -> Path:
        """Return the file."""
        return self._path


def read(path: Path, name: str = '') -> ContainerImage:
    """Return the image in an archive; raise NotReady where anything in it is not what its digest says."""
    try:
        with tarfile.open(path) as archive:
            return _read(path, archive, name)
    except OSError as error:
        raise NotReady(f'{path}: {error.strerror or error}; give a file that `docker save` has written') from None
    except (tarfile.TarError, EOFError, KeyError, IndexError, TypeError, ValueError) as error:
        raise NotReady(f'{path} is no archive of an image, or is cut off ({error!r}); save it again') from None


def _read(path: Path, archive: tarfile.TarFile, name: str) -> ContainerImage:
    manifests = json.loads(_member(archive, 'manifest.json').read())
    if len(manifests) != 1:
        raise NotReady(f'{path} holds {len(manifests)} images; save one, by its name')
    manifest = manifests[0]
    text = _member(archive, manifest['Config']).read()
    image_id = SHA256 + hashlib.sha256(text).hexdigest()
    _check(path, 'its configuration', image_id, SHA256 + Path(manifest['Config']).stem)
    if re.fullmatch('[0-9a-f]{64}', path.stem):
        _check(path, 'the image in it', image_id, SHA256 + path.stem)
    config = json.loads(text)
    digests = config['rootfs']['diff_ids']
    if len(digests) != len(manifest['Layers']):
        raise NotReady(f'{path} has {len(manifest["Layers"])} layers, its configuration names {len(digests)}')
    for layer, digest in zip(manifest['Layers'], digests):
        _check(path, f'the layer {layer}', _digest_of(partial(_member, archive, layer)), digest)
    names = manifest.get('RepoTags') or []
    return described(name or (names[0] if names else image_id), image_id, config.get('config', {}).get('Labels'))


def _check(path: Path, what: str, found: str, expected: str) -> None:
    if found != expected:
        raise NotReady(f'{path}: {what} has the digest {found} instead of {expected}; it is damaged or another one, '
                       'save it again')


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found


def _digest_of(open_layer: Callable[[], IO[bytes]]) -> str:
    """Return the digest of a layer as the configuration names it: of what is in it, if it is compressed."""
    with open_layer() as layer:
        compressed = layer.read(2) == b'\x1f\x8b'
    digest = hashlib.sha256()
    with open_layer() as layer:
        content: Any = gzip.GzipFile(fileobj=layer) if compressed else layer
        while block := content.read(BLOCK):
            digest.update(block)
    return SHA256 + digest.hexdigest()


def described(name: str, image_id: str, labels: Mapping[str, str] | None) -> ContainerImage:
    """Return an image by its labels; refuse one that does not say which build it is."""
    given = labels or {}
    for label in LABELS:
        if given.get(LABEL + label, 'unknown') == 'unknown':
            raise NotReady(f'{name} has no label {LABEL}{label}, so nobody could tell which build is in a machine '
                           f'image; {BUILD_ADVICE}')
    version, revision, created = (given[LABEL + label] for label in LABELS)
    return ContainerImage(name, image_id, version, revision, created)


def docker(*arguments: str, seconds: float = INSPECT_SECONDS) -> str:
    """Return what a docker command prints; raise an error of ours that says what to do."""
    command = f'docker {" ".join(arguments[:2])}'
    try:
        done = subprocess.run(['docker', *arguments], capture_output=True, text=True, check=True, timeout=seconds)
    except FileNotFoundError:
        raise ToolFailed('docker is not installed; install it, or give a saved image by --archive FILE') from None
    except subprocess.TimeoutExpired:
        raise ToolFailed(f'{command} has not ended within {seconds:.0f} s; is the Docker engine well?') from None
    except subprocess.CalledProcessError as error:
        told = error.stderr.strip()
        if 'No such image' in told:
            raise NotReady(f'the Docker engine has no image {arguments[-1]}; {BUILD_ADVICE}') from None
        raise ToolFailed(f'{command}: {told}') from None
    return done.stdout
