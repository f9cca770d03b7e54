"""The changes of the mutation test, and the agreement of docs/mutants.md with the code."""

from configparser import ConfigParser
import re

from tests.support.server import ROOT
from tests.tools.mutation import (
    answered, changes, complaints, Configuration, difference, DOCUMENT, KILLED, Mutant, SURVIVED,
)
from tests.tools.mutation import table

SOURCE = '''
"""Module > text."""

from a import b

LIMIT = 7  # more than 6
QUERY = 'SELECT 1 WHERE a > b'


class Thing:
    """Thing > text."""

    @property
    def fits(self):
        """Whether a > b."""
        return self in (State.GOOD, State.FAIR)

    def grow(self):
        return self.size > 3


def plain(a, b):
    return a > b


@cached
def decorated(a, b):
    return not a
'''
SURVIVOR = Mutant('visitors/a.py', ('-a > b', '+a >= b'), SURVIVED)
DEAD = Mutant('visitors/a.py', (), KILLED)
NAME = re.compile(r'[A-Za-z_]\w+')


def test_every_module_that_is_changed_exists_and_the_document_lists_just_these() -> None:
    parser = ConfigParser()
    parser.read(ROOT / 'setup.cfg', encoding='utf-8')
    inside, outside = set(parser['mutmut']['only_mutate'].split()), Configuration.load().tests
    rows = re.findall(r'^\| `(.+?)` \| (.+?) \|', DOCUMENT.read_text(encoding='utf-8'), re.MULTILINE)

    assert set(rows) == {*((module, 'functions') for module in inside), *((module, 'the rest') for module in outside)}
    assert inside <= set(outside)
    assert set(outside.values()) == set(parser['mutmut']['pytest_add_cli_args_test_selection'].split())
    for path in (*outside, *outside.values()):
        assert (ROOT / path).is_file(), path


def test_the_subject_of_every_answer_is_still_in_the_code() -> None:
    """Only names are compared: whether an answer still fits after an edit of a value, `make mutation` says."""
    code = {name for module in Configuration.load().tests
            for name in NAME.findall((ROOT / module).read_text(encoding='utf-8'))}
    answers = answered(DOCUMENT.read_text(encoding='utf-8'))
    lines = [line for answer in answers for line in answer if line.startswith('-')]
    assert lines, 'no answer is found in the document'
    assert [line for line in lines if not set(NAME.findall(line)[:1]) <= code] == []


def test_every_answer_says_why() -> None:
    assert re.search(r'^```\s*(#|```|\Z)', DOCUMENT.read_text(encoding='utf-8'), re.MULTILINE) is None


def test_values_properties_and_decorated_functions_are_changed_and_nothing_that_is_text_for_people() -> None:
    assert {difference(SOURCE, changed) for changed in changes(SOURCE)} == {
        ('-LIMIT = 7  # more than 6', '+LIMIT = 8  # more than 6'),
        ("-QUERY = 'SELECT 1 WHERE a > b'", "+QUERY = 'SELECT 2 WHERE a > b'"),
        ("-QUERY = 'SELECT 1 WHERE a > b'", "+QUERY = 'SELECT 1 WHERE a >= b'"),
        ("-QUERY = 'SELECT 1 WHERE a > b'", "+QUERY = 'SELECT 1 WHERE a < b'"),
        ('-return self in (State.GOOD, State.FAIR)', '+return self not in (State.GOOD, State.FAIR)'),
        ('-return self in (State.GOOD, State.FAIR)', '+return self in (State.GOOD,)'),
        ('-return self in (State.GOOD, State.FAIR)', '+return self in (State.FAIR,)'),
        ('-return not a', '+return a'),
    }


def test_a_survivor_without_an_answer_is_reported_and_an_answer_without_a_survivor_too() -> None:
    counts = table([DEAD, SURVIVOR], [])
    answer = '```diff\n-    a > b\n+    a >= b\n```\n\nThey are never equal.\n'

    assert complaints(counts + '\n' + answer, [DEAD, SURVIVOR], []) == []
    assert complaints(counts, [DEAD, SURVIVOR], []) == [
        'no test notices, and no answer stands in docs/mutants.md:\n-a > b\n+a >= b']
    assert complaints(counts + '\n' + answer + answer, [DEAD, SURVIVOR], []) == [
        'answered in docs/mutants.md, but noticed or gone:\n-a > b\n+a >= b']


def test_one_answer_may_be_given_to_several_changes() -> None:
    several = '```diff\n-a\n+b\n\n-a\n+b\n\n-c\n+d\n```\n\nWhy.\n'
    assert answered(several) == {('-a', '+b'): 2, ('-c', '+d'): 1}


def test_a_wrong_count_in_the_document_is_reported() -> None:
    assert table([DEAD, SURVIVOR], []).splitlines()[-1] == '| `visitors/a.py` | functions | 2 | 1 | 1 | 0 |'
    assert complaints(table([DEAD], []), [DEAD, DEAD], []) == [
        'docs/mutants.md lacks this row:\n| `visitors/a.py` | functions | 2 | 2 | 0 | 0 |']
