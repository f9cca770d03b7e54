"""The owner's time zone: the moments of its midnights, the clock that decides, and one zone for each database."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
import sqlite3
import subprocess
import sys
import tempfile
import threading
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import create_engine, make_url, NullPool

from tests.support.clocks import Clock, starting_at
from tests.support.database import application_engine
from tests.support.postgresql import execute, PostgresServer, value
from tests.support.server import bring_up, environment, flask, ROOT, Server
from visitors.counting import Counter
from visitors.days import Calendar, OtherTimeZone
from visitors.settings import Settings

# A day of 23 hours, one of 25, offsets of half hours, an offset that changes by half an hour, the first midnight on
# earth, and a day that a country skipped to change the side of the date line.
MIDNIGHTS = [
    ('UTC', '2026-11-25T00:00', '2026-11-24', '2026-11-25'),
    ('Europe/Berlin', '2026-03-28T23:00', '2026-03-28', '2026-03-29'),
    ('Europe/Berlin', '2026-03-29T22:00', '2026-03-29', '2026-03-30'),
    ('Europe/Berlin', '2026-10-24T22:00', '2026-10-24', '2026-10-25'),
    ('Europe/Berlin', '2026-10-25T23:00', '2026-10-25', '2026-10-26'),
    ('Asia/Kolkata', '2026-11-24T18:30', '2026-11-24', '2026-11-25'),
    ('Australia/Lord_Howe', '2026-04-04T13:00', '2026-04-04', '2026-04-05'),
    ('Australia/Lord_Howe', '2026-04-05T13:30', '2026-04-05', '2026-04-06'),
    ('Pacific/Kiritimati', '2026-11-24T10:00', '2026-11-24', '2026-11-25'),
    ('Pacific/Apia', '2011-12-30T10:00', '2011-12-29', '2011-12-31'),
]
DAYS_OF_THIS_MACHINE = """
import sys
from zoneinfo import ZoneInfo
from sqlalchemy import create_engine
from visitors.days import Calendar

bind = create_engine('sqlite://')
for line in sys.stdin:
    print(Calendar(ZoneInfo(line.strip()), bind).today(), flush=True)
"""


@pytest.fixture(scope='module')
def clock() -> Iterator[Clock]:
    """Give the clock of the module's server."""
    with tempfile.TemporaryDirectory(prefix='visitors-clock-') as folder:
        Path(folder).chmod(0o755)
        yield Clock(Path(folder))


@pytest.fixture(scope='module')
def server(clock: Clock) -> Iterator[PostgresServer]:
    """Give a server whose clock the tests set."""
    server = PostgresServer(variables=clock.variables)
    yield server
    server.remove()


def moments() -> Iterator[tuple[str, datetime, str]]:
    """Give time zone, moment and day for a second before each of the midnights and for the midnight itself."""
    for zone, at, before, after in MIDNIGHTS:
        midnight = datetime.fromisoformat(at).replace(tzinfo=timezone.utc)
        yield zone, midnight - timedelta(seconds=1), before
        yield zone, midnight, after


def test_a_servers_days_change_at_the_owners_midnight(server: PostgresServer, clock: Clock) -> None:
    engine = create_engine(make_url(server.url('postgres')).set(drivername='postgresql+psycopg2'), poolclass=NullPool)
    with engine.connect() as connection:
        for zone, moment, day in moments():
            clock.set(moment)
            connection.rollback()  # a transaction keeps the time of its beginning
            assert str(Calendar(ZoneInfo(zone), engine).day(connection)) == day, (zone, moment)


