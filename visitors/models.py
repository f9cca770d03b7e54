"""The tables of the newest revision; a test compares them with the tables that the migrations make."""

from typing import Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger, CheckConstraint, Column, Date, Identity, Integer, LargeBinary, MetaData, PrimaryKeyConstraint,
    SmallInteger, String, Table, Text, Uuid,
)

db = SQLAlchemy()

# SQLite keeps the hash as 16 bytes and a day as ISO text; both compare in the order that counting needs.
HASH = Uuid(as_uuid=False).with_variant(LargeBinary(16), 'sqlite')
DAY = Date().with_variant(Text(), 'sqlite')
COUNT = BigInteger().with_variant(Integer(), 'sqlite')

# One visitor: a keyed hash of the address, the number of visits, the day of the last visit. `imported_on` is the day
# of the last import of visits from the replaced application.
visitors = Table(
    'visitors', db.metadata,
    Column('id', HASH, primary_key=True),
    Column('visits', COUNT, nullable=False, server_default='1'),
    Column('last_day', DAY, nullable=False),
    Column('imported_on', DAY, nullable=True),
)


def counts(is_key: bool) -> list[Column[Any]]:
    """Return the columns that count one day: its visitors, the new ones among them, and those whose latest day it is.

    The shard is a number that older releases needed; it is 0.
    """
    return [
        Column('day', DAY, primary_key=is_key, nullable=False),
        Column('shard', SmallInteger, primary_key=is_key, autoincrement=False, nullable=False),
        Column('visitors', Integer, nullable=False, server_default='0'),
        Column('newcomers', Integer, nullable=False, server_default='0'),
        Column('latest', COUNT, nullable=False, server_default='0'),
    ]


# The counts of the days. On a server it has no row of its own: its rows are those of the two tables that inherit it.
days = Table('days', db.metadata, *counts(is_key=True))

# The tables of a server alone, which the application only reads: the triggers and the fold write them.
counters = MetaData()

# The counts of one day up to a move; a newer version replaces it.
day_versions = Table(
    'day_versions', counters, *counts(is_key=False),
    Column('version', BigInteger, autoincrement=False, nullable=False),
    PrimaryKeyConstraint('day', 'version'),
)

# A change of the counts of one day, appended by the triggers and deleted by the fold that adds it to a version.
day_moves = Table(
    'day_moves', counters, *counts(is_key=False),
    Column('number', BigInteger, Identity(always=True), primary_key=True),
)

# One row of the replaced application; only the import reads it, and a later release drops it.
original = Table(
    'visitor', db.metadata,
    Column('id', Integer, primary_key=True),
    Column('ip', String(40), unique=True, index=True),
    Column('visits', Integer),
)

# The time zone of the days in this database, in its only row; empty before the first counted visit.
calendar = Table(
    'calendar', db.metadata,
    Column('id', SmallInteger, CheckConstraint('id = 1', name='calendar_has_one_row'), primary_key=True,
           autoincrement=False),
    Column('time_zone', Text, nullable=False),
)

# The number of visits that the import has moved from an original row.
imported_originals = Table(
    'imported_originals', db.metadata,
    Column('id', Integer, primary_key=True, autoincrement=False),
    Column('visits', COUNT, nullable=False),
)


def metadata_of(dialect: str) -> MetaData:
    """Return the tables of a database by the name of its dialect."""
    metadata = MetaData()
    for table in (*db.metadata.tables.values(), *(counters.tables.values() if dialect == 'postgresql' else ())):
        table.to_metadata(metadata)
    return metadata
