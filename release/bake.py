"""From a container image to a released AMI: each stage is taken from an existing AMI, or baked once."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
import sys

from release import amis, artefacts, input_hash, leftovers, ssh_access
from release.amis import Ami, APP, BASE
from release.artefacts import Store
from release.container import ContainerImage, Source
from release.errors import NotReady, ToolFailed
from release.explain import Difference, difference
from release.input_hash import Stage, stages
from release.lock import LEASE_SECONDS, LeaseLost, Lock
from release.packer import Build, Packer
from release.scan import scan
from release.session import Session
from release.verify import verify

# The time limit of each part; the whole bake has one of its own.
PACKER_SECONDS = 3600.0
AVAILABLE_SECONDS = 1200.0
SELFTEST_SECONDS = 900.0
BROKEN = ('deregistered', 'disabled', 'error', 'failed', 'invalid')
WORK = Path('build') / 'bake'
# packer/ansible/requirements.in has the same limit.
ANSIBLE_PYTHON = (3, 12)
OLD_ANSIBLE = ('the ansible-core for this Python no longer gets fixes; bake with Python 3.12 or newer '
               '(make bake PYTHON=python3.13, in a checkout without .venv)')


@dataclass(frozen=True)
class Request:
    """The container image to bake, and the options of the bake."""

    source: Source
    force: bool = False
    scan: str = ''
    subnet: str = ''


@dataclass
class Outcome:
    """The outcome of a bake, which build/bake.json holds under these names; `keys` are the input hashes."""

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
    """One bake of a container image. `outcome` grows with each step, so that a failed bake is reported too."""

    def __init__(self, session: Session, store: Store, request: Request) -> None:
        """Prepare the bake; nothing is started."""
        self._session = session
        self._store = store
        self._request = request
        # Each wait of a bake renews its leases, however long the wait is.
        self._deadline = session.deadline.polling(self._renew)
        self._work = session.root / WORK / session.run_id
        self._packer = Packer(session.root, session.environ, session.progress)
        self._held: list[Lock] = []
        self._outputs: dict[str, Path] = {}
        self._excluded: set[str] = set()
        self.outcome = Outcome()

    def bake(self) -> Outcome:
        """Return the outcome with a released AMI, which is found or baked; raise a ReleaseError if that fails."""
        plan = self.plan()
        ami = None if self._request.force else self._find_released(plan.app)
        while ami is None:
            try:
                ami = self._find_or_bake(plan)
            except LeaseLost as error:
                self._session.progress.note(f'{error}; waiting for it')
        self.outcome.amis[APP], self.outcome.released = ami.id, True
        self.outcome.artefacts = self._store.places(ami.id)
        return self.outcome

    def plan(self) -> 'Plan':
        """Return both stages with their inputs."""
        with self._session.progress.phase('read the inputs'):
            container = self._request.source.describe()
            source = amis.newest_source(self._session.aws)
            plan = Plan(container, source.id, *_stages(self._session, source.id, container))
        self.outcome.version, self.outcome.image = container.version, container.name
        self.outcome.image_id, self.outcome.source_ami = container.image_id, source.id
        self.outcome.keys = {stage.name: stage.input_hash for stage in plan.stages}
        if self._request.force:
            # Only today's AMIs are excluded: one that another bake makes while this one waits is new enough.
            self._excluded = {ami.id for stage in plan.stages for ami in self._candidates(stage)}
        return plan

    def explain(self) -> dict[str, Difference]:
        """Return how the inputs of each stage differ from those of an existing AMI; start nothing."""
        return {stage.name: difference(self._session.aws, self._store, stage) for stage in self.plan().stages}

    def _find_released(self, stage: Stage) -> Ami | None:
        ami = next((ami for ami in self._candidates(stage) if ami.is_released), None)
        if ami:
            self._session.progress.note(f'{stage.name}: {ami.id} has the same inputs, and is released')
            self._scan(ami)
        return ami

    def _find_or_bake(self, plan: 'Plan') -> Ami:
        archive = self._request.source.archive()
        with self._locked(plan.app):
            ami = self._find_released(plan.app)
            if ami:
                return ami
            ami = self._find_committed(plan.app) or self._bake_app(plan, archive)
            self._scan(ami)
            verify(self._session, ami.id, self._deadline.within(SELFTEST_SECONDS), self._request.subnet)
            self.outcome.verified = True
            return ami

    def _bake_app(self, plan: 'Plan', archive: Path) -> Ami:
        if sys.version_info < ANSIBLE_PYTHON:
            self._session.progress.note(OLD_ANSIBLE)
        access = ssh_access.variables(self._session.aws, self._session.environ, self._request.subnet)
        base = self._base(plan, access)
        return self._bake_stage(plan, plan.app, {
            **access, 'base_ami': base.id, 'image_archive': str(archive.absolute()),
            'image_name': plan.container.name, 'image_id': plan.container.image_id})

    def _base(self, plan: 'Plan', access: Mapping[str, Sequence[str]]) -> Ami:
        ami = self._find_committed(plan.base)
        if ami is None:
            with self._locked(plan.base):
                ami = self._find_committed(plan.base) or self._bake_stage(plan, plan.base, access)
        self.outcome.amis[BASE] = ami.id
        return ami

    def _find_committed(self, stage: Stage) -> Ami | None:
        ami = next((ami for ami in self._candidates(stage) if ami.is_committed), None)
        if ami:
            self._session.progress.note(f'{stage.name}: {ami.id} has the same inputs')
        return ami

    def _candidates(self, stage: Stage) -> list[Ami]:
        return [ami for ami in amis.find(self._session.aws, stage.name, stage.input_hash)
                if ami.id not in self._excluded]

    @contextmanager
    def _locked(self, stage: Stage) -> Iterator[None]:
        """Hold the lock on a stage's inputs within the block, and first remove a dead owner's leftovers."""
        session = self._session
        lock = Lock(session.aws, stage.input_hash, session.run_id, session.caller)
        with lock.held(self._deadline, session.progress, f'{stage.name}: take the lock'):
            self._held.append(lock)
            try:
                if lock.dead:
                    session.progress.note(f'{lock.dead.owner} died while it baked the same inputs; removing its '
                                          'leftovers')
                    self._remove_leftovers(lock.dead.run_id)
                yield
            finally:
                self._held.remove(lock)
                if session.left:
                    lock.abandon()
                    session.progress.note(f'the lock stays for {LEASE_SECONDS:.0f} s; after that the next bake of the '
                                          'same inputs removes the leftovers')

    def _renew(self) -> None:
        for lock in self._held:
            lock.renew()

    def _bake_stage(self, plan: 'Plan', stage: Stage, particular: Mapping[str, str | Sequence[str]]) -> Ami:
        try:
            ami = self._build(plan, stage, particular)
        except BaseException:
            with self._session.progress.phase(f'{stage.name}: remove leftovers'):
                self._remove_leftovers(self._session.run_id, self._packer.untagged)
            raise
        self.outcome.baked.append(stage.name)
        return ami

    def _build(self, plan: 'Plan', stage: Stage, particular: Mapping[str, str | Sequence[str]]) -> Ami:
        session, output = self._session, self._work / stage.name / 'output'
        output.mkdir(parents=True, exist_ok=True)
        build = Build(stage.name, {
            **plan.variables(session, stage), 'inventory_folder': str(output), 'subnet_id': self._request.subnet,
            **particular}, self._work / stage.name)
        ami_id = self._packer.build(build, self._deadline.within(PACKER_SECONDS))
        if plan.is_outdated(session):
            raise NotReady(f'input files changed during the bake of {ami_id}, so its content is unknown; it is '
                           'removed, bake again')
        with session.progress.phase(f'{stage.name}: finish'):
            self._deadline.within(AVAILABLE_SECONDS).until(lambda: _available(session, ami_id),
                                                           f'{ami_id} to become available')
            artefacts.keep(self._store, ami_id, [*sorted(output.iterdir()), build.manifest], stage.inputs)
            amis.tag(session.aws, ami_id, **input_hash.as_tags(stage.inputs), **_engine_tag(output))
            amis.require_imdsv2(session.aws, ami_id)
        self._outputs[ami_id] = output
        return amis.get(session.aws, ami_id)

    def _scan(self, ami: Ami) -> None:
        if not self._request.scan:
            return
        session, folder = self._session, self._outputs.get(ami.id)
        with session.progress.phase('scan for vulnerabilities'):
            if not folder:  # an earlier bake made it
                folder = self._work / 'scan'
                artefacts.fetch(self._store, ami.id, folder)
            self.outcome.scanned = scan(folder, self._request.scan, session.environ, self._deadline)
        session.progress.note(self.outcome.scanned)

    def _remove_leftovers(self, run_id: str, untagged: Sequence[str] = ()) -> None:
        """Remove a run's unfinished resources; `untagged` are the names that only Packer 1.6 leaves untagged."""
        cleanup = leftovers.remove(self._session.aws, run_id, untagged)
        if cleanup.removed:
            self._session.progress.note(f'removed: {", ".join(cleanup.removed)}')
        if cleanup.left:
            self._session.left.extend(cleanup.left)
            self._session.progress.note(f'left behind, and costing money: {"; ".join(cleanup.left)}')


