"""The invariants of the counts, and the violations of them."""

from datetime import date

from sqlalchemy import Connection, text

from visitors.days import FORGOTTEN, NEVER
from visitors.statistics import FOLDED

BUCKETS = text("""
SELECT CAST(day AS text), CAST(sum(visitors) AS bigint), CAST(sum(newcomers) AS bigint), CAST(sum(latest) AS bigint)
FROM days GROUP BY day ORDER BY day
""")
VISITORS = text("""
SELECT CAST(last_day AS text), count(*), CAST(sum(CASE WHEN visits < 1 THEN 1 ELSE 0 END) AS bigint)
FROM visitors GROUP BY last_day ORDER BY last_day
""")

VERSIONS = text("""
SELECT CAST(day AS text), count(*) FROM day_versions GROUP BY day HAVING count(*) > 1 ORDER BY day
""")
UNREAD = text(f"""
SELECT (SELECT count(*) FROM day_moves WHERE number <= {FOLDED}), (SELECT count(*) FROM ONLY days)
""")


def differences(connection: Connection) -> list[str]:
    """Return a sentence for each violated invariant of the counting model; an empty list if the counts are right.

    Both queries must see the same moment: call it in one transaction that is at least REPEATABLE READ.
    """
    days = {date.fromisoformat(day): tuple(numbers) for day, *numbers in connection.execute(BUCKETS)}
    visitors = {date.fromisoformat(day): tuple(numbers) for day, *numbers in connection.execute(VISITORS)}
    violations = [*_sums(days, visitors), *_by_day(days, visitors)]
    return violations + _unread(connection) if connection.dialect.name == 'postgresql' else violations


def _unread(connection: Connection) -> list[str]:
    """Return a sentence for counts that statistics do not read, as they read newest versions and later moves."""
    violations = [f'{day}: {number} versions instead of 1' for day, number in connection.execute(VERSIONS)]
    folded, outside = connection.execute(UNREAD).one()
    if folded:
        violations.append(f'{folded} moves have numbers that are folded already')
    if outside:
        violations.append(f'{outside} rows of days are neither versions nor moves')
    return violations


def _sums(days: dict[date, tuple[int, ...]], visitors: dict[date, tuple[int, ...]]) -> list[str]:
    violations = []
    balance = sum(latest for _, _, latest in days.values())
    total = -days.get(NEVER, (0, 0, 0))[2]
    newcomers = sum(number for _, number, _ in days.values())
    kept = sum(number for number, _ in visitors.values()) + days.get(FORGOTTEN, (0, 0, 0))[2]
    if balance:
        violations.append(f'the buckets of all days add up to {balance} instead of 0')
    if newcomers != total:
        violations.append(f'newcomers of all days are {newcomers}, the total is {total}')
    if kept != total:
        violations.append(f'visitors kept and purged are {kept}, the total is {total}')
    return violations


def _by_day(days: dict[date, tuple[int, ...]], visitors: dict[date, tuple[int, ...]]) -> list[str]:
    violations = []
    for day in sorted((days.keys() | visitors.keys()) - {NEVER, FORGOTTEN}):
        seen, new, latest = days.get(day, (0, 0, 0))
        stored, without_visits = visitors.get(day, (0, 0))
        if stored != latest:
            violations.append(f'{day}: {stored} visitors came last on this day, its bucket holds {latest}')
        if not 0 <= new <= seen or not 0 <= latest <= seen:
            violations.append(f'{day}: {seen} visitors, {new} of them new and {latest} not seen since, cannot be')
        if without_visits:
            violations.append(f'{day}: {without_visits} visitors have less than one visit')
    return violations
