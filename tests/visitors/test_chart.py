"""The geometry of the charts' bars, ticks and dates, and their drawings."""

from datetime import date, timedelta
from pathlib import Path
import re
from xml.etree import ElementTree

from hypothesis import given, settings, strategies as st
from jinja2 import Environment, FileSystemLoader, StrictUndefined
import pytest

from visitors.chart import Bar, Chart, lay_out_days, lay_out_weeks, short_number, tick_values
from visitors.statistics import Day, Week

TEMPLATES = Path(__file__).resolve().parents[2] / 'templates'
ENVIRONMENT = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
TODAY = date(2026, 3, 2)
ROUNDING = 0.001
# Twice the largest number that one shard of a day can hold, so sums of shards are covered too.
LARGEST = 2 ** 32


def days_of(*numbers: tuple[int, int]) -> tuple[Day, ...]:
    """Return days up to a fixed today, the oldest first, from pairs of visitors and newcomers."""
    return tuple(Day(TODAY - timedelta(len(numbers) - 1 - index), visitors, newcomers)
                 for index, (visitors, newcomers) in enumerate(numbers))


@st.composite
def days(draw: st.DrawFn, ) -> tuple[Day, ...]:
    """Draw thirty days; many of them are quiet, and nowhere are more newcomers than visitors."""
    visitors = draw(st.lists(st.one_of(st.just(0), st.integers(0, LARGEST)), min_size=30, max_size=30))
    return days_of(*((number, draw(st.integers(0, number))) for number in visitors))


def height(bar: Bar) -> float:
    """Return the height of a whole bar."""
    return bar.newcomers_height + bar.returning_height


def drawing(chart: Chart, template: str = 'chart.svg') -> ElementTree.Element:
    """Return the SVGs of a chart, read as XML."""
    axis, bars = (ENVIRONMENT.get_template(name).render(chart=chart) for name in ('axis.svg', template))
    return ElementTree.fromstring(f'<svg>{axis}{bars}</svg>')


@given(days())
def test_the_two_parts_of_a_bar_stand_on_the_axis_and_on_each_other(some: tuple[Day, ...]) -> None:
    for bar in lay_out_days(some).bars:
        assert bar.returning_top + bar.returning_height == pytest.approx(100, abs=ROUNDING)
        assert bar.newcomers_top + bar.newcomers_height == pytest.approx(bar.returning_top, abs=ROUNDING)


@given(days())
def test_every_bar_fits_into_the_plot(some: tuple[Day, ...]) -> None:
    for bar in lay_out_days(some).bars:
        assert 0 <= bar.newcomers_top <= bar.returning_top <= 100
        assert bar.newcomers_height >= 0 and bar.returning_height >= 0


@given(days(), st.data())
def test_heights_are_in_the_proportion_of_the_numbers(some: tuple[Day, ...], data: st.DataObject) -> None:
    top = tick_values(max(day.visitors for day in some))[-1]
    index = data.draw(st.integers(0, 29))
    bar = lay_out_days(some).bars[index]
    assert height(bar) == pytest.approx(100 * some[index].visitors / top, abs=2 * ROUNDING)
    assert bar.newcomers_height == pytest.approx(100 * some[index].newcomers / top, abs=2 * ROUNDING)


@given(days())
def test_bars_stand_side_by_side_in_the_order_of_the_days(some: tuple[Day, ...]) -> None:
    bars = lay_out_days(some).bars
    assert len(bars) == len(some)
    assert bars[0].x > 0 and bars[-1].x + bars[-1].width < 100
    for left, right in zip(bars, bars[1:]):
        assert left.x + left.width < right.x


@given(st.integers(3, LARGEST))
def test_the_highest_bar_takes_more_than_half_of_the_plot(highest: int) -> None:
    assert height(lay_out_days(days_of((0, 0), (highest, 0))).bars[1]) > 50


def test_days_without_visitors_have_no_height() -> None:
    chart = lay_out_days(days_of((0, 0), (7, 2), (0, 0)))
    assert [height(bar) > 0 for bar in chart.bars] == [False, True, False]


