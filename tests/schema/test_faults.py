"""Faults that the schema survives: leaders killed, frozen and cut off, a crashed server, poolers, locks, misuse."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
import psycopg2
import pytest
from sqlalchemy import Connection, create_engine, make_url, NullPool, text

from tests.support.booting import codes, head, Instances, leaders, logs, sessions, tables, verdict
from tests.support.pooler import pooler
from tests.support.postgresql import execute, PostgresServer, rows, value
from tests.support.revisions import add_revision, has_begun, make_release, once
from tests.support.separate_host import another_host, HERE, THERE
from tests.support.server import environment, flask, ROOT
from tests.support.waiting import eventually, seconds_until
from visitors.schema.errors import SchemaError
from visitors.schema.upgrade import config_for, UPGRADE, Upgrade

IDLE = once("op.execute('SELECT 1')\ntime.sleep(250)")
WAIT = 'SELECT extract(epoch FROM clock_timestamp() - statement_timestamp()) FROM (SELECT count(*) FROM r1) AS counted'
BUSY = once("op.execute('SELECT pg_sleep(100)')")
UNTIL_THAWED = "while not Path(__file__).with_suffix('.thawed').exists():\n    time.sleep(0.02)"
# A line of the server's access file: it admits the host at the other end of the cable.
ADMITTED = f'host all all {HERE}/30 trust'
# An event that is due within seconds takes longer on a busy machine. Without the limits that are tested here it takes
# a minute and more.
MARGIN = 20.0


@pytest.mark.fault(7)
def test_after_a_leader_idle_in_a_transaction_is_killed_the_next_one_finishes(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 3, {'r2': IDLE})
    boots = instances.boot_many(3, postgresql_url, release)
    first = instances.leader()
    eventually(lambda: has_begun(release) and sessions(postgresql_url, 'idle in transaction'), 'the leader sits in r2')

    first.send(signal.SIGKILL)

    took = seconds_until(lambda: len(leaders(boots)) == 2, 'the next one leads')
    assert took < 1 + MARGIN
    assert sorted(codes(boots)) == [-9, 0, 0], logs(boots)
    assert verdict(postgresql_url) == ('succeeded', 2)
    assert head(postgresql_url) == 'r3'


@pytest.mark.fault(8)
def test_nothing_of_a_killed_leaders_statement_is_committed_after_the_next_one_has_begun(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    execute(postgresql_url, 'CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)')
    execute(postgresql_url, "INSERT INTO alembic_version VALUES ('r1')")
    execute(postgresql_url, 'CREATE TABLE traces (who text)')
    # In autocommit mode, where the end of the statement would commit it.
    late = once("""
        with op.get_context().autocommit_block():
            op.execute("INSERT INTO traces SELECT 'the first' FROM pg_sleep(90)")
    """)
    release = make_release(tmp_path / 'new', 3, {'r2': late + "op.execute(\"INSERT INTO traces VALUES ('second')\")"})
    boots = instances.boot_many(3, postgresql_url, release)
    first = instances.leader()
    eventually(lambda: has_begun(release) and sessions(postgresql_url, 'active'), 'the leader is in its statement')
    (backend,) = sessions(postgresql_url, 'active')

    first.send(signal.SIGKILL)

    took = seconds_until(lambda: len(leaders(boots)) == 2, 'the next one leads')
    assert took < 5 + MARGIN
    assert value(postgresql_url, 'SELECT count(*) FROM pg_stat_activity WHERE pid = %s', [backend]) == 0
    assert sorted(codes(boots)) == [-9, 0, 0], logs(boots)
    assert rows(postgresql_url, 'SELECT who FROM traces') == [('second',)]
    assert verdict(postgresql_url) == ('succeeded', 2)


@pytest.mark.fault(9)
def test_after_three_leaders_have_died_no_instance_tries_again(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    boots = instances.boot_many(5, postgresql_url, make_release(tmp_path / 'new', 2, {'r2': 'time.sleep(250)'}))
    for _ in range(3):
        leader = instances.leader()
        eventually(lambda: 'r1' in tables(postgresql_url) and sessions(postgresql_url, 'idle in transaction'),
                   'the leader sits in its last transaction')
        leader.send(signal.SIGKILL)
        leader.ended()

    assert sorted(codes(boots)) == [-9, -9, -9, 20, 20], logs(boots)
    assert 'attempts exhausted' in logs(boots)
    assert verdict(postgresql_url) == ('failed', 3)
    assert head(postgresql_url) == 'r1'


@pytest.mark.fault(10)
def test_a_database_that_crashes_under_the_leader_and_comes_back_gets_its_schema(
        instances: Instances, tmp_path: Path) -> None:
    with closing_server(PostgresServer()) as server:
        url = server.create_database()
        release = make_release(tmp_path / 'new', 3, {'r2': BUSY})
        boots = instances.boot_many(6, url, release)
        eventually(lambda: has_begun(release) and sessions(url, 'active'), 'the leader is in its statement')

        server.stop('immediate')
        time.sleep(4)
        server.start()

        assert codes(boots) == [0] * 6, logs(boots)
        assert verdict(url) == ('succeeded', 2)
        assert head(url) == 'r3'
        assert 'lost the lead' in logs(boots)


@pytest.mark.fault(15)
def test_a_frozen_leader_is_replaced_and_harms_nothing_when_it_thaws(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    execute(postgresql_url, 'CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)')
    execute(postgresql_url, "INSERT INTO alembic_version VALUES ('r1')")
    execute(postgresql_url, 'CREATE TABLE traces (who text)')
    body = once(f"op.execute(\"INSERT INTO traces VALUES ('frozen')\")\n{UNTIL_THAWED}")
    release = make_release(tmp_path / 'new', 3, {'r2': body + "op.execute(\"INSERT INTO traces VALUES ('done')\")"})
    boots = instances.boot_many(3, postgresql_url, release, '--idle-limit', '4')
    frozen = instances.leader()
    eventually(lambda: has_begun(release) and sessions(postgresql_url, 'idle in transaction'), 'the leader sits in r2')

    frozen.send(signal.SIGSTOP)
    took = seconds_until(lambda: len(leaders(boots)) == 2, 'the next one leads')
    others = [boot for boot in boots if boot is not frozen]
    assert codes(others) == [0, 0], logs(boots)
    (release / 'versions' / 'r2.thawed').touch()
    frozen.send(signal.SIGCONT)

    assert took < 4 + MARGIN
    assert frozen.ended() == 0, frozen.text
    assert 'lost the lead' in frozen.text
    assert rows(postgresql_url, 'SELECT who FROM traces') == [('done',)]
    assert verdict(postgresql_url) == ('succeeded', 2)


def test_a_leader_frozen_between_two_transactions_is_replaced_too(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 2, {'r2': "op.execute('ALTER TABLE r1 ADD COLUMN more integer')"})
    instances.bring_up(postgresql_url, make_release(tmp_path / 'old', 1))
    with closing(psycopg2.connect(postgresql_url)) as reader:
        reader.cursor().execute('SELECT * FROM r1')
        frozen = instances.boot(postgresql_url, release, '--idle-limit', '3')
        eventually(lambda: 'try 2 of 10' in frozen.text, 'the leader pauses before its next try')
        frozen.send(signal.SIGSTOP)

    next_one = instances.boot(postgresql_url, release)
    assert next_one.ended() == 0, next_one.text
    frozen.send(signal.SIGCONT)

    assert frozen.ended() == 0, frozen.text
    assert verdict(postgresql_url) == ('succeeded', 2)


@pytest.mark.fault(21)
def test_leaders_on_a_host_that_vanishes_are_replaced_within_25_seconds(instances: Instances, tmp_path: Path) -> None:
    with another_host() as host, closing_server(PostgresServer(HERE, access=[ADMITTED])) as server:
        idle = once(f"op.execute('SELECT 1')\n{UNTIL_THAWED}")
        busy = once("op.execute(\"SET statement_timeout = 0\")\nop.execute('SELECT pg_sleep(250)')")
        cases = [(server.create_database(), make_release(tmp_path / name, 3, {'r2': body}))
                 for name, body in (('idle', idle), ('busy', busy))]
        cut_off = [instances.boot(url, release, prefix=host.prefix) for url, release in cases]
        for (url, release), state in zip(cases, ('idle in transaction', 'active')):
            eventually(lambda: has_begun(release) and sessions(url, state), f'a leader is {state}')
        where = 'SELECT DISTINCT host(client_addr) FROM pg_stat_activity WHERE application_name LIKE %s'
        assert value(cases[0][0], where, ['migrate-leader-%']) == THERE
        waiting = [instances.boot(url, release) for url, release in cases]
        eventually(lambda: logs(waiting).count('waiting for migrate-leader') == 2, 'the others wait')

        host.vanish()
        took = seconds_until(lambda: all(boot.has_led for boot in waiting), 'the others lead')
        assert took < 25 + MARGIN
        assert codes(waiting) == [0, 0], logs(waiting)
        host.come_back()
        (cases[0][1] / 'versions' / 'r2.thawed').touch()

        assert codes(cut_off) == [0, 0], logs(cut_off)
        assert logs(cut_off).count('lost the lead') == 2
        assert [verdict(url) for url, _ in cases] == [('succeeded', 2)] * 2


@pytest.mark.fault(22)
@pytest.mark.parametrize(('ignored', 'says'), [
    ('extra_float_digits', 'unsupported startup parameter'),
    ('options', 'a pooler is in between'),
])
def test_through_a_pooler_nothing_is_locked_and_nothing_changed(
        instances: Instances, postgresql_url: str, tmp_path: Path, ignored: str, says: str) -> None:
    with pooler(postgresql_url, ignored) as pooled_url:
        assert value(pooled_url, 'SELECT 1') == 1, 'the pooler itself does not work'

        boot = instances.boot(pooled_url, make_release(tmp_path / 'new', 2))

        assert boot.ended() == 24, boot.text
    assert says in boot.text
    assert tables(postgresql_url) == set()
    assert value(postgresql_url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


@pytest.mark.fault(23)
def test_no_query_waits_longer_than_a_second_while_a_revision_waits_for_a_long_transaction(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    instances.bring_up(postgresql_url, make_release(tmp_path / 'old', 1))
    release = make_release(tmp_path / 'new', 2, {'r2': "op.execute('ALTER TABLE r1 ADD COLUMN more integer')"})
    with closing(psycopg2.connect(postgresql_url)) as reader, queries(postgresql_url, WAIT) as waits:
        reader.cursor().execute('SELECT id FROM r1')
        boot = instances.boot(postgresql_url, release)
        eventually(lambda: 'try 3 of 10' in boot.text, 'two tries failed')
        reader.rollback()
        outcome = boot.ended()

    assert outcome == 0, boot.text
    assert max(waits) < 1 + 4
    assert max(waits) > 0.5, 'no query ever waited: the test shows nothing'
    assert verdict(postgresql_url) == ('succeeded', 1)


def test_after_ten_tries_for_a_lock_the_deploy_has_failed(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    instances.bring_up(postgresql_url, make_release(tmp_path / 'old', 1))
    # The test shortens the pauses, because they make ten tries last minutes.
    body = "import visitors.schema.leader as leader\nleader.LONGEST_PAUSE = 0.05\nop.execute('LOCK TABLE r1')"
    release = make_release(tmp_path / 'new', 2, {'r2': f"op.execute(\"SET LOCAL lock_timeout = '50ms'\")\n{body}"})
    with closing(psycopg2.connect(postgresql_url)) as reader:
        reader.cursor().execute('SELECT id FROM r1')
        boot = instances.boot(postgresql_url, release)
        outcome = boot.ended()

    assert outcome == 20, boot.text
    assert 'try 10 of 10' in boot.text
    assert verdict(postgresql_url) == ('failed', 1)
    assert 'LockNotAvailable 55P03' in str(value(postgresql_url, 'SELECT error FROM migration_attempt '
                                                                 "WHERE deploy_id = 'deploy-1'"))


@pytest.mark.fault(24)
def test_a_revision_on_another_session_than_the_locks_is_rolled_back(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    # Before the server's own function in the search path, this one returns another session's number, like a pooler.
    release = make_release(tmp_path / 'new', 2, {'r2': """
        op.execute('CREATE SCHEMA elsewhere')
        op.execute('CREATE FUNCTION elsewhere.pg_backend_pid() RETURNS integer LANGUAGE sql AS $$ SELECT -1 $$')
        op.execute('SET LOCAL search_path = elsewhere, pg_catalog, public')
    """})

    boot = instances.boot(postgresql_url, release)

    assert boot.ended() == 20, boot.text
    assert 'the session changed from' in boot.text
    assert head(postgresql_url) == 'r1'
    assert 'r2' not in tables(postgresql_url)
    assert value(postgresql_url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'elsewhere'") == 0


@pytest.mark.fault(25)
def test_alembic_without_the_leader_changes_nothing_and_names_the_command(
        postgresql_url: str, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 2)
    program = ('import sys; from pathlib import Path; from alembic import command; '
               'from visitors.schema.upgrade import config_for; '
               "command.upgrade(config_for(Path(sys.argv[1])), 'head')")

    bare = subprocess.run([sys.executable, '-c', program, str(release)], env=environment(postgresql_url), cwd=ROOT,
                          capture_output=True, text=True, check=False)

    assert bare.returncode != 0
    assert 'use `flask schema ready`' in bare.stderr
    assert tables(postgresql_url) == set()


@pytest.mark.fault(25)
@pytest.mark.parametrize('arguments', [('upgrade', 'r1'), ('upgrade', '+1'), ('stamp', 'head'), ('stamp', '--purge')])
def test_flask_db_goes_to_no_revision_but_the_newest(
        postgresql_url: str, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    name, *rest = arguments
    result = flask(postgresql_url, 'db', name, '--directory', str(make_release(tmp_path / 'new', 2)), *rest)

    assert result.returncode != 0
    assert 'use `flask schema ready`' in result.stderr
    assert tables(postgresql_url) == set()


@pytest.mark.fault(25)
def test_an_upgrade_within_an_open_transaction_is_refused_and_not_silently_undone(
        postgresql_url: str, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 2)
    with connected(postgresql_url) as connection:
        backend = connection.scalar(text('SELECT pg_backend_pid()'))
        assert connection.in_transaction()

        with pytest.raises(CommandError, match='use `flask schema ready`'):
            command.upgrade(config_for(release, **{UPGRADE: Upgrade(connection, 'deploy-1', backend)}), 'head')

    assert tables(postgresql_url) == set()


def test_flask_db_upgrade_is_the_same_as_schema_ready(postgresql_url: str, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 2)

    result = flask(postgresql_url, 'db', 'upgrade', '--directory', str(release), DEPLOY_ID='deploy-1')

    assert result.returncode == 0, result.stderr
    assert 'leading: attempt 1 of deploy deploy-1' in result.stderr
    assert verdict(postgresql_url) == ('succeeded', 1)
    assert head(postgresql_url) == 'r2'


def test_flask_db_upgrade_ends_with_the_exit_code_of_the_verdict(postgresql_url: str, tmp_path: Path) -> None:
    broken = make_release(tmp_path / 'broken', 1, {'r1': 'raise RuntimeError("no")'})
    foreign = make_release(tmp_path / 'foreign', 1, prefix='x')
    flask(postgresql_url, 'db', 'upgrade', '--directory', str(make_release(tmp_path / 'old', 1, prefix='y')))

    assert flask(postgresql_url, 'db', 'upgrade', '--directory', str(foreign)).returncode == 22
    execute(postgresql_url, 'DROP TABLE alembic_version, y1')
    assert flask(postgresql_url, 'db', 'upgrade', '--directory', str(broken)).returncode == 20


def test_flask_db_upgrade_refuses_two_heads_with_the_same_exit_code(postgresql_url: str, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 2)
    add_revision(release, 'x2', 'r1', '')

    result = flask(postgresql_url, 'db', 'upgrade', '--directory', str(release))

    assert result.returncode == 22, result.stderr
    assert tables(postgresql_url) == set()


@pytest.mark.fault(26)
def test_a_downgrade_is_refused_and_changes_nothing(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 2)
    instances.bring_up(postgresql_url, release)

    result = flask(postgresql_url, 'db', 'downgrade', '--directory', str(release))

    assert result.returncode != 0
    assert 'use `flask schema ready`' in result.stderr
    assert head(postgresql_url) == 'r2'


@pytest.mark.fault(26)
@pytest.mark.parametrize('go_back', [command.downgrade, command.stamp])
def test_not_even_the_leader_downgrades(
        instances: Instances, postgresql_url: str, tmp_path: Path,
        go_back: Callable[[Config, str], None]) -> None:
    release = make_release(tmp_path / 'new', 2)
    instances.bring_up(postgresql_url, release)
    with connected(postgresql_url) as connection:
        backend = connection.scalar(text('SELECT pg_backend_pid()'))
        connection.commit()

        with pytest.raises(SchemaError, match='never downgraded'):
            go_back(config_for(release, **{UPGRADE: Upgrade(connection, 'deploy-1', backend)}), 'r1')

    assert head(postgresql_url) == 'r2'
    assert 'r2' in tables(postgresql_url)
    assert value(postgresql_url, 'SELECT count(*) FROM schema_revision_log') == 2


@contextmanager
def closing_server(server: PostgresServer) -> Iterator[PostgresServer]:
    """Give a server of the test's own, which ends with the block."""
    try:
        yield server
    finally:
        server.remove()


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Give a connection like the leader's."""
    engine = create_engine(make_url(url).set(drivername='postgresql+psycopg2'), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


@contextmanager
def queries(url: str, query: str) -> Iterator[list[float]]:
    """Repeat a query during the block, and give the wait of each one in seconds."""
    waits: list[float] = []
    over = threading.Event()

    def ask() -> None:
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            while not over.is_set():
                # By the server's clock: from the arrival of the query to its start, when it gets its lock.
                cursor = connection.cursor()
                cursor.execute(query)
                waits.append(cursor.fetchall()[0][0])
                time.sleep(0.01)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()
