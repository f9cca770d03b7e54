"""From a container image to a released machine image: what is there already is taken, the rest is baked once."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
import shutil
import sys

from release import artefacts, images, key, leftovers, scan, wayin
from release.artefacts import Store
from release.container import ContainerImage, Source
from release.errors import NotReady, ToolFailed
from release.images import APP, BASE, Image
from release.lock import LEASE_SECONDS, LeaseLost, Lock
from release.packer import Build, Packer
from release.run import Run
from release.stages import Difference, difference, Stage, stages
from release.verify import verify

# How long each part may take at most; the whole has a limit of its own.
PACKER_SECONDS = 3600.0
AVAILABLE_SECONDS = 1200.0
SELFTEST_SECONDS = 900.0
BROKEN = ('deregistered', 'disabled', 'error', 'failed', 'invalid')
WORK = Path('build') / 'bake'
# packer/ansible/requirements.in has the same border.
ANSIBLE_PYTHON = (3, 12)
OLD_ANSIBLE = ('the ansible-core for this Python gets no more fixes; bake with Python 3.12 or newer '
               '(make bake PYTHON=python3.13, in a checkout without .venv)')


@dataclass(frozen=True)
class Wish:
    """What is asked of a bake."""

    source: Source
    force: bool = False
    scan: str = ''
    subnet: str = ''


@dataclass
class Outcome:
    """What a bake has come to, as far as it came."""

    version: str = ''
    image: str = ''
    image_id: str = ''
    source_ami: str = ''
    keys: dict[str, str] = field(default_factory=dict)
    amis: dict[str, str] = field(default_factory=dict)
    baked: list[str] = field(default_factory=list)
    verified: bool = False
    released: bool = False
    scanned: str = ''
    artefacts: list[str] = field(default_factory=list)


class Bake:
    def __init__(self, run: Run, store: Store, wish: Wish) -> None:
        """Bake what is asked for, in one run."""
        self._run = run
        self._store = store
        self._wish = wish
        self._work = run.root / WORK / run.run_id
        self._packer = Packer(run.root, run.environ, run.progress)
        self._held: list[Lock] = []
        self._ssh: Mapping[str, Sequence[str]] = {}
        self._not_these: set[str] = set()
        self.outcome = Outcome()

    def bake(self) -> str:
        """Return the id of the released image."""
        plan = self.plan()
        image = None if self._wish.force else self._released(plan.app)
        while image is None:
            try:
                image = self._made(plan)
            except LeaseLost as error:
                self._run.progress.note(f'{error}; waiting for it')
        self.outcome.amis[APP], self.outcome.released = image.ami, True
        self.outcome.artefacts = self._store.places(image.ami)
        return image.ami

    def plan(self) -> 'Plan':
        """Return what is to be made, when all that goes into it is known."""
        with self._run.progress.phase('read the inputs'):
            container = self._wish.source.describe()
            source = images.newest_source(self._run.aws)
            plan = Plan(container, source.ami, *_stages(self._run, source.ami, container))
        self.outcome.version, self.outcome.image = container.version, container.name
        self.outcome.image_id, self.outcome.source_ami = container.image_id, source.ami
        self.outcome.keys = {stage.name: stage.key for stage in plan.stages}
        if self._wish.force:
            # Somebody else's bake of the same that ends while this one waits is new enough for both.
            self._not_these = {image.ami for stage in plan.stages for image in self._images(stage)}
        return plan

    def explain(self) -> dict[str, Difference]:
        """Return, for each stage, how its inputs differ from what there is; nothing is begun."""
        return {stage.name: difference(self._run.aws, self._store, stage) for stage in self.plan().stages}

    def _released(self, stage: Stage) -> Image | None:
        image = next((image for image in self._images(stage) if image.is_released), None)
        if image:
            self._run.progress.note(f'{stage.name}: {image.ami} has the same inputs, and is released')
            self._scan(image)
        return image

    def _made(self, plan: 'Plan') -> Image:
        archive = self._wish.source.archive()
        with self._locked(plan.app):
            image = self._released(plan.app)
            if image:
                return image
            image = self._complete(plan.app)
            if image is None:
                self._warn_of_old_ansible()
                self._ssh = wayin.ssh_variables(self._run.aws, self._run.environ, self._wish.subnet)
                base = self._base(plan)
                image = self._baked(plan, plan.app, {
                    'base_ami': base.ami, 'image_archive': str(archive.absolute()),
                    'image_name': plan.container.name, 'image_id': plan.container.image_id})
            self._scan(image)
            verify(self._run, image.ami, self._run.deadline.within(SELFTEST_SECONDS), self._wish.subnet, self._renew)
            self.outcome.verified = True
            return image

    def _warn_of_old_ansible(self) -> None:
        if sys.version_info < ANSIBLE_PYTHON:
            self._run.progress.note(OLD_ANSIBLE)

    def _base(self, plan: 'Plan') -> Image:
        image = self._complete(plan.base)
        if image is None:
            with self._locked(plan.base):
                image = self._complete(plan.base) or self._baked(plan, plan.base, {})
        self.outcome.amis[BASE] = image.ami
        return image

    def _complete(self, stage: Stage) -> Image | None:
        image = next((image for image in self._images(stage) if image.is_complete), None)
        if image:
            self._run.progress.note(f'{stage.name}: {image.ami} has the same inputs')
        return image

    def _images(self, stage: Stage) -> list[Image]:
        return [image for image in images.find(self._run.aws, stage.name, stage.key)
                if image.ami not in self._not_these]

    @contextmanager
    def _locked(self, stage: Stage) -> Iterator[None]:
        """Be the only one that bakes a stage's key within the block, and begin on clean ground."""
        run = self._run
        lock = Lock(run.aws, stage.key, run.run_id, run.who)
        with lock.held(run.deadline, run.progress, f'{stage.name}: take the lock', self._renew):
            self._held.append(lock)
            try:
                if lock.dead:
                    run.progress.note(f'{lock.dead.who} was baking the same and has died; removing what it has left')
                    self._remove_leftovers(lock.dead.run_id)
                yield
            finally:
                self._held.remove(lock)
                if run.left:
                    lock.keep()
                    run.progress.note(f'the lock stays for {LEASE_SECONDS:.0f} s; the next bake of the same inputs '
                                      'then removes what was left behind')

    def _renew(self) -> None:
        for lock in self._held:
            lock.renew()

    def _baked(self, plan: 'Plan', stage: Stage, particular: Mapping[str, str]) -> Image:
        self._run.progress.note(f'{stage.name}: {difference(self._run.aws, self._store, stage)}')
        try:
            image = self._build(plan, stage, particular)
        except BaseException:
            with self._run.progress.phase(f'{stage.name}: remove what is left'):
                self._remove_leftovers(self._run.run_id, self._packer.temporary)
            raise
        self.outcome.baked.append(stage.name)
        return image

    def _build(self, plan: 'Plan', stage: Stage, particular: Mapping[str, str]) -> Image:
        run, output = self._run, self._work / stage.name / 'output'
        output.mkdir(parents=True, exist_ok=True)
        variables: dict[str, str | Sequence[str]] = {
            **plan.variables(run, stage), **self._ssh, 'inventory_folder': str(output), 'subnet_id': self._wish.subnet}
        build = Build(stage.name, {**variables, **particular}, self._work / stage.name)
        ami = self._packer.build(build, run.deadline.within(PACKER_SECONDS), self._renew)
        if plan.is_outdated(run):
            raise NotReady(f'files changed while {ami} was baked from them, so nobody knows what is in it; it is '
                           'removed, bake again')
        with run.progress.phase(f'{stage.name}: finish'):
            run.deadline.within(AVAILABLE_SECONDS).until(lambda: _available(run, ami), f'{ami} to become available',
                                                         meanwhile=self._renew)
            artefacts.keep(self._store, ami, [*sorted(output.iterdir()), build.manifest], stage.inputs)
            images.tag(run.aws, ami, **key.as_tags(stage.inputs), **_engine_tag(output))
            images.demand_tokens(run.aws, ami)
        return images.get(run.aws, ami)

    def _scan(self, image: Image) -> None:
        if not self._wish.scan:
            return
        with self._run.progress.phase('scan for vulnerabilities'):
            folder = self._work / 'scan'
            artefacts.fetch(self._store, image.ami, folder)
            self.outcome.scanned = scan.gate(folder, self._wish.scan, self._run.environ)
            shutil.rmtree(folder)
        self._run.progress.note(self.outcome.scanned)

    def _remove_leftovers(self, run_id: str, names: list[str] | None = None) -> None:
        removal = leftovers.remove(self._run.aws, run_id, names or [])
        if removal.removed:
            self._run.progress.note(f'removed: {", ".join(removal.removed)}')
        if removal.left:
            self._run.left.extend(removal.left)
            self._run.progress.note(f'left behind, and costing money: {"; ".join(removal.left)}')


