"""The decision whether a schema fits a release, by its table and by made-up histories."""

from types import SimpleNamespace

from hypothesis import given, strategies as st
import psycopg2
import pytest
from sqlalchemy import exc

from visitors.schema.decision import Code, decide, Record, State
from visitors.schema.errors import Kind, kind_of, UnsafeConnection

CODE = Code('r3', frozenset({'r1', 'r2', 'r3'}))
REVISIONS = st.sampled_from([f'r{number}' for number in range(1, 7)])


@pytest.mark.parametrize(('heads', 'log', 'has_tables', 'state'), [
    ({'r3'}, {}, True, State.READY),
    ({'r3'}, {'r3': True}, True, State.READY),
    (set(), {}, True, State.UNVERSIONED),
    (set(), {'r3': False}, True, State.UNVERSIONED),
    (set(), {}, False, State.BEHIND),
    ({'r2'}, {}, True, State.BEHIND),
    ({'r1', 'r2'}, {}, True, State.BEHIND),
    ({'r2', 'r3'}, {}, True, State.BEHIND),
    ({'r1', 'r2', 'r3'}, {}, True, State.BEHIND),
    ({'r4'}, {'r3': False, 'r4': False}, True, State.NEWER_OK),
    ({'r3', 'x1'}, {'r3': False, 'x1': False}, True, State.NEWER_OK),
    ({'r4'}, {'r3': True, 'r4': False}, True, State.RETIRED),
    ({'r4'}, {'r4': False}, True, State.FOREIGN),
    ({'r4'}, {}, False, State.FOREIGN),
    ({'r2', 'x1'}, {'r2': False}, True, State.FOREIGN),
])
def test_the_first_row_that_matches_decides(
        heads: set[str], log: dict[str, bool], has_tables: bool, state: State) -> None:
    assert decide(CODE, Record(frozenset(heads), log, has_tables)) is state


@pytest.mark.parametrize(('state', 'fits', 'refuses'), [
    (State.READY, True, False), (State.NEWER_OK, True, False), (State.BEHIND, False, False),
    (State.UNVERSIONED, False, True), (State.RETIRED, False, True), (State.FOREIGN, False, True),
])
def test_a_fitting_schema_serves_an_older_one_is_migrated_and_all_others_are_refused(
        state: State, fits: bool, refuses: bool) -> None:
    assert (state.fits, state.refuses) == (fits, refuses)


def test_each_state_says_something_else() -> None:
    assert len({state.value for state in State}) == 6


@given(code=st.integers(1, 30), database=st.integers(0, 30), floor=st.integers(0, 30))
def test_in_one_line_of_revisions_only_the_places_of_code_database_and_floor_count(
        code: int, database: int, floor: int) -> None:
    floor = min(floor, database)
    revisions = frozenset(f'r{number}' for number in range(1, code + 1))
    log = {f'r{number}': number < floor for number in range(1, database + 1)}
    heads = frozenset({f'r{database}'} if database else ())

    state = decide(Code(f'r{code}', revisions), Record(heads, log, database > 0))

    if database == code:
        assert state is State.READY
    elif database < code:
        assert state is State.BEHIND
    else:
        assert state is (State.RETIRED if code < floor else State.NEWER_OK)


@given(heads=st.frozensets(REVISIONS, max_size=3), log=st.dictionaries(REVISIONS, st.booleans()),
       has_tables=st.booleans(), revisions=st.frozensets(REVISIONS))
def test_migrating_is_only_ever_asked_for_where_every_revision_is_known(
        heads: frozenset[str], log: dict[str, bool], has_tables: bool, revisions: frozenset[str]) -> None:
    code = Code('r3', revisions | {'r3'})

    state = decide(code, Record(heads, log, has_tables))

    assert not (state.fits and state.refuses)
    if state is State.BEHIND:
        assert heads <= code.revisions
        assert heads or not has_tables
    if heads and heads <= code.revisions:
        assert state is (State.READY if heads == {'r3'} else State.BEHIND)
    if state.fits:
        assert heads == {'r3'} or log['r3'] is False
    if not heads <= code.revisions and 'r3' not in log:
        assert state is State.FOREIGN


class Failure(psycopg2.OperationalError):
    """An error of the driver with a code of our choice, which its own classes do not allow."""

    pgcode: str | None = None


def failure(code: str | None, message: str = 'no') -> Failure:
    """Return an error of the driver with an SQLSTATE."""
    error = Failure(message)
    error.pgcode = code
    return error


@pytest.mark.parametrize(('code', 'kind'), [
    (None, Kind.LOST), ('08006', Kind.LOST), ('57P01', Kind.LOST), ('57P03', Kind.LOST),
    ('57014', Kind.FINAL), ('55P03', Kind.RETRY), ('40P01', Kind.RETRY),
    ('42P01', Kind.RACE), ('42P07', Kind.RACE), ('23505', Kind.RACE), ('42501', Kind.FINAL), ('23503', Kind.FINAL),
])
def test_an_error_means_what_its_code_says(code: str | None, kind: Kind) -> None:
    assert kind_of(exc.OperationalError('SELECT 1', {}, failure(code))) is kind


def test_an_error_on_a_broken_connection_is_a_loss_whatever_its_code() -> None:
    error = exc.InternalError('SELECT 1', {}, failure('25P03'), connection_invalidated=True)
    assert kind_of(error) is Kind.LOST


@pytest.mark.parametrize('error', [
    exc.ProgrammingError('SELECT 1', {}, failure(None)), ValueError('no'), failure(None), SimpleNamespace(orig=None),
])
def test_a_mistake_without_a_code_is_never_taken_for_a_lost_connection(error: BaseException) -> None:
    assert kind_of(error) is Kind.FINAL


@pytest.mark.parametrize('message', [
    'FATAL:  unsupported startup parameter: options',
    'FATAL:  unsupported startup parameter in options: lock_timeout',
    'Feature not supported: RDS Proxy currently doesn’t support command-line options.',
])
def test_a_pooler_that_rejects_the_connection_is_recognised_by_its_words(message: str) -> None:
    assert kind_of(exc.OperationalError('', {}, failure(None, message))) is Kind.UNSAFE


def test_a_pooler_that_drops_the_settings_is_unsafe() -> None:
    assert kind_of(UnsafeConnection('no')) is Kind.UNSAFE
