"""Reads and writes of tests on a database, without the application or with its engine."""

from contextlib import closing
from pathlib import Path
import sqlite3

import psycopg2
from sqlalchemy import create_engine, Engine

from tests.support.postgresql import rows
from tests.support.server import environment, KEY
from visitors.address import client_network, visitor_id
from visitors.engines import engine_options, prepare_engine
from visitors.settings import Settings


class Database:
    """A database of either kind, as a test sees it: by statements of its own."""

    def __init__(self, url: str) -> None:
        """Take the URL of a database."""
        self.url = url
        self.embedded = url.startswith('sqlite')

    def run(self, statement: str, parameters: tuple[object, ...] = ()) -> None:
        """Run a statement that changes something."""
        if self.embedded:
            with closing(sqlite3.connect(self.url.removeprefix('sqlite:///'), timeout=20)) as connection:
                connection.execute(statement.replace('%s', '?'), parameters)
                connection.commit()
        else:
            with closing(psycopg2.connect(self.url)) as connection:
                connection.cursor().execute(statement, parameters or None)
                connection.commit()

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """Return the rows that a query answers."""
        if not self.embedded:
            return rows(self.url, statement)
        with closing(sqlite3.connect(self.url.removeprefix('sqlite:///'), timeout=20)) as connection:
            return list(connection.execute(statement))

    def fill(self, originals: list[tuple[str | None, int | None]]) -> None:
        """Insert visitors as the replaced application kept them: address and number of visits."""
        marks = ', '.join(['(%s, %s)'] * len(originals))
        values = tuple(value for original in originals for value in original)
        self.run(f'INSERT INTO visitor (ip, visits) VALUES {marks}', values)

    def visits_of(self, ip: str) -> int | None:
        """Return the visits of an address, or None if it has never come."""
        network = client_network(ip, '', 0)
        assert network
        name = visitor_id(KEY.encode(), network).hex()
        counts = self.query(f"SELECT visits FROM visitors WHERE {'hex(id)' if self.embedded else 'id::text'} = "
                            f"'{name.upper() if self.embedded else dashed(name)}'")
        return int(str(counts[0][0])) if counts else None

    def total(self) -> int:
        """Return the visits of all visitors."""
        return int(str(self.query('SELECT coalesce(sum(visits), 0) FROM visitors')[0][0]))


def dashed(name: str) -> str:
    """Return a UUID of hexadecimal digits as PostgreSQL writes it."""
    return '-'.join((name[:8], name[8:12], name[12:16], name[16:20], name[20:]))


def application_engine(url: str) -> Engine:
    """Return an engine like the one of a server's process."""
    parsed = Settings.from_environ(environment(url, THREADS='16'), Path('/'))
    made = create_engine(parsed.database_url, **engine_options(parsed))
    prepare_engine(made, parsed)
    return made
