"""The evaluation of alarms, apart from any API: samples and a time give a state.

The tables are those of https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from collections.abc import Sequence
from dataclasses import replace
import math

from hypothesis import given, strategies
import pytest

from rehearsal.api.alarms.evaluation import (
    ALARM, BREACHING, Definition, evaluate, IGNORE, INSUFFICIENT_DATA, MISSING, NOT_BREACHING, OK, Series, verdict)
from rehearsal.api.alarms.expressions import Expression
from rehearsal.api.alarms.samples import fewest_samples, Metric, Sample, statistic_of
from rehearsal.errors import NotModelled

TREATMENTS = (MISSING, IGNORE, BREACHING, NOT_BREACHING)
KEPT = 'kept'
ERRORS, REQUESTS = Metric('Tests', 'Errors'), Metric('Tests', 'Requests')
MINUTE = 60
VALUES = {'0': 0.0, 'X': 1.0, '-': None}


def alarm(datapoints: int = 1, periods: int = 1, missing: str = MISSING, statistic: str = 'Sum',
          period: int = MINUTE) -> Definition:
    return Definition({'errors': Series(ERRORS, statistic)}, period, periods, datapoints, 'GreaterThanThreshold', 0,
                      missing)


def states(definition: Definition, points: str) -> list[str]:
    """Return the state of an alarm for each treatment of missing data; the last point is the newest."""
    values = [VALUES[point] for point in reversed(points.split())]
    verdicts = [verdict(replace(definition, missing=missing), values) for missing in TREATMENTS]
    return [each.state if each else KEPT for each in verdicts]


@pytest.mark.parametrize(('points', 'expected'), [
    ('0 - X - X', [OK, OK, OK, OK]),
    ('- - - - 0', [OK, OK, OK, OK]),
    ('- - - - -', [INSUFFICIENT_DATA, KEPT, ALARM, OK]),
    ('0 X X - X', [ALARM, ALARM, ALARM, ALARM]),
    ('- - X - -', [ALARM, KEPT, ALARM, OK])])
def test_missing_data_of_three_out_of_three_counts_as_in_the_table_of_aws(points: str, expected: list[str]) -> None:
    assert states(alarm(3, 3), points) == expected


@pytest.mark.parametrize(('points', 'expected'), [
    ('0 - X - X', [ALARM, ALARM, ALARM, ALARM]),
    ('0 0 X 0 X', [ALARM, ALARM, ALARM, ALARM]),
    ('0 - X - -', [OK, OK, ALARM, OK]),
    ('- - - - 0', [OK, OK, ALARM, OK]),
    ('- - - X -', [ALARM, KEPT, ALARM, OK])])
def test_missing_data_of_two_out_of_three_counts_as_in_the_table_of_aws(points: str, expected: list[str]) -> None:
    assert states(alarm(2, 3), points) == expected


@pytest.mark.parametrize('points', ['- - - - X', '- - - X -'])
def test_a_breaching_point_that_is_still_young_rings_no_alarm_of_three(points: str) -> None:
    assert states(alarm(3, 3), points)[:1] == [OK]


@pytest.mark.parametrize(('statistic', 'expected'), [
    ('Sum', 10), ('Average', 2.5), ('Minimum', 1), ('Maximum', 4), ('SampleCount', 4), ('p50', 2), ('p75', 3),
    ('p95', 4), ('p100', 4), ('p0', 1)])
def test_a_statistic_is_that_of_the_raw_values(statistic: str, expected: float) -> None:
    assert statistic_of([Sample(0, value) for value in (4, 1, 3, 2)], statistic) == expected


def test_a_set_of_values_counts_as_many_but_has_no_percentile() -> None:
    values = [Sample(0, 12, count=4, least=1, greatest=6), Sample(1, 2)]
    assert [statistic_of(values, name) for name in ('Sum', 'SampleCount', 'Minimum', 'Maximum', 'Average')] == [
        14, 5, 1, 6, 2.8]
    assert statistic_of(values, 'p99') == 2
    assert statistic_of(values[:1], 'p99') is None


@given(strategies.lists(strategies.floats(-1e6, 1e6), min_size=1), strategies.sampled_from(['p1', 'p50', 'p95.5']))
def test_a_percentile_is_a_value_and_so_many_values_are_not_above_it(values: list[float], name: str) -> None:
    found = statistic_of([Sample(0, value) for value in values], name)
    assert found in values
    share = float(name[1:]) / 100
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values) or found == min(values)


def test_a_metric_without_samples_has_no_statistic() -> None:
    assert statistic_of([], 'Sum') is None


def minutes(*values: float | None) -> dict[Metric, list[Sample]]:
    """Return samples of one metric, one in the middle of each minute from the first on."""
    return {ERRORS: [Sample(MINUTE * (place + 0.5), value) for place, value in enumerate(values)
                     if value is not None]}


def state(definition: Definition, samples: dict[Metric, list[Sample]], now: float) -> str:
    found = evaluate(definition, samples, now)
    return found.state if found else KEPT


def test_a_period_is_evaluated_when_it_is_over() -> None:
    assert state(alarm(missing=NOT_BREACHING), minutes(1), MINUTE - 1) == OK
    assert state(alarm(missing=NOT_BREACHING), minutes(1), MINUTE) == ALARM


def test_an_alarm_rings_with_m_of_the_newest_n_points_and_recovers() -> None:
    rings = [state(alarm(2, 3), minutes(0, 1, 0, 1, 0, 0, 0), MINUTE * now)
             for now in range(3, 8)]
    assert rings == [OK, ALARM, OK, OK, OK]


def test_a_long_period_ends_at_each_minute() -> None:
    five = alarm(period=5 * MINUTE, missing=NOT_BREACHING)
    assert [state(five, {ERRORS: [Sample(7.5 * MINUTE, 1)]}, MINUTE * now) for now in (7, 8, 12)] == [OK, ALARM, ALARM]


def test_missing_periods_are_replaced_by_older_ones_of_the_evaluation_range() -> None:
    assert [state(alarm(missing=BREACHING), minutes(0), MINUTE * now) for now in (1, 2, 3, 4)] == [OK, OK, OK, ALARM]


def test_the_reason_names_values_threshold_and_replaced_points() -> None:
    ringing = verdict(replace(alarm(2, 3), missing=BREACHING), [3.0, None, None, None, None])
    assert ringing and ringing.reason == (
        'Threshold Crossed: 3 out of the last 3 datapoints [3] were greater than the threshold (0) (minimum 2 '
        'datapoints for the state ALARM). 2 missing datapoints were treated as [breaching].')


@pytest.mark.parametrize(('statistic', 'fewest'), [('p95', 200), ('p99', 1000), ('p50', 20), ('p10', 100), ('Sum', 0),
                                                   ('p100', math.inf)])
def test_a_percentile_needs_ten_samples_beyond_it(statistic: str, fewest: float) -> None:
    assert fewest_samples(statistic) == pytest.approx(fewest)


@pytest.mark.parametrize(('count', 'ignores', 'expected'), [(199, True, KEPT), (200, True, ALARM), (3, False, ALARM),
                                                            (0, True, OK)])
def test_a_percentile_of_few_samples_changes_no_state_if_the_alarm_ignores_it(count: int, ignores: bool,
                                                                              expected: str) -> None:
    slow = replace(alarm(statistic='p95', missing=NOT_BREACHING), ignores_few_samples=ignores)
    assert state(slow, {ERRORS: [Sample(place / 10, 1) for place in range(count)]}, MINUTE) == expected


def test_a_series_with_a_unit_sees_samples_of_that_unit_only() -> None:
    counted = replace(alarm(missing=NOT_BREACHING), series={'e': Series(ERRORS, 'Sum', 'Count')})
    assert state(counted, {ERRORS: [Sample(1, 1, unit='Seconds')]}, MINUTE) == OK
    assert state(counted, {ERRORS: [Sample(1, 1, unit='Count')]}, MINUTE) == ALARM


@pytest.mark.parametrize(('text', 'value'), [
    ('errors', 5), ('100 * errors / requests', 10), ('-errors + 2', -3), ('errors - requests', -45),
    ('errors > 4', 1), ('errors <= 4', 0), ('absent', None), ('absent + 1', None), ('FILL(absent, 7)', 7),
    ('FILL(errors, 7)', 5), ('IF(requests > 20, errors, 0)', 5), ('IF(requests < 20, errors, -1)', -1),
    ('IF(absent, 1, 2)', None), ('IF(1, absent, 2)', None), ('errors / 0', None), ('IF(requests > 60, absent, 3)', 3)])
def test_metric_math_has_the_value_that_aws_describes(text: str, value: float | None) -> None:
    assert Expression(text).value({'errors': 5, 'requests': 50, 'absent': None}) == value


@pytest.mark.parametrize('text', [
    'RATE(errors)', 'errors ^ 2', 'errors ** 2', 'errors AND requests', 'FILL(errors, REPEAT)', 'SUM(METRICS())',
    'SELECT AVG(CPUUtilization) FROM "AWS/EC2"', '1 < errors < 3', 'IF(errors, 1)', '"text"', 'True', '',
    '__import__("os")', 'errors.real', 'ANOMALY_DETECTION_BAND(errors)'])
def test_other_metric_math_is_refused(text: str) -> None:
    with pytest.raises(NotModelled, match='metric math'):
        Expression(text)


def test_an_expression_is_evaluated_for_each_period() -> None:
    ratio = Definition({'errors': Series(ERRORS, 'Sum'), 'requests': Series(REQUESTS, 'Sum')}, MINUTE, 1, 1,
                       'GreaterThanThreshold', 2, expression=Expression('100 * FILL(errors, 0) / requests'))
    samples = {**minutes(3, 1), REQUESTS: [Sample(MINUTE * (place + 0.1), 100) for place in range(3)]}
    assert [state(ratio, samples, MINUTE * now) for now in (1, 2, 3)] == [ALARM, OK, OK]


points = strategies.lists(strategies.sampled_from([0.0, 1.0, None]), min_size=5, max_size=5)


@given(points, strategies.integers(1, 3))
def test_missing_data_never_rings_an_alarm_that_does_not_breach_by_it(given_points: Sequence[float | None],
                                                                      datapoints: int) -> None:
    found = verdict(replace(alarm(datapoints, 3), missing=NOT_BREACHING), given_points)
    assert found
    assert (found.state == ALARM) == (
        sum(value or 0 for value in [point for point in given_points if point is not None][:3]) >= datapoints)
