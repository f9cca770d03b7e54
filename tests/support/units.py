"""The systemd units of an instance, as files that tests read."""

from pathlib import Path
import re

from tests.support.server import ROOT

FILES = ROOT / 'packer/ansible/roles/application/files'
FOLDER = FILES / 'etc/systemd/system'
UNITS = sorted(path.name for path in FOLDER.iterdir() if path.is_file())
SERVICES = [name for name in UNITS if name.endswith('.service')]
STEP = '/usr/bin/python3 -m instance '
SECONDS = {'': 1, 's': 1, 'min': 60}


class Settings:
    """The settings of a unit or drop-in; a key that is set several times has several values."""

    def __init__(self, path: Path) -> None:
        """Read the file."""
        self.name = path.name
        self.text = path.read_text(encoding='utf-8')
        pairs = [line.split('=', 1) for line in self.text.splitlines() if '=' in line and not line.startswith('#')]
        self._values: dict[str, list[str]] = {}
        for key, value in pairs:
            self._values.setdefault(key, []).append(value)

    def words(self, key: str) -> list[str]:
        """Return the values of a key, split at spaces."""
        return [word for value in self._values.get(key, []) for word in value.split()]

    def line(self, key: str) -> str:
        """Return the only value of a key, an empty text if it is missing."""
        values = self._values.get(key, [])
        assert len(values) < 2, f'{self.name} sets {key} several times'
        return values[0] if values else ''

    def seconds(self, key: str) -> float:
        """Return the value of a key in seconds."""
        match = re.fullmatch(r'(\d+)(s|min)?', self.line(key))
        assert match, f'{self.name}: {key}={self.line(key)}'
        return int(match[1]) * SECONDS[match[2] or '']

    @property
    def commands(self) -> list[str]:
        """The commands that a service starts with and stops with."""
        return [*self._values.get('ExecStart', []), *self._values.get('ExecStop', [])]

    @property
    def steps(self) -> list[str]:
        """The steps that a service runs."""
        return [command.removeprefix(STEP) for command in self.commands]


def unit(name: str) -> Settings:
    """Return the settings of a unit."""
    return Settings(FOLDER / name)


def drop_in(name: str) -> Settings:
    """Return the settings of a drop-in, by its path below the folder of the units."""
    return Settings(FOLDER / name)
