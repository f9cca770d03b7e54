"""Today by the database's clock, in the owner's time zone, which the first counted visit fixes."""

from datetime import date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import psycopg2
from sqlalchemy import Connection, Engine

from visitors.database_errors import DatabaseUnavailable
from visitors.settings import is_embedded

NEVER = date(1, 1, 1)  # newcomers come from this day: its count holds minus the number of visitors
FORGOTTEN = date(1, 1, 2)  # forgotten visitors move to this day, so that the counts of all days still add up to 0
IMPORTED = date(1970, 1, 1)  # the latest day of imported visitors, because the replaced application recorded no days
CHART_DAYS = 30

TABLE = 'calendar'
# Before this table existed, all days were in UTC. 1970-01-01 stands for the unknown day of imported visitors.
FIXED = """
SELECT coalesce((SELECT time_zone FROM calendar),
                CASE WHEN EXISTS (SELECT 1 FROM days WHERE day > '1970-01-01') THEN 'UTC' END)
"""
FIX = "INSERT INTO calendar (id, time_zone) VALUES (1, '{zone}') ON CONFLICT (id) DO NOTHING"


def server_today(zone: str) -> str:
    """Return the SQL of a server's expression for today in a time zone."""
    return f"CAST(now() AT TIME ZONE '{zone}' AS date)"


class OtherTimeZone(DatabaseUnavailable):
    """The error of a database that counts in another time zone than TIME_ZONE, or does not know that one."""


class _Look(NamedTuple):
    """Whether a database's time zone is fixed, and the problem if it cannot count in ours."""

    is_fixed: bool
    problem: str | None = None


class Calendar:
    """The calendar of one time zone, for counting in one database.

    A server's days come from its own clock, so instances with wrong or different clocks write the same days. A file
    has no other clock than this machine's.
    """

    def __init__(self, zone: ZoneInfo, bind: Engine | Connection) -> None:
        """Store the time zone and the kind of the database."""
        self.zone = zone
        self._embedded = is_embedded(bind.engine.url)

    @property
    def today_of_server(self) -> str:
        """The SQL of a server's expression for today."""
        return server_today(self.zone.key)

    def today(self) -> date:
        """Return the day by this machine's clock."""
        return datetime.now(self.zone).date()

    def day(self, connection: Connection) -> date:
        """Return the day by the database's clock."""
        if self._embedded:
            return self.today()
        day: date = connection.exec_driver_sql(f'SELECT {self.today_of_server}').scalar_one()
        return day

    def problem(self, cursor: Any) -> str | None:
        """Return the reason why this database cannot count in this time zone, or None if it can."""
        return self._look(cursor).problem

    def check(self, cursor: Any) -> bool:
        """Return whether the time zone is fixed; raise OtherTimeZone if the database cannot count in this one."""
        look = self._look(cursor)
        if look.problem:
            raise OtherTimeZone(look.problem)
        return look.is_fixed

    def fix(self, cursor: Any) -> bool:
        """Fix the time zone, unless it is fixed already, and return True; raise OtherTimeZone as `check` does."""
        if self.check(cursor):
            return True
        # Of several first visits at the same time, the first one that commits decides for all.
        cursor.execute(FIX.format(zone=self.zone.key))
        return self.check(cursor)

    def _look(self, cursor: Any) -> _Look:
        try:
            # The same statement reads the server's day, so a time zone that it does not know fails here.
            cursor.execute(FIXED if self._embedded else f'{FIXED.rstrip()}, {self.today_of_server}')
        except psycopg2.DataError:
            return _Look(False, f'TIME_ZONE={self.zone.key}: the database server does not know this time zone; use '
                                'another name for it, or update its time zone data')
        ((fixed, *_),) = cursor.fetchall()
        if fixed in (None, self.zone.key):
            return _Look(fixed is not None)
        return _Look(True, f'TIME_ZONE={self.zone.key}, but this database counts its days in {fixed} since its first '
                           f'visit; set TIME_ZONE={fixed}, or start with a new database')
