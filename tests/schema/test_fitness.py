"""The fitness of a running instance's code for the database's schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, event, make_url, NullPool, text

from tests.support.revisions import make_release
from visitors.schema import bring_up, CodeRevisions, Exit, Fitness, Options, State
from visitors.schema.errors import NotOneHead
from visitors.settings import Settings


def test_code_fits_from_the_moment_the_schema_is_brought_up(database_url: str) -> None:
    with connected(database_url) as connection:
        before = Fitness.read(connection)
    assert bring_up(settings(database_url)) is Exit.FITS

    with connected(database_url) as connection:
        after = Fitness.read(connection)

    assert (before.state, before.fits) == (State.BEHIND, False)
    assert (after.state, after.fits) == (State.READY, True)
    assert before.reason.startswith('the schema is older than this code: database at nothing, code at ')


def test_code_that_is_older_fits_too_and_code_of_others_does_not(database_url: str, tmp_path: Path) -> None:
    assert bring_up(settings(database_url), Options(directory=make_release(tmp_path / 'new', 3))) is Exit.FITS
    old = CodeRevisions.load(make_release(tmp_path / 'old', 2))
    foreign = CodeRevisions.load(make_release(tmp_path / 'foreign', 2, prefix='x'))

    with connected(database_url) as connection:
        assert Fitness.read(connection, old).state is State.NEWER_OK
        assert Fitness.read(connection, old).fits
        assert Fitness.read(connection, foreign).state is State.FOREIGN
        assert not Fitness.read(connection, foreign).fits


def test_fitness_costs_two_statements(database_url: str) -> None:
    bring_up(settings(database_url))
    with connected(database_url) as connection:
        statements: list[str] = []
        event.listen(connection, 'before_cursor_execute', lambda *arguments: statements.append(arguments[2]))

        Fitness.read(connection)

    assert len(statements) == 2, statements


def test_tables_of_others_make_an_unversioned_database(database_url: str) -> None:
    with connected(database_url) as connection:
        connection.execute(text('CREATE TABLE somebodys (id integer)'))
        assert Fitness.read(connection).state is State.UNVERSIONED


def test_code_without_a_single_head_is_refused_with_its_heads(tmp_path: Path) -> None:
    release = make_release(tmp_path / 'two', 1)
    (release / 'versions' / 'x1.py').write_text((release / 'versions' / 'r1.py').read_text().replace("'r1'", "'x1'"))
    with pytest.raises(NotOneHead, match=r'has 2 heads \(r1, x1\)'):
        print(CodeRevisions.load(release).head)
    with pytest.raises(NotOneHead, match=r'has 0 heads \(none\)'):
        print(CodeRevisions.load(make_release(tmp_path / 'none', 0)).head)


def test_bringing_up_in_process_returns_whether_the_code_fits(database_url: str, tmp_path: Path) -> None:
    assert bring_up(settings(database_url), Options(directory=make_release(tmp_path / 'new', 1))) is Exit.FITS

    foreign = make_release(tmp_path / 'foreign', 1, prefix='x')
    assert bring_up(settings(database_url), Options(directory=foreign)) is Exit.DOES_NOT_FIT


def settings(url: str, **more: str) -> Settings:
    """Return settings for a database."""
    return Settings.from_environ({'DATABASE_URL': url, 'VISITOR_KEY': 'k' * 32, **more})


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Give a connection to a database."""
    parsed = make_url(url)
    name = 'sqlite' if parsed.get_backend_name() == 'sqlite' else 'postgresql+psycopg2'
    with create_engine(parsed.set(drivername=name), poolclass=NullPool).connect() as connection:
        yield connection
