"""Queries to systemd and the journal, and the power-off."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from instance import subprocesses
from instance.errors import StepFailed

SECONDS = 15


@dataclass(frozen=True)
class Moments:
    """The moments of power-on, of the start of systemd and of the network, in seconds of the monotonic clock."""

    power_on: float
    userspace: float
    network: float | None

    @classmethod
    def of(cls, manager: Mapping[str, str], network: Mapping[str, str], contained: bool) -> 'Moments':
        """Return the moments in systemd's properties; without a network its moment is missing."""
        userspace = _seconds(manager.get('UserspaceTimestampMonotonic')) or 0.0
        # In a container the clock counts from the start of the host's kernel, so systemd's start is the power-on.
        return cls(userspace if contained else 0.0, userspace,
                   _seconds(network.get('ActiveEnterTimestampMonotonic')))


def _seconds(microseconds: str | None) -> float | None:
    return int(microseconds) / 1e6 if microseconds and microseconds.isdecimal() and microseconds != '0' else None


def properties(*names: str, unit: str | None = None) -> dict[str, str]:
    """Return properties of a unit, or of systemd itself; unknown properties are missing."""
    units = [unit] if unit else []
    options = [f'--property={name}' for name in names]
    text = subprocesses.output('systemctl', 'show', *options, *units, seconds=SECONDS)
    return dict(line.split('=', 1) for line in text.splitlines() if '=' in line)


def failed_units() -> list[str]:
    """Return the units that have failed."""
    text = subprocesses.output('systemctl', 'list-units', '--failed', '--plain', '--no-legend', seconds=SECONDS)
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def is_active(unit: str) -> bool:
    """Return whether a unit is active."""
    return properties('ActiveState', unit=unit).get('ActiveState') == 'active'


def has_failed(unit: str) -> bool:
    """Return whether a unit has failed and will not be restarted."""
    return properties('ActiveState', unit=unit).get('ActiveState') == 'failed'


def is_enabled(unit: str) -> bool:
    """Return whether a unit or socket starts at boot."""
    return properties('UnitFileState', unit=unit).get('UnitFileState', '').startswith('enabled')


def power_off() -> None:
    """Begin an orderly power-off, and return without waiting for it."""
    subprocesses.output('systemctl', '--no-block', 'poweroff', seconds=SECONDS)


def moments(root: Path) -> Moments:
    """Return the moments of this boot, by the monotonic clock of the steps."""
    manager = properties('UserspaceTimestampMonotonic')
    network = properties('ActiveEnterTimestampMonotonic', unit='network-online.target')
    return Moments.of(manager, network, contained=(root / 'run/systemd/container').exists())


def last_lines(unit: str) -> str:
    """Return the last lines of a unit's processes in the journal."""
    command = ('journalctl', '--quiet', '--no-pager', '--lines=2', '--output=cat', f'_SYSTEMD_UNIT={unit}')
    try:
        lines = subprocesses.output(*command, seconds=SECONDS).splitlines()
    except StepFailed as error:
        return error.message
    return '; '.join(line.strip() for line in lines if line.strip()) or 'no output'
