"""A container image in an archive: described by its content, and refused if a part does not match its digest."""

from collections.abc import Callable
import json
import os
from pathlib import Path
import stat
import tarfile

import pytest

from rehearsal.machines.engine import Engine
from release.container import FromArchive, FromEngine, read
from release.errors import NotReady, ToolFailed
from tests.support.archives import LABELS, layer_of, make_archive, tar_of
from tests.support.containers.fixtures import Image


def test_an_archive_names_its_build(tmp_path: Path) -> None:
    path = tmp_path / 'image.tar'
    image_id = make_archive(path)
    image = FromArchive(path).describe()
    assert (image.name, image.image_id) == ('visitors:1.0.2-build.41', image_id)
    assert (image.version, image.commit, image.build_time) == ('1.0.2+build.41', '5' * 40, '2026-01-02T03:04:05Z')


def test_layers_may_be_compressed(tmp_path: Path) -> None:
    path = tmp_path / 'image.tar'
    assert make_archive(path, compressed=True) == read(path).image_id


def test_an_image_without_a_name_is_called_by_its_id(tmp_path: Path) -> None:
    path = tmp_path / 'image.tar'
    assert make_archive(path, named=False) == read(path).name


def changed(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change the files in an archive."""
    with tarfile.open(path) as archive:
        files = {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]
    change(files)
    path.write_bytes(tar_of(files))


def damage_layer(files: dict[str, bytes]) -> None:
    files['1/layer.tar'] = layer_of(b'other')


def damage_config(files: dict[str, bytes]) -> None:
    (name,) = [name for name in files if len(name) == 69]
    files[name] += b' '


def drop_layer(files: dict[str, bytes]) -> None:
    del files['1/layer.tar']


def forget_layer(files: dict[str, bytes]) -> None:
    (image,) = json.loads(files['manifest.json'])
    image['Layers'].pop()
    files['manifest.json'] = json.dumps([image]).encode()


def add_image(files: dict[str, bytes]) -> None:
    files['manifest.json'] = json.dumps(json.loads(files['manifest.json']) * 2).encode()


def drop_manifest(files: dict[str, bytes]) -> None:
    del files['manifest.json']


@pytest.mark.parametrize(('change', 'says'), [
    (damage_layer, 'the layer 1/layer.tar has the digest'), (damage_config, 'its configuration has the digest'),
    (drop_layer, 'is no archive of an image, or is truncated'),
    (forget_layer, 'has 1 layers, its configuration names 2'),
    (add_image, 'holds 2 images; save one'), (drop_manifest, 'is no archive of an image'),
])
def test_an_incomplete_archive_is_refused(tmp_path: Path, change: Callable[[dict[str, bytes]], None],
                                          says: str) -> None:
    path = tmp_path / 'image.tar'
    make_archive(path)
    changed(path, change)
    with pytest.raises(NotReady, match=says):
        read(path)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'image.tar'
    make_archive(path, layers=[b'x' * 40_000])
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(NotReady, match='is truncated'):
        read(path)


def test_a_name_that_is_a_digest_must_be_that_of_the_image(tmp_path: Path) -> None:
    path = tmp_path / 'image.tar'
    image_id = make_archive(path)
    right = path.rename(tmp_path / f'{image_id.removeprefix("sha256:")}.tar')
    assert read(right).image_id == image_id
    with pytest.raises(NotReady, match=f'the image in it has the digest {image_id} instead of sha256:{"a" * 64}'):
        read(right.rename(tmp_path / f'{"a" * 64}.tar'))


@pytest.mark.parametrize('label', LABELS)
@pytest.mark.parametrize('value', [None, 'unknown'])
def test_an_image_without_a_label_of_its_build_is_refused(tmp_path: Path, label: str,
                                                          value: str | None) -> None:
    labels = {**LABELS, label: value} if value else {name: text for name, text in LABELS.items() if name != label}
    make_archive(tmp_path / 'image.tar', labels={name: str(text) for name, text in labels.items()})
    with pytest.raises(NotReady, match=f'has no label {label}.*build it by `make image`'):
        read(tmp_path / 'image.tar')


@pytest.mark.parametrize(('path', 'says'), [('nowhere.tar', 'No such file or directory'), ('.', 'Is a directory')])
def test_an_unreadable_file_is_named(tmp_path: Path, path: str, says: str) -> None:
    with pytest.raises(NotReady, match=f'{says}; use a file that `docker save` wrote'):
        read(tmp_path / path)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give a maker of docker commands that fail."""
    def make(script: str) -> None:
        program = tmp_path / 'docker'
        program.write_text(f'#!/bin/sh\n{script}\n', encoding='utf-8')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv('PATH', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')
    return make


@pytest.mark.parametrize(('script', 'kind', 'says'), [
    ('echo "Error: No such image: visitors:1" >&2; exit 1', NotReady,
     'the Docker engine has no image visitors:1; build it by `make image`'),
    ('echo "Cannot connect to the Docker daemon" >&2; exit 1', ToolFailed,
     'docker image inspect: Cannot connect to the Docker daemon'),
])
def test_the_reason_of_a_failing_engine_is_reported(docker: Callable[[str], None], tmp_path: Path, script: str,
                                                    kind: type[Exception], says: str) -> None:
    docker(script)
    with pytest.raises(kind, match=says):
        FromEngine('visitors:1', tmp_path).describe()


def test_a_missing_docker_is_reported_with_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(ToolFailed, match='docker is not installed; install it, or use a saved image by --archive'):
        FromEngine('visitors:1', tmp_path).describe()


def test_an_engine_that_uses_manifest_digests_as_ids_saves_the_image_first(docker: Callable[[str], None],
                                                                           tmp_path: Path) -> None:
    image_id = make_archive(tmp_path / 'image.tar')
    details = json.dumps([{'Id': f'sha256:{"b" * 64}', 'Descriptor': {'digest': f'sha256:{"b" * 64}'}}])
    docker(f"case $2 in inspect) echo '{details}';; save) cp {tmp_path / 'image.tar'} $4;; esac")
    source = FromEngine('visitors:1', tmp_path / 'images')
    assert source.describe().image_id == image_id
    assert source.archive().stem == image_id.removeprefix('sha256:')


def test_a_save_that_fails_leaves_no_file(docker: Callable[[str], None], tmp_path: Path) -> None:
    labels = json.dumps(LABELS)
    details = f'[{{"Id": "sha256:{"b" * 64}", "Config": {{"Labels": {labels}}}}}]'
    docker(f"case $2 in inspect) echo '{details}';; save) echo half > $4; echo no space >&2; exit 1;; esac")
    with pytest.raises(ToolFailed, match='docker image save: no space'):
        FromEngine('visitors:1', tmp_path / 'images').archive()
    assert not list((tmp_path / 'images').iterdir())


@pytest.mark.container
def test_the_real_image_is_saved_and_checked(engine: Engine, image: Image, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)
    source = FromEngine(image.name, tmp_path)
    path, details = source.archive(), source.describe()
    assert path.name == f'{details.image_id.removeprefix("sha256:")}.tar'
    assert FromArchive(path).describe() == details
    assert (details.version, details.commit) == (image.build['VERSION'], image.build['REVISION'])
