"""What systemd knows of this machine, and the way to turn it off."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from instance import subprocesses
from instance.errors import StepFailed

SECONDS = 15


@dataclass(frozen=True)
class Moments:
    """When the power came on, systemd started and the network was there, in seconds of the monotonic clock."""

    power_on: float
    userspace: float
    network: float | None

    @classmethod
    def of(cls, manager: Mapping[str, str], network: Mapping[str, str], contained: bool) -> 'Moments':
        """Return the moments that systemd's properties tell; a network that is not there has none."""
        userspace = _seconds(manager.get('UserspaceTimestampMonotonic')) or 0.0
        # In a container the clock counts from the start of somebody else's kernel.
        return cls(userspace if contained else 0.0, userspace,
                   _seconds(network.get('ActiveEnterTimestampMonotonic')))


def _seconds(microseconds: str | None) -> float | None:
    return int(microseconds) / 1e6 if microseconds and microseconds.isdecimal() and microseconds != '0' else None


def properties(*names: str, unit: str | None = None) -> dict[str, str]:
    """Return properties of a unit, or of systemd itself; those that it does not know are left out."""
    units = [unit] if unit else []
    options = [f'--property={name}' for name in names]
    shown = subprocesses.output('systemctl', 'show', *options, *units, seconds=SECONDS)
    return dict(line.split('=', 1) for line in shown.splitlines() if '=' in line)


def failed_units() -> list[str]:
    """Return the units that have failed."""
    listed = subprocesses.output('systemctl', 'list-units', '--failed', '--plain', '--no-legend', seconds=SECONDS)
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def is_active(unit: str) -> bool:
    """Return whether a unit is active."""
    return properties('ActiveState', unit=unit).get('ActiveState') == 'active'


def has_failed(unit: str) -> bool:
    """Return whether a unit has failed and is not going to be restarted."""
    return properties('ActiveState', unit=unit).get('ActiveState') == 'failed'


def is_enabled(unit: str) -> bool:
    """Return whether a unit is started with the machine, by itself or as a socket."""
    return properties('UnitFileState', unit=unit).get('UnitFileState', '').startswith('enabled')


def power_off() -> None:
    """Turn this machine off, in order; it goes on meanwhile."""
    subprocesses.output('systemctl', '--no-block', 'poweroff', seconds=SECONDS)


def moments(root: Path) -> Moments:
    """Return when this machine was started, by the clock that steps use as well."""
    manager = properties('UserspaceTimestampMonotonic')
    network = properties('ActiveEnterTimestampMonotonic', unit='network-online.target')
    return Moments.of(manager, network, contained=(root / 'run/systemd/container').exists())


def last_words(unit: str) -> str:
    """Return the last lines that the processes of a unit have written, as far as the journal knows them."""
    command = ('journalctl', '--quiet', '--no-pager', '--lines=2', '--output=cat', f'_SYSTEMD_UNIT={unit}')
    try:
        lines = subprocesses.output(*command, seconds=SECONDS).splitlines()
    except StepFailed as error:
        return error.message
    return '; '.join(line.strip() for line in lines if line.strip()) or 'it said nothing'
