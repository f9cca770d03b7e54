"""What always holds of the counts, and where it does not."""

from datetime import date

from sqlalchemy import Connection, text

from visitors.counting import FORGOTTEN, NEVER

BUCKETS = text("""
SELECT CAST(day AS text), CAST(sum(visitors) AS bigint), CAST(sum(newcomers) AS bigint), CAST(sum(latest) AS bigint)
FROM days GROUP BY day ORDER BY day
""")
VISITORS = text("""
SELECT CAST(last_day AS text), count(*), CAST(sum(CASE WHEN visits < 1 THEN 1 ELSE 0 END) AS bigint)
FROM visitors GROUP BY last_day ORDER BY last_day
""")


def differences(connection: Connection) -> list[str]:
    """Return a sentence for each invariant of the counting model that does not hold; none when the counts are right.

    Both queries must see the same moment: call it in one transaction that is at least REPEATABLE READ.
    """
    days = {date.fromisoformat(day): tuple(numbers) for day, *numbers in connection.execute(BUCKETS)}
    visitors = {date.fromisoformat(day): tuple(numbers) for day, *numbers in connection.execute(VISITORS)}
    return [*_sums(days, visitors), *_by_day(days, visitors)]


def _sums(days: dict[date, tuple[int, ...]], visitors: dict[date, tuple[int, ...]]) -> list[str]:
    found = []
    balance = sum(latest for _, _, latest in days.values())
    total = -days.get(NEVER, (0, 0, 0))[2]
    newcomers = sum(number for _, number, _ in days.values())
    kept = sum(number for number, _ in visitors.values()) + days.get(FORGOTTEN, (0, 0, 0))[2]
    if balance:
        found.append(f'the buckets of all days add up to {balance} instead of 0')
    if newcomers != total:
        found.append(f'newcomers of all days are {newcomers}, the total is {total}')
    if kept != total:
        found.append(f'visitors kept and purged are {kept}, the total is {total}')
    return found


def _by_day(days: dict[date, tuple[int, ...]], visitors: dict[date, tuple[int, ...]]) -> list[str]:
    found = []
    for day in sorted((days.keys() | visitors.keys()) - {NEVER, FORGOTTEN}):
        seen, new, latest = days.get(day, (0, 0, 0))
        stored, without_visits = visitors.get(day, (0, 0))
        if stored != latest:
            found.append(f'{day}: {stored} visitors came last on this day, its bucket holds {latest}')
        if not 0 <= new <= seen or not 0 <= latest <= seen:
            found.append(f'{day}: {seen} visitors, {new} of them new and {latest} not seen since, cannot be')
        if without_visits:
            found.append(f'{day}: {without_visits} visitors have less than one visit')
    return found
