"""`flask schema check`: harmless revisions pass, dangerous ones are found, and our own revisions pass."""

from pathlib import Path
import shutil
import subprocess
import sys

from alembic import command
from alembic.util import CommandError
import pytest

from tests.support.revisions import add_revision, make_release
from tests.support.server import environment, flask, ROOT
from visitors.schema import check
from visitors.schema.revisions import CodeRevisions, MIGRATIONS
from visitors.schema.upgrade import config_for


def findings_in(release: Path) -> str:
    """Return the findings of the command in a release."""
    result = flask('sqlite:////nowhere/visitors.sqlite3', 'schema', '--directory', str(release), 'check')
    assert result.returncode == (1 if result.stderr else 0), result.stderr
    return result.stderr


def test_our_own_revisions_are_in_order() -> None:
    assert check.findings(MIGRATIONS) == []


@pytest.mark.parametrize('rule', check.EXCLUDED)
def test_each_rule_that_is_excluded_would_find_something(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check.EXCLUDED[rule]
    monkeypatch.delitem(check.EXCLUDED, rule)
    assert rule in '\n'.join(check.findings(MIGRATIONS))


def test_a_line_of_harmless_revisions_passes(tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 3, {'r2': "create_index('ix_r1_id', 'r1', ['id'])"})
    assert findings_in(release) == ''


def test_two_heads_are_found(tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 2)
    add_revision(release, 'x2', 'r1', '')
    assert 'has 2 heads (r2, x2)' in findings_in(release)


def test_a_gap_is_found(tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 3)
    (release / 'versions' / 'r2.py').unlink()
    assert 'the revisions are not one line' in findings_in(release)


@pytest.mark.parametrize(('statement', 'rule'), [
    ('DROP TABLE r1', 'ban-drop-table'),
    ('ALTER TABLE r1 DROP COLUMN id', 'ban-drop-column'),
    ('ALTER TABLE r1 RENAME COLUMN id TO number', 'renaming-column'),
    ('ALTER TABLE r1 RENAME TO r0', 'renaming-table'),
    ('ALTER TABLE r1 ALTER COLUMN id TYPE bigint', 'changing-column-type'),
])
def test_a_contract_must_name_the_oldest_code_that_may_still_run(tmp_path: Path, statement: str, rule: str) -> None:
    body = {'r3': f'op.execute({statement!r})'}

    without = findings_in(make_release(tmp_path / 'without', 3, body))
    named = findings_in(make_release(tmp_path / 'named', 3, body, floors={'r3': 'r2'}))

    assert f'r3: {rule}: older code cannot run after it; name the oldest revision' in without
    assert rule not in named


@pytest.mark.parametrize('floor', ['r3', 'r4', 'x1'])
def test_a_floor_must_be_a_revision_before(tmp_path: Path, floor: str) -> None:
    findings = findings_in(make_release(tmp_path / 'new', 4, floors={'r3': floor}))
    assert f"r3: min_code_revision = '{floor}' is not an earlier revision" in findings


@pytest.mark.parametrize(('body', 'rule'), [
    ("op.create_index('ix_r1_id', 'r1', ['id'])", 'require-concurrent-index-creation'),
    ("op.execute('ALTER TABLE r1 ADD COLUMN more integer NOT NULL')", 'adding-required-field'),
    ("op.execute('ALTER TABLE r1 ADD CONSTRAINT positive CHECK (id > 0)')", 'constraint-missing-not-valid'),
])
def test_statements_that_a_running_service_does_not_survive_are_found(tmp_path: Path, body: str, rule: str) -> None:
    assert f'r2: {rule}: ' in findings_in(make_release(tmp_path / 'new', 2, {'r2': body}))


def test_without_the_linter_the_check_fails_and_says_what_to_install(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, 'which', lambda *_, **__: None)
    (finding,) = check.findings(make_release(tmp_path / 'new', 1))
    assert 'squawk is missing' in finding


def test_a_linter_that_breaks_is_not_taken_for_one_that_finds_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, 'which', lambda *_, **__: '/bin/false')
    with pytest.raises(RuntimeError, match='squawk ended with 1'):
        check.findings(make_release(tmp_path / 'new', 1))


def test_statements_for_reading_begin_with_their_limits(postgresql_url: str) -> None:
    result = flask(postgresql_url, 'db', 'upgrade', '--sql')
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("SET lock_timeout = '1s';\n\nSET statement_timeout = '30s';\n\nBEGIN;")
    assert 'CREATE TABLE visitors' in result.stdout


def test_an_index_is_printed_with_the_patience_that_it_is_built_with(tmp_path: Path) -> None:
    release = make_release(tmp_path / 'new', 2, {'r2': "create_index('ix_r1_id', 'r1', ['id'])"})
    result = flask('postgresql://nobody@192.0.2.1/visitors', 'db', 'upgrade', '--directory', str(release), '--sql')
    statements = [line for line in result.stdout.splitlines() if 'timeout' in line or 'INDEX' in line]
    assert statements[2:] == [
        "SET lock_timeout = '10min';", "SET statement_timeout = '0';",
        'CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_r1_id ON r1 (id);',
        'RESET lock_timeout;', 'RESET statement_timeout;']


def test_developers_write_revisions_against_a_database_that_is_up(database_url: str, tmp_path: Path) -> None:
    release = make_release(tmp_path / 'copy', 0)
    for path in (MIGRATIONS / 'versions').glob('*.py'):
        (release / 'versions' / path.name).write_bytes(path.read_bytes())
    flask(database_url, 'schema', 'ready')

    same = flask(database_url, 'db', 'migrate', '--directory', str(release), '-m', 'nothing')
    empty = flask(database_url, 'db', 'revision', '--directory', str(release), '-m', 'say_something',
                  '--rev-id', 'new')
    current = flask(database_url, 'db', 'current', '--directory', str(release))

    assert 'the models and the database agree; no revision was written' in same.stderr
    assert empty.returncode == 0, empty.stderr
    assert (release / 'versions' / 'new_say_something.py').read_text().startswith('"""say_something."""\n')
    assert CodeRevisions.load().head in current.stdout
    linted = subprocess.run([sys.executable, '-m', 'flake8', '--config', str(ROOT / 'setup.cfg'),
                             str(release / 'versions' / 'new_say_something.py')],
                            env=environment(database_url), capture_output=True, text=True, check=False)
    assert [line for line in linted.stdout.splitlines() if 'F401' not in line and 'D403' not in line] == []


def test_an_alembic_command_without_an_application_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match='no application, so no database'):
        command.current(config_for(make_release(tmp_path / 'new', 1)))
