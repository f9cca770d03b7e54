"""The geometry of the page's two charts; templates/chart.svg and templates/axis.svg draw them.

All positions are percentages of the plot, from its left and from its top. So the drawing fills any width without
scaling its text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from visitors.statistics import Day, Statistics, Week

WEEK = 7
MOST_STEPS = 5  # with more lines the axis would be louder than the bars
LEAST_TOP = 5  # with a lower axis the first visitor ever would fill the whole plot
BAR_SHARE = 0.72  # of a column's width; the rest is the gap to its neighbours
DECIMALS = 3
UNITS = ((10 ** 12, 'T'), (10 ** 9, 'B'), (10 ** 6, 'M'), (10 ** 3, 'k'))
ABBREVIATED_FROM = 10_000
# Numbers of columns: a chart has the smallest that holds the days since counting began. static/style.css has a class
# for each number of day columns, because a narrow screen shows fewer days.
DAY_COLUMNS = (7, 14, 21, 30)
WEEK_COLUMNS = (14, 27, 53)
LABEL_WEEKS = 5  # the width of a month's name and of half of "This week"
QUARTER_LABEL_WEEKS = 12  # the same on a narrow screen, which names only the first month of each quarter
QUARTERS = (1, 4, 7, 10)


@dataclass(frozen=True)
class Bar:
    """The bar of a day or a week: returning visitors stand on the axis, new visitors on top of them."""

    x: float
    width: float
    newcomers_top: float
    newcomers_height: float
    returning_top: float
    returning_height: float
    unfinished: bool


@dataclass(frozen=True)
class Mark:
    """A line or a text at a place of an axis; a narrow screen leaves minor marks out."""

    at: float
    text: str
    minor: bool = False


@dataclass(frozen=True)
class Chart:
    """The bars, the oldest first, the ticks of the number axis from 0 upwards, and the dates below the bars.

    `columns` is the number of columns of the plot; the columns before the first bar are empty.
    """

    columns: int
    bars: tuple[Bar, ...]
    ticks: tuple[Mark, ...]
    dates: tuple[Mark, ...]


def days_counted(statistics: Statistics) -> tuple[Day, ...]:
    """Return those of the last 30 days that are not before counting began; none if it begins today."""
    days = tuple(day for day in statistics.days if statistics.since and day.day >= statistics.since)
    return days if len(days) > 1 else ()


def weeks_counted(statistics: Statistics) -> tuple[Week, ...]:
    """Return the weeks of the last year since counting began; none if it begins in this week."""
    weeks = tuple(week for week in statistics.weeks
                  if statistics.since and (statistics.since - week.monday).days < WEEK)
    return weeks if len(weeks) > 1 else ()


def lay_out_days(days: Sequence[Day]) -> Chart:
    """Return the chart of these days, the last of which is today."""
    columns = _columns(DAY_COLUMNS, days)
    marks = _dates([day.day for day in days], columns)
    return _lay_out([(day.newcomers, day.returning) for day in days], columns, marks)


def lay_out_weeks(weeks: Sequence[Week]) -> Chart:
    """Return the chart of these weeks, the last of which is the current one."""
    columns = _columns(WEEK_COLUMNS, weeks)
    marks = _months([week.monday for week in weeks], columns)
    return _lay_out([(week.newcomers, week.returning) for week in weeks], columns, marks)


def _columns(choices: Sequence[int], filled: Sequence[object]) -> int:
    return next((number for number in choices if number >= len(filled)), len(filled))


def _lay_out(numbers: Sequence[tuple[int, int]], columns: int, dates: Iterable[Mark]) -> Chart:
    values = tick_values(max(map(sum, numbers), default=0))
    top = values[-1]
    first = columns - len(numbers)
    return Chart(
        columns=columns,
        bars=tuple(_bar(index, pair, columns, top) for index, pair in enumerate(numbers, first)),
        ticks=tuple(Mark(_height(value, top), short_number(value)) for value in values),
        dates=tuple(dates),
    )


def tick_values(highest: int) -> range:
    """Return the numbers at the axis: 0, then three to five round steps, up to the highest number or above it."""
    highest = max(highest, LEAST_TOP)
    step = next(step for step in _round_numbers(highest) if step * MOST_STEPS >= highest)
    steps = -(-highest // step)
    return range(0, step * steps + 1, step)


def _round_numbers(highest: int) -> Iterable[int]:
    return (factor * 10 ** power for power in range(len(str(highest))) for factor in (1, 2, 5))


def short_number(number: int) -> str:
    """Return a tick's number in at most a few characters: 500, 2,500, 25k, 1.5M."""
    for unit, letter in UNITS:
        if number >= max(unit, ABBREVIATED_FROM):
            return f'{number / unit:g}{letter}'
    return f'{number:,}'


def _height(value: int, top: int) -> float:
    return round(100 - 100 * value / top, DECIMALS)


def _bar(index: int, numbers: tuple[int, int], columns: int, top: int) -> Bar:
    # Heights are differences of rounded positions, so the two parts meet without a gap or an overlap.
    upper, middle = _height(sum(numbers), top), _height(numbers[1], top)
    return Bar(
        x=round(100 * (index + (1 - BAR_SHARE) / 2) / columns, DECIMALS),
        width=round(100 * BAR_SHARE / columns, DECIMALS),
        newcomers_top=upper,
        newcomers_height=round(middle - upper, DECIMALS),
        returning_top=middle,
        returning_height=round(100 - middle, DECIMALS),
        unfinished=index == columns - 1,
    )


def _dates(days: Sequence[date], columns: int) -> Iterable[Mark]:
    """Return one date a week, counted back from today, which stands at the right edge."""
    for index in range((len(days) - 1) % WEEK, len(days) - 1, WEEK):
        day = days[index]
        yield Mark(_middle(index + columns - len(days), columns), f'{day.day} {day:%b}')
    if days:
        yield Mark(100, 'Today')


def _months(mondays: Sequence[date], columns: int) -> Iterable[Mark]:
    """Return the name of each month below its first week, and the current week at the right edge."""
    for index, (before, monday) in enumerate(zip(mondays, mondays[1:]), 1):
        left = len(mondays) - 1 - index
        if monday.month != before.month and left >= LABEL_WEEKS:
            minor = monday.month not in QUARTERS or left < QUARTER_LABEL_WEEKS
            yield Mark(_middle(index + columns - len(mondays), columns), f'{monday:%b}', minor)
    if mondays:
        yield Mark(100, 'This week')


def _middle(column: int, columns: int) -> float:
    return round(100 * (column + 0.5) / columns, DECIMALS)
