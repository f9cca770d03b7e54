"""The leader lock: its holder may migrate. It is released when the holder's connection closes."""

from dataclasses import dataclass
import hashlib

from sqlalchemy import Connection, text

# The same for ever and for every release, because two releases must exclude each other.
KEY = int.from_bytes(hashlib.sha256(b'visitors/schema-migration/v1').digest()[:8], 'big', signed=True)

# Never the form that waits: a session that waits in a statement holds a snapshot, and CREATE INDEX CONCURRENTLY waits
# for that snapshot while the session waits for the lock.
TRY = text('SELECT pg_try_advisory_lock(:key)')
HOLDER = text("""
    SELECT session.pid, session.application_name AS name,
           round(extract(epoch FROM clock_timestamp() - session.backend_start))::integer AS age
    FROM pg_locks AS held JOIN pg_stat_activity AS session USING (pid)
    WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (held.classid::bigint << 32 | held.objid::bigint) = :key
""")


@dataclass(frozen=True)
class Holder:
    """The session that holds the leader lock."""

    pid: int
    name: str
    age: int | None

    def __str__(self) -> str:
        """Return the session as a log line names it."""
        return f'{self.name} (pid {self.pid}, connected for {self.age} s)'


def try_lock(connection: Connection) -> bool:
    """Return whether this session gets the leader lock, or holds it already."""
    return bool(connection.scalar(TRY, {'key': KEY}))


def read_holder(connection: Connection) -> Holder | None:
    """Return the session that holds the leader lock, if one does."""
    row = connection.execute(HOLDER, {'key': KEY}).one_or_none()
    return Holder(row.pid, row.name, row.age) if row else None