@dataclass(frozen=True)
class Plan:
    """The stages of a bake, their container image and their source AMI."""

    container: ContainerImage
    source_ami: str
    base: Stage
    app: Stage

    @property
    def stages(self) -> tuple[Stage, Stage]:
        """The stages in their order."""
        return self.base, self.app

    def is_outdated(self, session: Session) -> bool:
        """Return whether the files in the checkout have changed since."""
        return _stages(session, self.source_ami, self.container) != self.stages

    def variables(self, session: Session, stage: Stage) -> dict[str, str | Sequence[str]]:
        """Return the template's variables that both builds have in common."""
        return {
            'region': session.aws.region,
            'source_ami': self.source_ami,
            'version': self.container.version,
            'commit': self.container.commit,
            'build_time': self.container.build_time,
            'input_hash': stage.input_hash,
            'run_id': session.run_id,
            'build_url': session.job_url or 'none',
            'created_by': session.caller,
        }


def _stages(session: Session, source_ami: str, container: ContainerImage) -> tuple[Stage, Stage]:
    return stages(session.root, session.environ, source_ami, container.image_id)


def _engine_tag(output: Path) -> dict[str, str]:
    version = artefacts.version_of(output, artefacts.ENGINE)
    return {amis.ENGINE_TAG: version} if version else {}


def _available(session: Session, ami_id: str) -> bool | None:
    ami = amis.get(session.aws.once, ami_id)
    if ami.state in BROKEN:
        raise ToolFailed(f'{ami_id} is {ami.state} instead of available')
    session.progress.step(f'{ami_id} is {ami.state}')
    return True if ami.state == 'available' else None
