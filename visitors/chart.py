"""Where the parts of the 30-day chart are; templates/chart.svg draws them.

All positions are percentages of the plot, from its left and from its top, so that the drawing fills any width without
scaling its text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from visitors.statistics import Day

WEEK = 7
MOST_STEPS = 5  # more lines than this make the axis louder than the bars
LEAST_TOP = 5  # with a lower axis the first visitor ever would fill the whole plot
BAR_SHARE = 0.72  # of a day's width; the rest is the gap to its neighbours
DECIMALS = 3
UNITS = ((10 ** 12, 'T'), (10 ** 9, 'B'), (10 ** 6, 'M'), (10 ** 3, 'k'))
ABBREVIATED_FROM = 10_000


@dataclass(frozen=True)
class Bar:
    """One day's bar: returning visitors stand on the axis, new ones on top of them."""

    x: float
    width: float
    newcomers_top: float
    newcomers_height: float
    returning_top: float
    returning_height: float


@dataclass(frozen=True)
class Mark:
    """A line or a text at a place of an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """The bars, oldest day first, the ticks of the number axis from 0 upwards, and the dates below the bars."""

    bars: tuple[Bar, ...]
    ticks: tuple[Mark, ...]
    dates: tuple[Mark, ...]


def lay_out(days: Sequence[Day]) -> Chart:
    """Return where everything is in the chart of these days, the last of which is today."""
    values = tick_values(max((day.visitors for day in days), default=0))
    top = values[-1]
    return Chart(
        bars=tuple(_bar(index, day, len(days), top) for index, day in enumerate(days)),
        ticks=tuple(Mark(_height(value, top), short_number(value)) for value in values),
        dates=tuple(_dates(days)),
    )


def tick_values(highest: int) -> range:
    """Return the numbers at the axis: 0, then three to five round steps, the last of them not below the highest."""
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


def _bar(index: int, day: Day, days: int, top: int) -> Bar:
    # Heights are the distances of rounded positions, so the two parts meet without a gap or an overlap.
    upper, middle = _height(day.visitors, top), _height(day.returning, top)
    return Bar(
        x=round(100 * (index + (1 - BAR_SHARE) / 2) / days, DECIMALS),
        width=round(100 * BAR_SHARE / days, DECIMALS),
        newcomers_top=upper,
        newcomers_height=round(middle - upper, DECIMALS),
        returning_top=middle,
        returning_height=round(100 - middle, DECIMALS),
    )


def _dates(days: Sequence[Day]) -> Iterable[Mark]:
    """Return one date a week, counted back from today, whose place is at the right edge."""
    for index in range((len(days) - 1) % WEEK, len(days) - 1, WEEK):
        day = days[index].day
        yield Mark(round(100 * (index + 0.5) / len(days), DECIMALS), f'{day.day} {day:%b}')
    if days:
        yield Mark(100, 'Today')
