"""The container image of an AMI: its description, its archive, and the check of an archive."""

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
from typing import Any, IO, Protocol

from release.errors import NotReady, ToolFailed

LABEL = 'org.opencontainers.image.'
LABELS = ('version', 'revision', 'created')
INSPECT_SECONDS, SAVE_SECONDS = 30, 600
BLOCK = 1024 * 1024
SHA256 = 'sha256:'
BUILD_ADVICE = 'build it by `make image`'


@dataclass(frozen=True)
class ContainerImage:
    """A container image: its name, its id, and the build that its labels name."""

    name: str
    image_id: str
    version: str
    commit: str
    build_time: str


class Source(Protocol):
    """The origin of a container image, which is saved to a file only when a bake needs the file."""

    def describe(self) -> ContainerImage:
        """Return the description of the image."""

    def archive(self) -> Path:
        """Return a checked archive of the image; if this tool saved it, its name is the id of the image."""


class FromEngine:
    """A container image of the Docker engine, saved to a folder."""

    def __init__(self, name: str, folder: Path) -> None:
        """Choose the image by its name, and the folder of its archive."""
        self._name = name
        self._folder = folder

    def describe(self) -> ContainerImage:
        """Return the description of the image; an engine that uses manifest digests as ids has to save it first."""
        (details,) = json.loads(docker('image', 'inspect', self._name))
        if details.get('Descriptor'):
            return read(self._save(f'{details["Id"].removeprefix(SHA256)}.manifest'), self._name)
        return from_labels(self._name, details['Id'], details.get('Config', {}).get('Labels'))

    def archive(self) -> Path:
        """Return the image's archive, saved now unless it exists."""
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


class FromArchive:
    """A container image in an archive that `docker save` wrote."""

    def __init__(self, path: Path) -> None:
        """Choose the archive."""
        self._path = path

    def describe(self) -> ContainerImage:
        """Check the archive, and return the description of the image."""
        return read(self._path)

    def archive(self) -> Path:
        """Return the path of the archive."""
        return self._path


def read(path: Path, name: str = '') -> ContainerImage:
    """Return the image in an archive; raise NotReady if a part of it does not match its digest."""
    try:
        with tarfile.open(path) as archive:
            return _read(path, archive, name)
    except OSError as error:
        raise NotReady(f'{path}: {error.strerror or error}; use a file that `docker save` wrote') from None
    except (tarfile.TarError, EOFError, KeyError, IndexError, TypeError, ValueError) as error:
        raise NotReady(f'{path} is no archive of an image, or is truncated ({error!r}); save it again') from None


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
    return from_labels(name or (names[0] if names else image_id), image_id, config.get('config', {}).get('Labels'))


def _check(path: Path, part: str, digest: str, expected: str) -> None:
    if digest != expected:
        raise NotReady(f'{path}: {part} has the digest {digest} instead of {expected}; it is damaged or another one, '
                       'save it again')


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file


def _digest_of(open_layer: Callable[[], IO[bytes]]) -> str:
    """Return the digest of a layer as the configuration lists it: that of the uncompressed content."""
    with open_layer() as layer:
        compressed = layer.read(2) == b'\x1f\x8b'
    digest = hashlib.sha256()
    with open_layer() as layer:
        content: Any = gzip.GzipFile(fileobj=layer) if compressed else layer
        while block := content.read(BLOCK):
            digest.update(block)
    return SHA256 + digest.hexdigest()


def from_labels(name: str, image_id: str, labels: Mapping[str, str] | None) -> ContainerImage:
    """Return the description of an image by its labels; raise NotReady if they do not identify the build."""
    values = labels or {}
    for label in LABELS:
        if values.get(LABEL + label, 'unknown') == 'unknown':
            raise NotReady(f'{name} has no label {LABEL}{label}, so the build in an AMI would be unknown; '
                           f'{BUILD_ADVICE}')
    version, revision, created = (values[LABEL + label] for label in LABELS)
    return ContainerImage(name, image_id, version, revision, created)


def docker(*arguments: str, seconds: float = INSPECT_SECONDS) -> str:
    """Return the output of a docker command; raise ToolFailed or NotReady with advice if it fails."""
    command = f'docker {" ".join(arguments[:2])}'
    try:
        process = subprocess.run(['docker', *arguments], capture_output=True, text=True, check=True, timeout=seconds)
    except FileNotFoundError:
        raise ToolFailed('docker is not installed; install it, or use a saved image by --archive FILE') from None
    except subprocess.TimeoutExpired:
        raise ToolFailed(f'{command} did not end within {seconds:.0f} s; check the Docker engine') from None
    except subprocess.CalledProcessError as error:
        message = error.stderr.strip()
        if 'No such image' in message:
            raise NotReady(f'the Docker engine has no image {arguments[-1]}; {BUILD_ADVICE}') from None
        raise ToolFailed(f'{command}: {message}') from None
    return process.stdout
