"""Copies of the newest schema: one empty database of each kind is brought up, and the next ones get a copy of it.

`flask schema ready` takes ten times as long as a copy, and a thousand tests need a database with the schema.
"""

from pathlib import Path
import subprocess

from tests.support.postgresql import execute, newest_binaries, value

# No table, sequence or view: a test that makes some tests the application's treatment of them.
EMPTY = "SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace)"
DUMP = ('--no-owner', '--inserts', '--dbname')
POSTGRESQL, SQLITE = 'postgresql://', 'sqlite:///'


class SchemaCopies:
    """The content of a database that was empty and was brought up, by the kind of database."""

    def __init__(self) -> None:
        """Begin without any."""
        self._statements = ''
        self._file = b''

    def put(self, url: str) -> bool:
        """Copy the schema into an empty database and return True; return False while no copy exists."""
        if url.startswith(SQLITE) and self._file:
            file = Path(url.removeprefix(SQLITE))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self._file)
            return True
        if url.startswith(POSTGRESQL) and self._statements:
            execute(url, self._statements)
            return True
        return False

    def keep(self, url: str) -> None:
        """Keep the content of a database that was empty and was just brought up."""
        if url.startswith(SQLITE):
            self._file = Path(url.removeprefix(SQLITE)).read_bytes()
        elif url.startswith(POSTGRESQL):
            command = [str(newest_binaries() / 'pg_dump'), *DUMP, url]
            dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            # pg_dump's own words to psql are no SQL.
            self._statements = '\n'.join(line for line in dump.splitlines() if not line.startswith('\\'))


def is_empty(url: str) -> bool:
    """Return whether a database is empty and a copy may go there: a parameter of its URL may name another schema."""
    if '?' in url:
        return False
    if url.startswith(SQLITE):
        return not Path(url.removeprefix(SQLITE)).exists()
    return url.startswith(POSTGRESQL) and bool(value(url, EMPTY))
