"""What is kept beside a machine image, under its id: SBOM, package list, inputs; in a folder or in S3."""

from collections.abc import Iterable, Mapping
import json
from pathlib import Path
import re
import shutil

from release.aws import Aws
from release.errors import AwsFailed, NotReady

SETTING = 'VISITORS_ARTEFACTS'
INPUTS = 'inputs.json'
# The list that the role inventory writes: part, name and version, between tabs.
PACKAGES = 'packages.tsv'
ENGINE = 'docker.io'
ABSENT = ('NoSuchKey', '404')
S3_PLACE = re.compile(r's3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?')


class Store:
    """Where the artefacts of images are; each image has a folder of its id in it."""

    def put(self, ami: str, name: str, content: bytes) -> None:
        """Keep a file."""
        raise NotImplementedError

    def get(self, ami: str, name: str) -> bytes | None:
        """Return a file's content, or nothing where it is not."""
        raise NotImplementedError

    def names(self, ami: str) -> list[str]:
        """Return the names of an image's files."""
        raise NotImplementedError

    def place(self, ami: str, name: str) -> str:
        """Return where a file is, as people and other programs name it."""
        raise NotImplementedError

    def places(self, ami: str) -> list[str]:
        """Return where each file of an image is."""
        return [self.place(ami, name) for name in self.names(ami)]

    def remove(self, ami: str) -> None:
        """Forget the files of an image."""
        raise NotImplementedError


class Folder(Store):
    def __init__(self, folder: Path) -> None:
        """Keep artefacts in a folder."""
        self._folder = folder

    def put(self, ami: str, name: str, content: bytes) -> None:
        """Keep a file; whoever is killed meanwhile leaves none that is cut off."""
        path = self._folder / ami / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f'{path.name}.partial')
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise NotReady(f'{SETTING}: {path} cannot be written: {error.strerror}') from None

    def get(self, ami: str, name: str) -> bytes | None:
        """Return a file's content, or nothing where it is not."""
        path = self._folder / ami / name
        return path.read_bytes() if path.is_file() else None

    def names(self, ami: str) -> list[str]:
        """Return the names of an image's files."""
        folder = self._folder / ami
        return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob('*')) if path.is_file()]

    def place(self, ami: str, name: str) -> str:
        """Return the path of a file."""
        return str(self._folder / ami / name)

    def remove(self, ami: str) -> None:
        """Forget the files of an image."""
        try:
            shutil.rmtree(self._folder / ami)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise NotReady(f'{SETTING}: {error.filename} cannot be removed: {error.strerror}') from None


class Bucket(Store):
    def __init__(self, aws: Aws, bucket: str, prefix: str) -> None:
        """Keep artefacts in a bucket, below a prefix."""
        self._aws = aws
        self._bucket = bucket
        self._prefix = f'{prefix.strip("/")}/'.lstrip('/')

    def put(self, ami: str, name: str, content: bytes) -> None:
        """Keep a file."""
        self._aws.call('s3', 'put_object', Bucket=self._bucket, Key=self._key(ami, name), Body=content)

    def get(self, ami: str, name: str) -> bytes | None:
        """Return a file's content, or nothing where it is not."""
        try:
            return self._aws.content('s3', 'get_object', 'Body', Bucket=self._bucket, Key=self._key(ami, name))
        except AwsFailed as error:
            if error.reason in ABSENT:
                return None
            raise

    def names(self, ami: str) -> list[str]:
        """Return the names of an image's files."""
        prefix = self._key(ami, '')
        found = self._aws.items('s3', 'list_objects_v2', 'Contents', Bucket=self._bucket, Prefix=prefix)
        return [entry['Key'].removeprefix(prefix) for entry in found]

    def place(self, ami: str, name: str) -> str:
        """Return the URL of a file."""
        return f's3://{self._bucket}/{self._key(ami, name)}'

    def remove(self, ami: str) -> None:
        """Forget the files of an image."""
        for name in self.names(ami):
            self._aws.call('s3', 'delete_object', Bucket=self._bucket, Key=self._key(ami, name))

    def _key(self, ami: str, name: str) -> str:
        return f'{self._prefix}{ami}/{name}'


def store_at(place: str, aws: Aws) -> Store:
    """Return the store at a place: a folder, or s3://BUCKET/PREFIX."""
    if '://' not in place:
        return Folder(Path(place).absolute())
    match = S3_PLACE.fullmatch(place)
    if not match:
        raise NotReady(f'{SETTING}={place}: give a folder, or s3://BUCKET/PREFIX')
    return Bucket(aws, match['bucket'], match['prefix'] or '')


def keep(store: Store, ami: str, files: Iterable[Path], inputs: Mapping[str, str]) -> None:
    """Keep what a bake has written, and what went into it."""
    for path in files:
        store.put(ami, path.name, path.read_bytes())
    store.put(ami, INPUTS, json.dumps(dict(inputs), indent=2, sort_keys=True).encode())


def fetch(store: Store, ami: str, folder: Path) -> list[Path]:
    """Return copies of an image's files in a folder; raise NotReady where nothing is kept of it."""
    copies = []
    for name in store.names(ami):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(ami, name) or b'')
        copies.append(path)
    if not copies:
        raise NotReady(f'nothing is kept in {store.place(ami, "")}; is {SETTING} the place that {ami} was baked with?')
    return copies


def inputs_of(store: Store, ami: str) -> dict[str, str] | None:
    """Return what went into an image, or nothing where that is not kept."""
    content = store.get(ami, INPUTS)
    return dict(json.loads(content)) if content is not None else None


def version_of(folder: Path, package: str) -> str:
    """Return the version of a package of the machine by the list in a folder; nothing where the list has none."""
    try:
        rows = [line.split('\t') for line in (folder / PACKAGES).read_text(encoding='utf-8').splitlines()]
    except FileNotFoundError:
        return ''
    return next((version for part, name, version in rows if (part, name) == ('machine', package)), '')
