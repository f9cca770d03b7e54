"""The tables as the newest revision leaves them; a test compares them with what the migrations really make."""

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger, CheckConstraint, Column, Date, Integer, LargeBinary, SmallInteger, String, Table, Text, Uuid,
)

db = SQLAlchemy()

# SQLite keeps the hash as 16 bytes and a day as ISO text; both compare in the order that the counting needs.
HASH = Uuid(as_uuid=False).with_variant(LargeBinary(16), 'sqlite')
DAY = Date().with_variant(Text(), 'sqlite')
COUNT = BigInteger().with_variant(Integer(), 'sqlite')

# One visitor: a keyed hash of the address, how often it came, the last day it came on, and the day on which visits of
# the replaced application were last added to it, if they were.
visitors = Table(
    'visitors', db.metadata,
    Column('id', HASH, primary_key=True),
    Column('visits', COUNT, nullable=False, server_default='1'),
    Column('last_day', DAY, nullable=False),
    Column('imported_on', DAY, nullable=True),
)

# One shard of one day: its visitors, the new ones among them, and the visitors whose latest day it is.
days = Table(
    'days', db.metadata,
    Column('day', DAY, primary_key=True),
    Column('shard', SmallInteger, primary_key=True, autoincrement=False),
    Column('visitors', Integer, nullable=False, server_default='0'),
    Column('newcomers', Integer, nullable=False, server_default='0'),
    Column('latest', COUNT, nullable=False, server_default='0'),
)

# One row of the application that this one replaces; only the import reads it, a later release drops it.
original = Table(
    'visitor', db.metadata,
    Column('id', Integer, primary_key=True),
    Column('ip', String(40), unique=True, index=True),
    Column('visits', Integer),
)

# The time zone in which the days of this database are counted, in its only row; none before the first counted visit.
calendar = Table(
    'calendar', db.metadata,
    Column('id', SmallInteger, CheckConstraint('id = 1', name='calendar_has_one_row'), primary_key=True,
           autoincrement=False),
    Column('time_zone', Text, nullable=False),
)

# How many visits of an original row the import has already moved over.
imported_originals = Table(
    'imported_originals', db.metadata,
    Column('id', Integer, primary_key=True, autoincrement=False),
    Column('visits', COUNT, nullable=False),
)