def test_thirty_days_without_visitors_have_an_axis_all_the_same() -> None:
    chart = lay_out_days(days_of(*[(0, 0)] * 30))
    assert [tick.text for tick in chart.ticks] == ['0', '1', '2', '3', '4', '5']
    assert not any(height(bar) for bar in chart.bars)


def test_no_days_give_a_chart_without_bars_and_dates() -> None:
    chart = lay_out_days(())
    assert (chart.bars, chart.dates) == ((), ())


@given(st.integers(0, LARGEST))
def test_ticks_are_few_round_even_steps_that_reach_the_highest_number(highest: int) -> None:
    values = tick_values(highest)
    assert values[0] == 0
    assert highest <= values[-1]
    assert values[-2] < max(highest, 5)
    assert 3 <= len(values) - 1 <= 5
    assert re.fullmatch('[125]0*', str(values.step))


@pytest.mark.parametrize(('highest', 'values'), [
    (0, [0, 1, 2, 3, 4, 5]),
    (5, [0, 1, 2, 3, 4, 5]),
    (6, [0, 2, 4, 6]),
    (11, [0, 5, 10, 15]),
    (25, [0, 5, 10, 15, 20, 25]),
    (26, [0, 10, 20, 30]),
    (412_345, [0, 100_000, 200_000, 300_000, 400_000, 500_000]),
])
def test_ticks_are_the_expected_numbers(highest: int, values: list[int]) -> None:
    assert list(tick_values(highest)) == values


@given(days())
def test_ticks_are_where_a_bar_of_their_number_would_end(some: tuple[Day, ...]) -> None:
    values = tick_values(max(day.visitors for day in some))
    ticks = lay_out_days(some).ticks
    places = [100 - 100 * value / values[-1] for value in values]
    assert [tick.at for tick in ticks] == pytest.approx(places, abs=ROUNDING)
    assert len({tick.text for tick in ticks}) == len(ticks)


@pytest.mark.parametrize(('number', 'text'), [
    (0, '0'), (999, '999'), (2_500, '2,500'), (9_999, '9,999'), (10_000, '10k'), (25_000, '25k'), (500_000, '500k'),
    (1_000_000, '1M'), (1_500_000, '1.5M'), (20_000_000, '20M'), (5_000_000_000, '5B'), (2_000_000_000_000, '2T'),
])
def test_numbers_at_the_axis_are_short(number: int, text: str) -> None:
    assert short_number(number) == text


@given(st.integers(0, LARGEST))
def test_numbers_at_the_axis_fit_beside_it(highest: int) -> None:
    assert max(len(short_number(value)) for value in tick_values(highest)) <= 5


def test_dates_stand_below_their_bars_a_week_apart_up_to_today() -> None:
    chart = lay_out_days(days_of(*[(1, 1)] * 30))
    assert [mark.text for mark in chart.dates] == ['2 Feb', '9 Feb', '16 Feb', '23 Feb', 'Today']
    centres = [bar.x + bar.width / 2 for bar in chart.bars[1:-7:7]]
    assert [mark.at for mark in chart.dates] == pytest.approx([*centres, 100], abs=2 * ROUNDING)


@given(days())
def test_the_drawing_holds_a_rectangle_for_each_part_that_has_a_height(some: tuple[Day, ...]) -> None:
    chart = lay_out_days(some)
    svg = drawing(chart)
    assert [part.attrib['aria-hidden'] for part in svg] == ['true', 'true']
    heights = [part for bar in chart.bars for part in (bar.returning_height, bar.newcomers_height) if part]
    assert [float(rect.attrib['height'].rstrip('%')) for rect in svg.iter('rect')] == heights


