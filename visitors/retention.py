"""Retention: visitors who have not come for a while are forgotten, and every total stays."""

from collections import Counter as Counts
from datetime import date
from typing import Any

from sqlalchemy import Connection, text

from visitors.counting import key_for
from visitors.days import FORGOTTEN
from visitors.settings import is_embedded

BATCH_END = text('SELECT id FROM visitors WHERE id > :after ORDER BY id LIMIT 1 OFFSET :size')
# Any number serves that differs from the schema's leader lock and from the lock of the fold.
PURGE_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('visitors/purge', 0))")
# A visitor is forgotten when the last visit and the last import are both older than the horizon. An older release
# recorded no day of an import; the first purge that meets such a visitor records its own day, and keeps the visitor.
IS_FORGOTTEN = """
(last_day < :horizon AND CASE WHEN imported_on IS NULL THEN last_day <> '1970-01-01' ELSE imported_on < :horizon END)
"""
IS_UNMARKED = "(last_day = '1970-01-01' AND imported_on IS NULL)"
IN_BATCH = 'id > :after AND id <= :until'
# One statement for a batch, because its locks last as long as its transaction. It waits for no visitor's row: a
# visitor who comes at this moment stays.
FORGET_POSTGRESQL = text(f"""
WITH locked AS (
    SELECT id, {IS_UNMARKED} AS is_unmarked FROM visitors
    WHERE {IN_BATCH} AND ({IS_FORGOTTEN} OR {IS_UNMARKED}) FOR UPDATE SKIP LOCKED
), marked AS (
    UPDATE visitors SET imported_on = :day WHERE id IN (SELECT id FROM locked WHERE is_unmarked)
), gone AS (
    DELETE FROM visitors WHERE id IN (SELECT id FROM locked WHERE NOT is_unmarked) RETURNING last_day
), moved AS (
    INSERT INTO days (day, shard, latest)
    SELECT day, 0, sum(latest) FROM (
        SELECT last_day AS day, -1 AS latest FROM gone UNION ALL SELECT '0001-01-02', 1 FROM gone
    ) AS move GROUP BY day
)
SELECT count(*) FROM gone
""")
MARK_SQLITE = text(f'UPDATE visitors SET imported_on = :day WHERE {IN_BATCH} AND {IS_UNMARKED}')
FORGET_SQLITE = text(f'DELETE FROM visitors WHERE {IN_BATCH} AND {IS_FORGOTTEN} RETURNING last_day')
MOVE_SQLITE = text("""
INSERT INTO days (day, shard, latest) VALUES (:day, 0, :moved)
ON CONFLICT (day, shard) DO UPDATE SET latest = days.latest + excluded.latest
""")


def may_purge(connection: Connection) -> bool:
    """Return whether this purge is the only one until its transaction ends; never wait for another one."""
    # A lock of the transaction, because a session may be a pooler's, which would hold the lock for ever. In SQLite the
    # transaction has the only write lock already.
    return is_embedded(connection.engine.url) or bool(connection.scalar(PURGE_LOCK))


def forget_batch(connection: Connection, after: Any, horizon: date, day: date, size: int) -> tuple[int, Any]:
    """Delete, in the open transaction, those of the next visitors in key order who have not come since the horizon.

    The batch starts after a key, or with the first visitor if that is None. Return the number of deleted visitors and
    the key after which the next batch starts, None after the last one. Totals stay, because the visitors move to a day
    of their own. A visitor whose import was recorded without its day counts as imported on the given day.
    """
    key = key_for(connection.dialect.name)
    after = key(bytes(16)) if after is None else after
    until = connection.execute(BATCH_END, {'after': after, 'size': size - 1}).scalar()
    bounds = {'after': after, 'until': until or key(b'\xff' * 16), 'horizon': horizon.isoformat(),
              'day': day.isoformat()}
    if connection.dialect.name == 'postgresql':
        return int(connection.execute(FORGET_POSTGRESQL, bounds).scalar_one()), until
    return _forget_in_file(connection, bounds), until


def _forget_in_file(connection: Connection, bounds: dict[str, Any]) -> int:
    connection.execute(MARK_SQLITE, bounds)
    days = Counts(str(last_day) for last_day, in connection.execute(FORGET_SQLITE, bounds))
    for day, moved in {FORGOTTEN.isoformat(): days.total(), **{day: -days[day] for day in days}}.items():
        connection.execute(MOVE_SQLITE, {'day': day, 'moved': moved})
    return days.total()
