"""The two stages of a bake, what goes into each, and how that differs from what there is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from release import artefacts, images, key
from release.artefacts import inputs_of, Store
from release.aws import Aws
from release.errors import ReleaseError
from release.images import APP, BASE, Image
from release.inputs import app_inputs, base_inputs
from release.key import Change


@dataclass(frozen=True)
class Stage:
    """One stage: its name, everything that goes into it, and the key that stands for that."""

    name: str
    inputs: Mapping[str, str]
    key: str


@dataclass(frozen=True)
class Difference:
    """How the inputs of a stage differ from those of an image that there is; no image, no changes."""

    against: Image | None
    runs: bool
    changes: Sequence[Change]

    def __str__(self) -> str:
        """Return it as people read it."""
        if not self.against:
            return 'there is no image to compare with'
        rank = 'running' if self.runs else 'newest'
        engine = f', {artefacts.ENGINE} {self.against.engine}' if self.against.engine else ''
        what = f'{self.against.ami} ({self.against.version or self.against.stage}, {rank}{engine})'
        if not self.changes:
            return f'the same inputs as {what}'
        return '\n'.join([f'against {what}:', *(f'  {change}' for change in self.changes)])


def stages(root: Path, environ: Mapping[str, str], source_ami: str, image_id: str) -> tuple[Stage, Stage]:
    """Return the base and the application stage of a checkout."""
    base = _stage(BASE, base_inputs(root, source_ami, environ))
    return base, _stage(APP, app_inputs(root, base.key, image_id))


def _stage(name: str, inputs: Mapping[str, str]) -> Stage:
    return Stage(name, inputs, key.key_of(name, inputs))


def difference(aws: Aws, store: Store, stage: Stage) -> Difference:
    """Return how a stage differs from the image that runs; where none does, from the newest."""
    candidates = [image for image in images.of_stage(aws, stage.name) if image.is_complete]
    running = _running(aws, candidates)
    against = running or (candidates[0] if candidates else None)
    if against is None:
        return Difference(None, False, ())
    return Difference(against, running is not None, compare(against, _kept_inputs(store, against), stage.inputs))


def compare(against: Image, kept: Mapping[str, str] | None, inputs: Mapping[str, str]) -> list[Change]:
    """Return what differs, by file where the image's inputs are kept, else by the groups that its tags hold."""
    if kept is not None:
        return key.changes(kept, inputs)
    return key.changes(key.from_tags(against.tags), key.marks(inputs))


def _running(aws: Aws, candidates: Sequence[Image]) -> Image | None:
    by_id = {image.ami: image for image in candidates}
    return next((by_id[ami] for ami in images.in_groups(aws) if ami in by_id), None) if candidates else None


def _kept_inputs(store: Store, image: Image) -> Mapping[str, str] | None:
    try:
        return inputs_of(store, image.ami)
    except ReleaseError:
        return None  # its tags tell less, but enough; an explanation is no reason to fail
