"""The status of a group on one screen: capacity, refresh, instances with their releases, alarms, newest rolls."""

from dataclasses import dataclass
from datetime import datetime, timezone

from release import group, rolls
from release.artefacts import Store
from release.aws import Aws
from release.columns import in_columns
from release.group import Group, RINGING
from release.listing import age
from release.rolls import Roll

ROLLS = 3
CLEAR = '\x1b[H\x1b[2J'
INSTANCES = ('INSTANCE', 'RELEASE', 'VERSION', 'STATE')
HEAD = ('ROLL', 'FROM', 'TO', 'RESULT', 'SECONDS', 'BY')


@dataclass(frozen=True)
class Status:
    """The status. --json prints it by these names."""

    group: Group
    rolls: tuple[Roll, ...]

    def shown(self, now: datetime) -> str:
        """Return it for people."""
        parts = [self._capacity(), *self._refresh(now), '', self._instances(), '', *self._alarms(), '', *self._rolls()]
        return '\n'.join(parts)

    def _capacity(self) -> str:
        it = self.group
        return (f'{it.name}: {len(it.instances)} instances, desired {it.desired} of {it.smallest} to {it.largest}; '
                f'new ones start {it.version}')

    def _refresh(self, now: datetime) -> list[str]:
        if not self.group.refreshes:
            return ['no refresh yet']
        newest = self.group.refreshes[0]
        began = f', started {age(int((now - newest.started).total_seconds()))} ago' if newest.started else ''
        reason = f': {newest.reason}' if newest.reason else ''
        return [f'refresh {newest.id}: {newest.status} {newest.percentage} % to {newest.target}{began}{reason}']

    def _instances(self) -> str:
        rows = [(each.id, each.version.release or each.version.ami or '-', each.version.number or '-', each.shown)
                for each in self.group.instances]
        return in_columns([INSTANCES, *rows])

    def _alarms(self) -> list[str]:
        ringing = [alarm for alarm in self.group.alarms if alarm.state == RINGING]
        rest = f'{len(self.group.alarms) - len(ringing)} alarms are quiet'
        return [*(f'ALARM {alarm.name}: {alarm.reason}' for alarm in ringing), rest]

    def _rolls(self) -> list[str]:
        if not self.rolls:
            return ['no record of a roll']
        rows = [(roll.started, roll.before, roll.after, roll.result, f'{roll.seconds:.0f}', roll.who)
                for roll in self.rolls]
        return [in_columns([HEAD, *rows])]


def read(aws: Aws, store: Store, name: str) -> Status:
    """Return the status of a group."""
    return Status(group.read(aws, name), tuple(rolls.newest(store, name, ROLLS)))


def screen(status: Status, is_terminal: bool) -> str:
    """Return the text that replaces the screen of a terminal; elsewhere one status follows the other."""
    now = datetime.now(timezone.utc)
    return f'{CLEAR if is_terminal else ""}{now:%Y-%m-%d %H:%M:%S} UTC\n{status.shown(now)}\n'
