"""The tables as the newest revision leaves them; a test compares them with what the migrations really make."""

from datetime import date

from sqlalchemy import BigInteger, Date, Integer, LargeBinary, SmallInteger, String, Text, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from visitors.database import db

# SQLite keeps an unsigned key of 16 bytes and days as ISO text; both compare in the order that the counting needs.
HASH = Uuid(as_uuid=False).with_variant(LargeBinary(16), 'sqlite')
DAY = Date().with_variant(Text(), 'sqlite')
COUNT = BigInteger().with_variant(Integer(), 'sqlite')


class Visitor(db.Model):
    """One visitor: a keyed hash of the address, how often it came, and the last day it came on."""

    __tablename__ = 'visitors'
    __table_args__ = {'sqlite_with_rowid': False, 'postgresql_with': {'fillfactor': 90}}

    id: Mapped[str] = mapped_column(HASH, primary_key=True)
    visits: Mapped[int] = mapped_column(COUNT, server_default='1')
    last_day: Mapped[date] = mapped_column(DAY)


class Day(db.Model):
    """One shard of one day: its visitors, the new ones among them, and the visitors whose latest day it is."""

    __tablename__ = 'days'
    __table_args__ = {'sqlite_with_rowid': False, 'postgresql_with': {'fillfactor': 50}}

    day: Mapped[date] = mapped_column(DAY, primary_key=True)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    visitors: Mapped[int] = mapped_column(Integer, server_default='0')
    newcomers: Mapped[int] = mapped_column(Integer, server_default='0')
    latest: Mapped[int] = mapped_column(COUNT, server_default='0')


class Original(db.Model):
    """One row of the application that this one replaces; only the import reads it, a later release drops it."""

    __tablename__ = 'visitor'

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    ip: Mapped[str | None] = mapped_column(String(40), unique=True, index=True)
    visits: Mapped[int | None] = mapped_column(Integer)


class ImportedOriginal(db.Model):
    """How many visits of an original row the import has already moved over."""

    __tablename__ = 'imported_originals'

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    visits: Mapped[int] = mapped_column(COUNT)