@dataclass(frozen=True)
class Plan:
    """What is to be made of what."""

    container: ContainerImage
    source_ami: str
    base: Stage
    app: Stage

    @property
    def stages(self) -> tuple[Stage, Stage]:
        """The stages in their order."""
        return self.base, self.app

    def is_outdated(self, run: Run) -> bool:
        """Return whether the files in the checkout are other ones now."""
        return _stages(run, self.source_ami, self.container) != self.stages

    def variables(self, run: Run, stage: Stage) -> dict[str, str]:
        """Return what both builds of the template are told."""
        return {
            'region': run.aws.region,
            'source_ami': self.source_ami,
            'version': self.container.version,
            'commit': self.container.commit,
            'build_time': self.container.build_time,
            'input_hash': stage.key,
            'run_id': run.run_id,
            'build_url': run.job_url or 'none',
            'created_by': run.who,
        }


def _stages(run: Run, source_ami: str, container: ContainerImage) -> tuple[Stage, Stage]:
    return stages(run.root, run.environ, source_ami, container.image_id)


def _engine_tag(output: Path) -> dict[str, str]:
    version = artefacts.version_of(output, artefacts.ENGINE)
    return {images.ENGINE_TAG: version} if version else {}


def _available(run: Run, ami: str) -> bool | None:
    image = images.get(run.aws.once, ami)
    if image.state in BROKEN:
        raise ToolFailed(f'{ami} is {image.state} instead of available')
    run.progress.step(f'{ami} is {image.state}')
    return True if image.state == 'available' else None
