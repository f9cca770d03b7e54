"""The import of the replaced application's counts, while its instances may still be writing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, text

from visitors.address import network_of, parse_address, visitor_id
from visitors.counting import key_for
from visitors.days import Calendar

BATCH = 1000

# Two imports at once would both read the same rows as not yet imported; SQLite's write transaction excludes them.
EXCLUDE_OTHERS = text('LOCK TABLE imported_originals IN SHARE ROW EXCLUSIVE MODE')
# A visit count below 1 (the original's column may be null) is one visit all the same: the row exists.
PENDING = text("""
SELECT visitor.id, visitor.ip, coalesce(visitor.visits, 1), coalesce(imported_originals.visits, 0)
FROM visitor LEFT JOIN imported_originals ON imported_originals.id = visitor.id
WHERE visitor.id > :after ORDER BY visitor.id LIMIT :size
""")
# One statement for a batch where a network may be slow.
REMEMBER = {
    'postgresql': text("""
INSERT INTO imported_originals (id, visits)
SELECT * FROM unnest(CAST(:ids AS integer[]), CAST(:visits AS bigint[]))
ON CONFLICT (id) DO UPDATE SET visits = excluded.visits
"""),
    'sqlite': text("""
INSERT INTO imported_originals (id, visits) VALUES (:id, :visits)
ON CONFLICT (id) DO UPDATE SET visits = excluded.visits
"""),
}
ROWS = text('SELECT count(*) FROM visitor')
# One statement for a batch, because its locks last as long as its transaction. It takes them in the order of the keys,
# as visits do, and only one import runs at a time. The triggers leave imported visitors to this statement.
ADD_POSTGRESQL = text("""
WITH added AS (
    INSERT INTO visitors (id, visits, last_day, imported_on)
    SELECT id, visits, '1970-01-01', :day
    FROM unnest(CAST(:ids AS uuid[]), CAST(:visits AS bigint[])) AS past (id, visits) ORDER BY id
    ON CONFLICT (id) DO UPDATE SET visits = visitors.visits + excluded.visits, imported_on = excluded.imported_on
    RETURNING xmax = 0 AS is_new
), newcomers AS (SELECT CAST(count(*) AS integer) AS number FROM added WHERE is_new)
INSERT INTO days (day, shard, visitors, newcomers, latest)
SELECT moved.day, 0, number * moved.visitors, number * moved.visitors, number * moved.latest
FROM newcomers, (VALUES (date '0001-01-01', 0, -1), (date '1970-01-01', 1, 1)) AS moved (day, visitors, latest)
WHERE number > 0
""")
ADD_SQLITE = text("""
INSERT INTO visitors (id, visits, last_day, imported_on) VALUES (:id, :visits, '1970-01-01', :day)
ON CONFLICT (id) DO UPDATE SET visits = visitors.visits + excluded.visits, imported_on = excluded.imported_on
""")


@dataclass
class Report:
    """The result of an import: rows read, rows and visits moved over by it, rows whose address cannot be read."""

    rows: int = 0
    moved_rows: int = 0
    moved_visits: int = 0
    without_address: int = 0
    visits_without_address: int = 0


def import_original(engine: Engine, key: bytes, zone: ZoneInfo, progress: Callable[[int, int], None],
                    batch: int = BATCH) -> Report:
    """Move the original's visits over in batches and return the result; progress gets (rows read, rows in all).

    Each batch is one transaction that moves the visits and remembers by row how many. So a visit is moved exactly
    once, whether the import is killed, repeated, or run while old instances still count.
    """
    report, calendar = Report(), Calendar(zone, engine)
    with engine.connect() as connection:
        total = int(connection.execute(ROWS).scalar_one())
        connection.rollback()
        last: int | None = 0
        while last is not None:
            with connection.begin():
                day = calendar.day(connection)
                last = _import_batch(connection, key, day, last, batch, report)
            progress(report.rows, max(total, report.rows))
    return report


def _import_batch(connection: Connection, key: bytes, day: date, after: int, size: int,
                  report: Report) -> int | None:
    if connection.dialect.name == 'postgresql':
        connection.execute(EXCLUDE_OTHERS)
    rows = connection.execute(PENDING, {'after': after, 'size': size}).all()
    visits: dict[bytes, int] = {}
    remembered: dict[int, int] = {}
    for number, ip, counted, imported in rows:
        address = parse_address(ip or '')
        if not address:
            report.without_address += 1
            report.visits_without_address += max(counted, 1)
            continue

        missing = max(counted, 1) - imported
        if missing > 0:
            visitor = visitor_id(key, network_of(address))
            visits[visitor] = visits.get(visitor, 0) + missing
            remembered[number] = max(counted, 1)
    _remember(connection, remembered)
    # Last, because visitors are locked from here to the end of the transaction.
    add_visits(connection, visits, day)
    report.rows += len(rows)
    report.moved_rows += len(remembered)
    report.moved_visits += sum(visits.values())
    return int(rows[-1][0]) if len(rows) == size else None


def _remember(connection: Connection, visits: dict[int, int]) -> None:
    if not visits:
        return
    parameters: dict[str, Any] | list[dict[str, Any]] = {'ids': list(visits), 'visits': list(visits.values())}
    if connection.dialect.name == 'sqlite':
        parameters = [{'id': number, 'visits': counted} for number, counted in visits.items()]
    connection.execute(REMEMBER[connection.dialect.name], parameters)


def add_visits(connection: Connection, visits: dict[bytes, int], day: date) -> None:
    """Add visits of unknown days, given by visitor and imported on a day, in the open transaction."""
    key = key_for(connection.dialect.name)
    past = {key(visitor): number for visitor, number in sorted(visits.items())}
    if not past:
        return
    if connection.dialect.name == 'postgresql':
        batch = {'ids': list(past), 'visits': list(past.values()), 'day': day.isoformat()}
        connection.execute(ADD_POSTGRESQL, batch)
        return
    connection.execute(ADD_SQLITE, [{'id': each, 'visits': number, 'day': day.isoformat()}
                                    for each, number in past.items()])
