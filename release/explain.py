"""The differences between the inputs of a stage and those of an existing AMI, for `bake --explain`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from release import amis, artefacts, input_hash
from release.amis import Ami
from release.artefacts import inputs_of, Store
from release.aws import Aws
from release.errors import ReleaseError
from release.input_hash import Stage


@dataclass(frozen=True)
class Change:
    """One input that differs between two AMIs."""

    name: str
    kind: str

    def __str__(self) -> str:
        """Return a line for people."""
        return f'{self.kind:8} {self.name}'


@dataclass(frozen=True)
class Difference:
    """The changes of a stage's inputs against those of an existing AMI; without an AMI there are no changes."""

    against: Ami | None
    runs: bool
    changes: Sequence[Change]

    def __str__(self) -> str:
        """Return lines for people."""
        if not self.against:
            return 'there is no AMI to compare with'
        rank = 'running' if self.runs else 'newest'
        engine = f', {artefacts.ENGINE} {self.against.engine}' if self.against.engine else ''
        ami = f'{self.against.id} ({self.against.version or self.against.stage}, {rank}{engine})'
        if not self.changes:
            return f'the same inputs as {ami}'
        return '\n'.join([f'against {ami}:', *(f'  {change}' for change in self.changes)])


def difference(aws: Aws, store: Store, stage: Stage) -> Difference:
    """Return how a stage differs from the AMI that runs, or else from the newest one."""
    candidates = [ami for ami in amis.of_stage(aws, stage.name) if ami.is_committed]
    running = _running(aws, candidates)
    against = running or (candidates[0] if candidates else None)
    if against is None:
        return Difference(None, False, ())
    return Difference(against, running is not None, compare(against, _stored_inputs(store, against), stage.inputs))


def compare(against: Ami, stored: Mapping[str, str] | None, inputs: Mapping[str, str]) -> list[Change]:
    """Return the differences by file if the AMI's inputs are stored, else by the groups in its tags."""
    if stored is not None:
        return changes(stored, inputs)
    return changes(input_hash.from_tags(against.tags), input_hash.marks(inputs))


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    """Return the differences between two sets of inputs, by name."""
    return [Change(name, _kind(name in before, name in after)) for name in sorted({*before, *after})
            if before.get(name) != after.get(name)]


def _kind(before: bool, after: bool) -> str:
    return 'changed' if before and after else 'new' if after else 'gone'


def _running(aws: Aws, candidates: Sequence[Ami]) -> Ami | None:
    by_id = {ami.id: ami for ami in candidates}
    return next((by_id[ami_id] for ami_id in amis.in_groups(aws) if ami_id in by_id), None) if candidates else None


def _stored_inputs(store: Store, ami: Ami) -> Mapping[str, str] | None:
    try:
        return inputs_of(store, ami.id)
    except ReleaseError:
        return None  # the AMI's tags are coarser, but suffice; an explanation is no reason to fail
