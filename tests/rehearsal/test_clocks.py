"""The two clocks of a rehearsal."""

import pytest

from rehearsal.clocks import Clocks
from rehearsal.errors import RehearsalError
from rehearsal.settings import Settings


def test_the_pace_quickens_one_clock_alone() -> None:
    seconds = 100.0
    clocks = Clocks(60, lambda: seconds)
    before = clocks.paced()
    seconds += 2
    assert clocks.real() == 102
    assert clocks.paced() - before == 120
    assert clocks.real_seconds(300) == 5


@pytest.mark.parametrize('pace', [0, 0.5, 61, float('nan')])
def test_a_pace_that_would_slow_or_blur_aws_is_refused(pace: float) -> None:
    with pytest.raises(RehearsalError, match='pace'):
        Settings(pace=pace)
