"""The records of rolls, beside the artefacts of the AMIs: who rolled which release to which group, and the result."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
import json

from release.artefacts import Store
from release.errors import NotReady

FOLDER = 'rolls'  # no AMI has such an id


@dataclass(frozen=True)
class Roll:
    """The record of one roll. Its file and --json hold it by these names."""

    run: str
    group: str
    who: str
    refresh: str
    before: str
    after: str
    started: str
    seconds: float
    result: str
    exit_code: int
    reason: str = ''
    phases: Mapping[str, float] = field(default_factory=dict)


def keep(store: Store, roll: Roll) -> str:
    """Store a record, and return its place; a later record of the same run replaces it."""
    name = f'{roll.group}/{roll.run}.json'
    store.put(FOLDER, name, json.dumps(asdict(roll), indent=2).encode())
    return store.place(FOLDER, name)


def newest(store: Store, group: str, count: int) -> list[Roll]:
    """Return the newest records of a group, the newest first; the ids of runs sort by time."""
    names = sorted((name for name in store.names(FOLDER) if name.startswith(f'{group}/')), reverse=True)
    return [_read(store, name) for name in names[:count]]


def _read(store: Store, name: str) -> Roll:
    try:
        return Roll(**json.loads(store.get(FOLDER, name) or b''))
    except (TypeError, ValueError) as error:
        raise NotReady(f'{store.place(FOLDER, name)} is no record of a roll: {error}') from None