def test_a_files_days_change_at_the_owners_midnight(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    with subprocess.Popen([sys.executable, '-c', DAYS_OF_THIS_MACHINE], cwd=ROOT, text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, env={**environment('sqlite://'), **clock.variables}) as process:
        assert process.stdin and process.stdout
        for zone, moment, day in moments():
            clock.set(moment)
            process.stdin.write(zone + '\n')
            process.stdin.flush()
            assert process.stdout.readline().strip() == day, (zone, moment)


def test_instances_on_a_file_count_on_the_day_of_the_owners_zone(sqlite_url: str) -> None:
    midnight = datetime(2026, 11, 24, 18, 30, tzinfo=timezone.utc)
    before, after = (starting_at(midnight + timedelta(minutes=minutes)) for minutes in (-30, 30))
    zone = {'TIME_ZONE': 'Asia/Kolkata', 'TRUSTED_PROXIES': '1', 'WORKERS': '1'}
    bring_up(sqlite_url)
    with Server(sqlite_url, **zone, **before) as one, Server(sqlite_url, **zone, **after) as two:
        count_over_midnight(one, two, lambda: None)


def test_instances_count_on_the_servers_day_in_the_owners_zone_whatever_their_own_clocks_say(
        server: PostgresServer, clock: Clock) -> None:
    url = bring_up(server.create_database())
    midnight = datetime(2026, 11, 24, 18, 30, tzinfo=timezone.utc)
    clock.set(midnight - timedelta(seconds=1))
    ahead, behind = (starting_at(datetime(year, 11, 30, tzinfo=timezone.utc)) for year in (2031, 2020))
    zone = {'TIME_ZONE': 'Asia/Kolkata', 'TRUSTED_PROXIES': '1', 'WORKERS': '1'}
    with Server(url, **zone, **ahead) as one, Server(url, **zone, **behind) as two:
        count_over_midnight(one, two, lambda: clock.set(midnight))
    assert str(value(url, 'SELECT max(day) FROM days')) == '2026-11-25'
    # A purge is by the same clock: in 2031 all of these would be due.
    purged = flask(url, 'purge', '--older-than', '30', timeout=60, TIME_ZONE='Asia/Kolkata', **ahead)
    assert purged.stdout.startswith('forgot 0 visitors'), purged.stderr


def count_over_midnight(before: Server, after: Server, let_midnight_pass: Callable[[], None]) -> None:
    """Let three come before midnight in India, and one of them and another one after it; check the statistics."""
    for number in range(3):
        before.visits(X_Forwarded_For=f'198.51.100.{number}')
    first = before.statistics()
    assert (first['time_zone'], first['as_of'][:10], first['as_of'][-6:]) == ('Asia/Kolkata', '2026-11-24', '+05:30')
    assert (first['today'], first['days'][-1]['day'], first['since']) == (3, '2026-11-24', '2026-11-24')
    let_midnight_pass()
    assert after.visits(X_Forwarded_For='198.51.100.0') == 2
    assert after.visits(X_Forwarded_For='198.51.100.9') == 1
    second = after.statistics()
    assert (second['as_of'][:10], second['today'], second['last_7_days'], second['total']) == ('2026-11-25', 2, 4, 4)
    assert second['days'][-1] == {'day': '2026-11-25', 'visitors': 2, 'newcomers': 1}


def counter(url: str, zone: str) -> Counter:
    return Counter(application_engine(url), zone=ZoneInfo(zone))


def test_the_first_counted_visit_fixes_the_time_zone_and_nothing_before_it(database_url: str) -> None:
    bring_up(database_url)
    assert counter(database_url, 'Europe/Berlin').statistics().time_zone == 'Europe/Berlin'
    assert counter(database_url, 'Asia/Kolkata').visit(b'v' * 16).visits == 1
    for act in (lambda other: other.statistics(), lambda other: other.visit(b'w' * 16)):
        with pytest.raises(OtherTimeZone, match='TIME_ZONE=Europe/Berlin, but this database counts its days in '
                                                'Asia/Kolkata since its first visit; set TIME_ZONE=Asia/Kolkata, or'):
            act(counter(database_url, 'Europe/Berlin'))
    assert counter(database_url, 'Asia/Kolkata').statistics().total == 1


def test_a_database_in_which_an_older_release_has_counted_is_in_utc(database_url: str) -> None:
    bring_up(database_url)
    name = f"{'x' if database_url.startswith('sqlite') else ''}'0123456789abcdef0123456789abcdef'"
    run(database_url, f"INSERT INTO visitors (id, last_day) VALUES ({name}, '1970-01-01')")
    assert counter(database_url, 'Asia/Kolkata').statistics().total == 1, 'an import is no counted visit'
    run(database_url, f"UPDATE visitors SET last_day = '2026-11-24' WHERE id = {name}")
    with pytest.raises(OtherTimeZone, match='in UTC since its first visit; set TIME_ZONE=UTC'):
        counter(database_url, 'Asia/Kolkata').visit(b'v' * 16)
    assert counter(database_url, 'UTC').visit(b'v' * 16).visits == 1


def run(url: str, statement: str) -> None:
    if url.startswith('sqlite'):
        with closing(sqlite3.connect(url.removeprefix('sqlite:///'))) as connection:
            connection.execute(statement)
            connection.commit()
    else:
        execute(url, statement)


def test_of_instances_that_differ_in_their_first_visits_at_once_one_zone_wins(database_url: str) -> None:
    bring_up(database_url)
    zones = ['Europe/Berlin', 'Asia/Kolkata', 'Pacific/Apia', 'UTC'] * 2
    start = threading.Barrier(len(zones))

    def first_visit(zone: str) -> bool:
        own = counter(database_url, zone)
        start.wait(60)
        try:
            return own.visit(zone.encode()[:16].ljust(16)).visits > 0
        except OtherTimeZone:
            return False

    with ThreadPoolExecutor(len(zones)) as pool:
        won = {zone for zone, counted in zip(zones, pool.map(first_visit, zones)) if counted}
    assert len(won) == 1
    assert counter(database_url, won.pop()).statistics().total == 1


def test_another_zone_is_refused_at_the_start_and_by_readiness_with_both_names_and_what_to_do(
        database_url: str) -> None:
    counter(bring_up(database_url), 'Asia/Kolkata').visit(b'v' * 16)
    says = ('TIME_ZONE=Europe/Berlin, but this database counts its days in Asia/Kolkata since its first visit; '
            'set TIME_ZONE=Asia/Kolkata, or start with a new database')
    result = flask(database_url, 'schema', 'ready', TIME_ZONE='Europe/Berlin')
    assert result.returncode == 23
    assert says in result.stderr
    assert 'Traceback' not in result.stderr
    with Server(database_url, TIME_ZONE='Europe/Berlin', WORKERS='1') as server:
        answer = server.get('/readyz')
        assert (answer.status_code, answer.json()['reason']) == (503, says)
        assert server.get('/').status_code == 503
    assert flask(database_url, 'schema', 'ready', TIME_ZONE='Asia/Kolkata').returncode == 0


def test_a_zone_that_the_server_does_not_know_is_refused_by_name(postgresql_url: str) -> None:
    bring_up(postgresql_url)

    class Unknown(ZoneInfo):
        """A time zone that no server knows."""

        key = 'Mars/Olympus'

    with pytest.raises(OtherTimeZone, match='TIME_ZONE=Mars/Olympus: the database server does not know'):
        Counter(application_engine(postgresql_url), zone=Unknown('UTC')).statistics()


@pytest.mark.parametrize('zone', ['UTC', 'Europe/Berlin', 'Asia/Kolkata', 'America/Argentina/Buenos_Aires',
                                  'Etc/GMT+5', 'America/Port-au-Prince'])
def test_time_zones_are_iana_names(zone: str, tmp_path: Path) -> None:
    assert str(Settings.from_environ({'TIME_ZONE': zone}, tmp_path).time_zone) == zone
