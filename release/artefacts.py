"""The artefacts of an AMI, stored under its id in a folder or in S3: bill of materials, package list, inputs."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
import json
from pathlib import Path
import re
import shutil

from release.aws import Aws
from release.errors import AwsFailed, NotReady

SETTING = 'VISITORS_ARTEFACTS'
INPUTS = 'inputs.json'
# The files that the role inventory writes: the bill of materials, and lines of part, name and version with tabs.
BILL, PACKAGES = 'sbom.cdx.json', 'packages.tsv'
ENGINE = 'docker.io'
ABSENT = ('NoSuchKey', '404')
S3_PLACE = re.compile(r's3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?')


class Store(ABC):
    """The place of the artefacts; each AMI has a folder named by its id in it."""

    @abstractmethod
    def put(self, ami_id: str, name: str, content: bytes) -> None:
        """Store a file."""

    @abstractmethod
    def get(self, ami_id: str, name: str) -> bytes | None:
        """Return a file's content, or None if it is not stored."""

    @abstractmethod
    def names(self, ami_id: str) -> list[str]:
        """Return the names of an AMI's files."""

    @abstractmethod
    def place(self, ami_id: str, name: str) -> str:
        """Return the path or URL of a file."""

    def places(self, ami_id: str) -> list[str]:
        """Return the path or URL of each of an AMI's files."""
        return [self.place(ami_id, name) for name in self.names(ami_id)]

    @abstractmethod
    def remove(self, ami_id: str) -> None:
        """Delete an AMI's files."""


class Folder(Store):
    """A store in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        """Choose the folder; the first file creates it."""
        self._folder = folder

    def put(self, ami_id: str, name: str, content: bytes) -> None:
        """Store a file; a process that is killed meanwhile leaves no truncated file under this name."""
        path = self._folder / ami_id / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f'{path.name}.partial')
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise NotReady(f'{SETTING}: cannot write {path}: {error.strerror}') from None

    def get(self, ami_id: str, name: str) -> bytes | None:
        """Return a file's content, or None if it is not stored."""
        path = self._folder / ami_id / name
        return path.read_bytes() if path.is_file() else None

    def names(self, ami_id: str) -> list[str]:
        """Return the names of an AMI's files."""
        folder = self._folder / ami_id
        return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob('*')) if path.is_file()]

    def place(self, ami_id: str, name: str) -> str:
        """Return the path of a file."""
        return str(self._folder / ami_id / name)

    def remove(self, ami_id: str) -> None:
        """Delete an AMI's files."""
        try:
            shutil.rmtree(self._folder / ami_id)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise NotReady(f'{SETTING}: cannot delete {error.filename}: {error.strerror}') from None


class Bucket(Store):
    """A store in an S3 bucket, below a prefix."""

    def __init__(self, aws: Aws, bucket: str, prefix: str) -> None:
        """Choose the bucket and the prefix, which may be empty."""
        self._aws = aws
        self._bucket = bucket
        self._prefix = f'{prefix.strip("/")}/'.lstrip('/')

    def put(self, ami_id: str, name: str, content: bytes) -> None:
        """Store a file."""
        self._aws.call('s3', 'put_object', Bucket=self._bucket, Key=self._key(ami_id, name), Body=content)

    def get(self, ami_id: str, name: str) -> bytes | None:
        """Return a file's content, or None if it is not stored."""
        try:
            return self._aws.content('s3', 'get_object', 'Body', Bucket=self._bucket, Key=self._key(ami_id, name))
        except AwsFailed as error:
            if error.code in ABSENT:
                return None
            raise

    def names(self, ami_id: str) -> list[str]:
        """Return the names of an AMI's files."""
        prefix = self._key(ami_id, '')
        entries = self._aws.items('s3', 'list_objects_v2', 'Contents', Bucket=self._bucket, Prefix=prefix)
        return [entry['Key'].removeprefix(prefix) for entry in entries]

    def place(self, ami_id: str, name: str) -> str:
        """Return the URL of a file."""
        return f's3://{self._bucket}/{self._key(ami_id, name)}'

    def remove(self, ami_id: str) -> None:
        """Delete an AMI's files."""
        for name in self.names(ami_id):
            self._aws.call('s3', 'delete_object', Bucket=self._bucket, Key=self._key(ami_id, name))

    def _key(self, ami_id: str, name: str) -> str:
        return f'{self._prefix}{ami_id}/{name}'


def store_at(place: str, aws: Aws) -> Store:
    """Return the store at a place: a folder, or s3://BUCKET/PREFIX."""
    if '://' not in place:
        return Folder(Path(place).absolute())
    match = S3_PLACE.fullmatch(place)
    if not match:
        raise NotReady(f'{SETTING}={place}: give a folder, or s3://BUCKET/PREFIX')
    return Bucket(aws, match['bucket'], match['prefix'] or '')


def keep(store: Store, ami_id: str, files: Iterable[Path], inputs: Mapping[str, str]) -> None:
    """Store the files of a bake, and its inputs."""
    for path in files:
        store.put(ami_id, path.name, path.read_bytes())
    store.put(ami_id, INPUTS, json.dumps(dict(inputs), indent=2, sort_keys=True).encode())


def fetch(store: Store, ami_id: str, folder: Path) -> list[Path]:
    """Return copies of an AMI's files in a folder; raise NotReady if the store lacks them."""
    copies = []
    for name in store.names(ami_id):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(ami_id, name) or b'')
        copies.append(path)
    if not copies:
        raise NotReady(f'{store.place(ami_id, "")} has no files; was {ami_id} baked with another {SETTING}?')
    return copies


def inputs_of(store: Store, ami_id: str) -> dict[str, str] | None:
    """Return the inputs of an AMI, or None if they are not stored."""
    content = store.get(ami_id, INPUTS)
    return dict(json.loads(content)) if content is not None else None


def version_of(folder: Path, package: str) -> str:
    """Return the version of a Debian package by the package list in a folder; empty if the list lacks it."""
    try:
        rows = [line.split('\t') for line in (folder / PACKAGES).read_text(encoding='utf-8').splitlines()]
    except FileNotFoundError:
        return ''
    return next((version for part, name, version in rows if (part, name) == ('machine', package)), '')
