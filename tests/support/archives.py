"""Container images as files, as `docker save` writes them, made without an engine."""

from collections.abc import Mapping, Sequence
import gzip
from hashlib import sha256
import io
import json
from pathlib import Path
import tarfile

LABELS = {'org.opencontainers.image.version': '1.0.2+build.41', 'org.opencontainers.image.revision': '5' * 40,
          'org.opencontainers.image.created': '2026-01-02T03:04:05Z'}


def make_archive(path: Path, layers: Sequence[bytes] = (b'one', b'two'), labels: Mapping[str, str] | None = None, *,
                 compressed: bool = False, named: bool = True) -> str:
    """Write an archive of an image and return the image's id."""
    tars = [layer_of(content) for content in layers]
    config = json.dumps({
        'config': {'Labels': dict(LABELS if labels is None else labels)},
        'rootfs': {'type': 'layers', 'diff_ids': [f'sha256:{sha256(tar).hexdigest()}' for tar in tars]},
    }).encode()
    name = sha256(config).hexdigest()
    manifest = [{'Config': f'{name}.json', 'RepoTags': ['visitors:1.0.2-build.41'] if named else None,
                 'Layers': [f'{number}/layer.tar' for number in range(len(tars))]}]
    files = {'manifest.json': json.dumps(manifest).encode(), f'{name}.json': config}
    for number, tar in enumerate(tars):
        files[f'{number}/layer.tar'] = gzip.compress(tar) if compressed else tar
    path.write_bytes(tar_of(files))
    return f'sha256:{name}'


def layer_of(content: bytes) -> bytes:
    """Return a layer with one file."""
    return tar_of({'app/file': content})


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of files."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode='w') as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()
