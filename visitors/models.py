"""The tables of the newest revision; a test compares them with the tables that the migrations make."""

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger, CheckConstraint, Column, Date, Integer, LargeBinary, SmallInteger, String, Table, Text, Uuid,
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

# One shard of one day: its visitors, the new ones among them, and those whose latest day it is.
days = Table(
    'days', db.metadata,
    Column('day', DAY, primary_key=True),
    Column('shard', SmallInteger, primary_key=True, autoincrement=False),
    Column('visitors', Integer, nullable=False, server_default='0'),
    Column('newcomers', Integer, nullable=False, server_default='0'),
    Column('latest', COUNT, nullable=False, server_default='0'),
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
