"""An index that the leader builds while the table is in use: waited for, interrupted, left half built, complete."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
import signal
import time

import psycopg2
import pytest

from tests.support.booting import codes, Instances, leaders, logs, sessions, tables, verdict
from tests.support.postgresql import execute, value
from tests.support.revisions import make_release
from tests.support.waiting import eventually

CREATE_INDEX = "create_index('ix_r1_id', 'r1', ['id'])"


@pytest.fixture
def url(instances: Instances, postgresql_url: str, tmp_path: Path) -> str:
    """Give the URL of a database that an older release brought up, without the index."""
    instances.bring_up(postgresql_url, make_release(tmp_path / 'old', 1))
    return postgresql_url


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Give the release whose newest revision makes the index."""
    return make_release(tmp_path / 'new', 2, {'r2': CREATE_INDEX})


@pytest.mark.fault(11)
def test_an_index_is_built_on_a_large_table_while_seven_instances_wait(
        instances: Instances, postgresql_url: str, tmp_path: Path) -> None:
    release = make_release(
        tmp_path / 'new', 2, {'r1': "op.execute('INSERT INTO r1 SELECT generate_series(1, 200000)')",
                              'r2': CREATE_INDEX})

    boots = instances.boot_many(8, postgresql_url, release, '--poll', '0.05')

    assert codes(boots) == [0] * 8, logs(boots)
    assert len(leaders(boots)) == 1
    assert verdict(postgresql_url) == ('succeeded', 1)
    assert is_valid(postgresql_url) is True


@pytest.mark.fault(12)
def test_an_index_left_half_built_by_a_killed_leader_is_rebuilt(instances: Instances, url: str, release: Path) -> None:
    with open_transaction(url) as commit:
        first = instances.boot(url, release)
        until_the_index_waits(url)
        first.send(signal.SIGKILL)
        first.ended()
        second = instances.boot(url, release)
        eventually(lambda: second.has_led, 'the next one leads')
        assert is_valid(url) is False
        commit()

    assert second.ended() == 0, second.text
    assert is_valid(url) is True
    assert verdict(url) == ('succeeded', 2)


def test_an_index_waits_patiently_for_a_transaction_that_no_other_revision_would_wait_for(
        instances: Instances, url: str, release: Path) -> None:
    with open_transaction(url) as commit:
        boot = instances.boot(url, release)
        until_the_index_waits(url)
        time.sleep(2)
        commit()

    assert boot.ended() == 0, boot.text
    assert 'try 2' not in boot.text
    assert is_valid(url) is True


def test_a_leader_whose_session_is_ended_while_it_builds_an_index_takes_the_lead_again(
        instances: Instances, url: str, release: Path) -> None:
    with open_transaction(url) as commit:
        boot = instances.boot(url, release)
        until_the_index_waits(url)
        execute(url, 'SELECT pg_terminate_backend(%s)', sessions(url, 'active'))
        eventually(lambda: 'lost the lead' in boot.text, 'the leader notices')
        commit()

    assert boot.ended() == 0, boot.text
    assert is_valid(url) is True
    assert verdict(url) == ('succeeded', 2)


def test_a_complete_index_of_a_leader_killed_before_the_version_is_kept(
        instances: Instances, url: str, release: Path) -> None:
    execute(url, 'CREATE INDEX ix_r1_id ON r1 (id)')
    before = value(url, "SELECT 'ix_r1_id'::regclass::oid")

    boot = instances.boot(url, release)

    assert boot.ended() == 0, boot.text
    assert value(url, "SELECT 'ix_r1_id'::regclass::oid") == before


def test_an_index_in_one_transaction_for_all_revisions_is_refused(
        instances: Instances, postgresql_url: str, release: Path) -> None:
    boot = instances.boot(postgresql_url, release, '--one-transaction')

    assert boot.ended() == 20
    assert 'ix_r1_id cannot be made within one transaction' in boot.text
    assert 'r1' not in tables(postgresql_url)


@contextmanager
def open_transaction(url: str) -> Iterator[Callable[[], None]]:
    """Hold a transaction on the table, for which the build of an index waits; give the act that commits it."""
    with closing(psycopg2.connect(url)) as other:
        other.cursor().execute('INSERT INTO r1 VALUES (1)')
        yield other.commit


def until_the_index_waits(url: str) -> None:
    """Wait until the index exists and its build waits for the other transaction."""
    eventually(lambda: is_valid(url) is False, 'the index waits for the other transaction')


def is_valid(url: str) -> object:
    """Return whether the index is valid, or None if it does not exist."""
    return value(url, "SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_r1_id'))")
