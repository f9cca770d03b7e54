"""The benchmark measures each ratio that it prints, in a size that takes seconds; no speed is asserted."""

from collections.abc import Iterator
import re
import subprocess
import sys

import pytest

from benchmarks.clients import Clients
from benchmarks.database import Database, make_database
from benchmarks.interference import purges_and_dumps
from benchmarks.pages import ask, CONNECTIONS, NAIVE, PAGE, serving
from benchmarks.rounds import in_turn, Ratio, ratio, Round, Run
from benchmarks.statements import Statement
from tests.support.postgresql import PostgresServer, value
from tests.support.server import ROOT

RATIOS = ['page over bare hello', 'page over naive page', 'visit over bare upsert, clients: 1',
          'visit over bare upsert, clients: 16', 'page over page at 1 000', 'p99 of the page over that at 1 000',
          'compressed page over page']
ROW = re.compile(r'^\| ([a-z 0-9,:]+?) \| ([\d ]+) \| ([\d.]+) \| [\d.]+ to [\d.]+ \|', re.MULTILINE)
VISITS = 'SELECT sum(visits) FROM visitors'


def benchmark(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-m', 'benchmarks', *options], cwd=ROOT, capture_output=True, text=True,
                          timeout=560, check=False)


@pytest.fixture(scope='module')
def database(postgresql: PostgresServer) -> Iterator[Database]:
    """Give a database of which every tenth visitor comes."""
    yield make_database(postgresql, 500, 50)


def test_a_run_ends_with_every_ratio_and_right_counts() -> None:
    done = benchmark('--quick')
    assert done.returncode == 0, done.stderr
    assert 'all counts are still right' in done.stderr
    table = ROW.findall(done.stdout)
    assert {name for name, _, _ in table} >= set(RATIOS)
    assert all(float(figure) > 0 for _, _, figure in table)
    assert re.search(r'^\| unique visitors of 30 days, and of each day \| 2 000 \| [\d.]+ ', done.stdout, re.MULTILINE)
    for disturbance in ('a snapshot is open', 'after the snapshot', 'purges and dumps run'):
        assert re.search(rf'^\| {disturbance} \| [\d.]+ \(', done.stdout, re.MULTILINE)
    assert re.search(r'^\| the same of all days of a year, p99 at \d+ visits a second \| \| [\d.]+ ', done.stdout,
                     re.MULTILINE)
    assert re.search(r'^\| one statement that inserts 10 000 visitors \| 1 000 \| \d+ ', done.stdout, re.MULTILINE)


@pytest.mark.parametrize(('options', 'message'), [
    (['--rounds', '3'], '--rounds 3: use at least 4'),
    (['--seconds', '0'], '--seconds 0: use 1 to 60'),
    (['--rows', '5000'], 'use at least twice --visitors 4000'),
])
def test_a_bad_option_is_named_with_the_accepted_values(options: list[str], message: str) -> None:
    done = benchmark(*options)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_the_load_comes_from_visitors_that_are_in_the_table_already(
        database: Database, postgresql: PostgresServer) -> None:
    before = value(database.url, VISITS)
    with serving('page', PAGE, database, postgresql) as page:
        assert page.http.get('/livez').status_code == 200
        number, _, p99 = ask(page.http.address, database.visitors, database.stride, 3)
    assert p99 > 0
    assert value(database.url, 'SELECT count(*) FROM visitors') == 500
    # wrk leaves off with its last requests on the way: they are counted, and no answer is waited for.
    counted = int(str(value(database.url, VISITS))) - int(str(before))
    assert number <= counted <= number + CONNECTIONS


def test_the_naive_page_finds_the_same_visitors_in_its_own_table(
        database: Database, postgresql: PostgresServer) -> None:
    with serving('naive', NAIVE, database, postgresql) as page:
        ask(page.http.address, database.visitors, database.stride, 1)
        assert re.search(r'You have visited this page \d+ times', page.http.get('/', X_Forwarded_For='10.0.0.0').text)
    assert value(database.url, 'SELECT count(*) FROM visitor') == 500
    assert value(database.url, "SELECT visits FROM visitor WHERE ip = '10.0.0.0'") != 1


def test_a_statement_is_measured_with_the_processor_time_of_its_connections(
        database: Database, postgresql: PostgresServer) -> None:
    run = Statement('visit', 2, database, postgresql).run(2)
    assert run.rate > 0
    assert 0 < run.p99 < 2000
    # Nothing that is parsed, executed and committed takes less, however fast the machine.
    assert run.database > 10


def test_no_other_machine_is_put_under_load(database: Database) -> None:
    with pytest.raises(RuntimeError, match='not on this machine'):
        ask('http://192.0.2.1:80', database.visitors, database.stride, 1)


def test_an_answer_that_is_no_page_ends_the_run(postgresql: PostgresServer) -> None:
    without_schema = Database(postgresql.create_database(), 500, 50)
    with serving('page', PAGE, without_schema, postgresql) as page:
        with pytest.raises(RuntimeError, match='Non-2xx'):
            page.run(1)


def test_a_purge_or_a_dump_that_fails_ends_the_run(postgresql: PostgresServer) -> None:
    without_schema = postgresql.create_database()
    with pytest.raises(RuntimeError, match='a purge or a dump failed'), purges_and_dumps(postgresql, without_schema):
        pass


def test_a_client_whose_visit_fails_ends_the_run() -> None:
    answers = [1, 2, 3]
    with pytest.raises(IndexError):
        Clients(lambda _: answers.pop(), [b''], 0).run(2, 5)


def test_a_ratio_is_the_median_within_rounds_and_not_the_ratio_of_medians() -> None:
    rounds = [Round({'ours': Run(*ours), 'theirs': Run(*theirs)}, 0.0) for ours, theirs in [
        ((10.0, 1, 1), (100.0, 1, 1)), ((90.0, 1, 1), (100.0, 1, 1)), ((20.0, 1, 1), (40.0, 1, 1))]]
    assert ratio(rounds, 'ours', 'theirs') == Ratio(0.5, 0.1, 0.9)


class Noted:
    def __init__(self, name: str, order: list[str]) -> None:
        """Write down when it runs."""
        self.name = name
        self._order = order

    def run(self, _seconds: float) -> Run:
        self._order.append(self.name)
        return Run(1.0, 1.0, 1.0)


def test_cases_run_in_turn_and_every_second_round_goes_backwards() -> None:
    order: list[str] = []
    in_turn([Noted(name, order) for name in 'abc'], 3, 0.0, lambda: 0.0, lambda _: None)
    assert ''.join(order) == 'abccbaabc'