@given(days())
def test_the_drawing_has_only_finite_numbers_and_no_style_of_its_own(some: tuple[Day, ...]) -> None:
    for element in drawing(lay_out_days(some)).iter():
        assert element.tag in {'svg', 'line', 'rect', 'text'}
        assert 'style' not in element.attrib
        for name in {'x', 'y', 'x1', 'x2', 'y1', 'y2', 'width', 'height'} & element.attrib.keys():
            assert re.fullmatch(r'\d+(\.\d+)?%?', element.attrib[name])


def weeks_of(number: int) -> tuple[Week, ...]:
    """Return so many weeks up to the one of a fixed Monday, each with another number."""
    return tuple(Week(TODAY - timedelta(7 * back), 100 + back, back) for back in reversed(range(number)))


@pytest.mark.parametrize(('days', 'columns'), [(2, 7), (7, 7), (8, 14), (15, 21), (22, 30), (30, 30)])
def test_the_days_of_a_new_database_stand_at_the_right_of_a_plot_that_is_not_much_wider(
        days: int, columns: int) -> None:
    chart = lay_out_days(days_of(*[(3, 1)] * days))
    assert (chart.columns, len(chart.bars)) == (columns, days)
    assert chart.bars[0].x == pytest.approx(100 * (columns - days + 0.14) / columns, abs=ROUNDING)
    assert chart.bars[-1].x + chart.bars[-1].width == pytest.approx(100 * (columns - 0.14) / columns, abs=ROUNDING)


def test_only_the_last_day_is_unfinished() -> None:
    for chart in (lay_out_days(days_of(*[(3, 1)] * 30)), lay_out_weeks(weeks_of(53))):
        assert [bar.unfinished for bar in chart.bars] == [False] * (len(chart.bars) - 1) + [True]


def test_a_year_of_weeks_has_a_bar_for_each_and_names_its_months() -> None:
    chart = lay_out_weeks(weeks_of(53))
    assert len(chart.bars) == chart.columns == 53
    assert [mark.text for mark in chart.dates] == [
        'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec', 'Jan', 'This week']
    assert [mark.text for mark in chart.dates if not mark.minor] == ['Apr', 'Jul', 'Oct', 'This week']
    assert [mark.at for mark in chart.dates] == sorted(mark.at for mark in chart.dates)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, LARGEST), st.integers(0, LARGEST)), min_size=2, max_size=53))
def test_each_part_of_a_week_is_drawn_in_its_column_between_its_heights(numbers: list[tuple[int, int]]) -> None:
    weeks = [Week(TODAY - timedelta(7 * back), sum(pair), pair[0])
             for back, pair in zip(reversed(range(len(numbers))), numbers)]
    chart = lay_out_weeks(weeks)
    first = chart.columns - len(weeks)
    svg = drawing(chart, 'weeks.svg')
    for part in ('returning', 'newcomers'):
        drawn = ''.join(path.attrib['d'] for path in svg.iter('path')
                        if path.attrib['class'] == part)
        bars = re.findall(r'M(\d+)\.14 ([\d.]+)h\.72V([\d.]+)h-\.72z', drawn)
        assert len(bars) == drawn.count('M')
        for column, top, bottom in bars:
            bar = chart.bars[int(column) - first]
            expected = (bar.returning_top, 100) if part == 'returning' else (bar.newcomers_top, bar.returning_top)
            assert float(top) == pytest.approx(expected[0], abs=0.06)
            assert expected[1] - 1.06 <= float(bottom) <= expected[1] + 0.06


@pytest.mark.parametrize(('weeks', 'columns'), [(2, 14), (14, 14), (15, 27), (28, 53), (53, 53)])
def test_the_weeks_of_a_young_database_stand_at_the_right(weeks: int, columns: int) -> None:
    chart = lay_out_weeks(weeks_of(weeks))
    assert (chart.columns, len(chart.bars)) == (columns, weeks)
    assert chart.bars[-1].x + chart.bars[-1].width == pytest.approx(100 * (columns - 0.14) / columns, abs=ROUNDING)


def test_a_returning_visitor_is_one_who_is_no_newcomer() -> None:
    assert Day(TODAY, 7, 2).returning == 5
