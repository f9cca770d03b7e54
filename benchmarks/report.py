"""The tables that a run ends with, in Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.database import Database, Times
from benchmarks.interference import flatness, Phase, Reading
from benchmarks.rounds import per_processor_second, Ratio, ratio, Round, typical

HEAD = '| ratio | visitors | median | least to most | goal |\n|---|--:|--:|--:|--:|'
TIMES_HEAD = '| time | visitors | ms | goal |\n|---|--:|--:|--:|'
CASES_HEAD = ('| case | answers a second | processor time for one, µs: application | database |\n'
              '|---|--:|--:|--:|')
DISTURBED_HEAD = ('| while | answers a second over those without | last third over first | p99 over that without |\n'
                  '|---|--:|--:|--:|')
GOALS = {'a snapshot is open': '≥ 0.90', 'after the snapshot': '≥ 0.95', 'purges and dumps run': '≥ 0.80'}
UNIQUES_GOAL_ROWS = 10_000_000


@dataclass(frozen=True)
class Row:
    """A ratio by its name, at a number of visitors, and its goal, the least that it should be."""

    name: str
    visitors: int
    value: Ratio
    goal: float | None = None

    def __str__(self) -> str:
        """Return the row of the table."""
        goal = f'≥ {self.goal:.2f}' if self.goal else ''
        spread = f'{_figure(self.value.least)} to {_figure(self.value.most)}'
        return f'| {self.name} | {grouped(self.visitors)} | {_figure(self.value.median)} | {spread} | {goal} |'


@dataclass(frozen=True)
class Others:
    """Measurements beside the rounds: the page beside a disturbed one, statistics under load, bulk statements."""

    phases: Sequence[Phase]
    reading: Reading
    bulk: dict[int, float]


def tables(databases: Sequence[Database], rounds: Sequence[Round], times: dict[int, Times], others: Others) -> str:
    """Return the results: the ratios with their goals, times of one client, and the cases by themselves."""
    sizes = [database.rows for database in databases]
    commits = [f'| a commit | {grouped(size)} | {times[size].commit:.2f} | |' for size in sizes]
    strangers = median(each.strangers for each in rounds)
    return '\n'.join([
        f'Other programs took {strangers:.0%} of the processors meanwhile.', '',
        HEAD, *map(str, ratios(sizes, rounds)), '',
        DISTURBED_HEAD, *map(_disturbed, others.phases), '',
        TIMES_HEAD, *(line for size in sizes for line in _uniques(size, times[size])), *commits,
        *_under_load(others.reading), *(f'| one statement that inserts {grouped(size)} visitors | {grouped(sizes[0])} '
                                        f'| {seconds * 1000:.0f} | linear |' for size, seconds in others.bulk.items()),
        '',
        CASES_HEAD, *(_case(name, rounds) for name in rounds[0].runs)])


def ratios(sizes: Sequence[int], rounds: Sequence[Round]) -> Iterator[Row]:
    """Return the ratios for so many visitors each, the smallest number first."""
    for size in sizes:
        yield Row('page over bare hello', size, ratio(rounds, f'page {size}', 'hello'), 0.30)
    for size in sizes:
        # Steadier than the rate where others use the machine too; without the processor time of the load itself.
        yield Row('page over bare hello, by processor time', size,
                  ratio(rounds, f'page {size}', 'hello', per_processor_second), 0.45)
    for size in sizes:
        yield Row('compressed page over page', size, ratio(rounds, f'compressed {size}', f'page {size}'))
    for size in sizes:
        yield Row('compressed page over page, by processor time', size,
                  ratio(rounds, f'compressed {size}', f'page {size}', per_processor_second))
    for size in sizes:
        yield Row('page over naive page', size, ratio(rounds, f'page {size}', f'naive {size}'))
    for clients, goal in ((1, 0.80), (16, 1.2)):
        for size in sizes:
            over, under = f'visit {clients} {size}', f'upsert {clients} {size}'
            name = f'visit over bare upsert, clients: {clients}'
            yield Row(name, size, ratio(rounds, over, under), goal)
            yield Row(f'{name}, by processor time', size, ratio(rounds, over, under, per_processor_second))
    for size in sizes[1:]:
        yield Row(f'p99 of the page over that at {grouped(sizes[0])}', size,
                  ratio(rounds, f'page {size}', f'page {sizes[0]}', lambda run: run.p99))
        yield Row(f'page over page at {grouped(sizes[0])}', size,
                  ratio(rounds, f'page {size}', f'page {sizes[0]}'), 0.95)


def grouped(number: int) -> str:
    """Return a number that can be read."""
    return f'{number:,}'.replace(',', ' ')


def _uniques(size: int, measured: Times) -> list[str]:
    goal = '≤ 1.00' if size >= UNIQUES_GOAL_ROWS else ''
    return [f'| unique visitors of 30 days, and of each day | {grouped(size)} | {measured.chart:.2f} | {goal} |',
            f'| the same of all days of a year | {grouped(size)} | {measured.all_days:.2f} | |',
            f'| unique visitors of 30 days, counted by query | {grouped(size)} | {measured.by_query:.2f} | |']


def _disturbed(phase: Phase) -> str:
    rates, p99s = phase.ratios(lambda run: run.rate), phase.ratios(lambda run: run.p99)
    return (f'| {phase.name} | {_spread(rates)}, goal {GOALS[phase.name]} | {_figure(flatness(rates))} | '
            f'{_spread(p99s)}, goal ≤ 1.25 |')


def _spread(ratios: Sequence[float]) -> str:
    return f'{_figure(median(ratios))} ({_figure(min(ratios))} to {_figure(max(ratios))})'


def _under_load(reading: Reading) -> list[str]:
    visits = f'p99 at {reading.rate:.0f} visits a second'
    return [f'| unique visitors of 30 days, and of each day, {visits} | | {reading.chart:.2f} | ≤ 0.40 |',
            f'| the same of all days of a year, {visits} | | {reading.all_days:.2f} | ≤ 0.40 |']


def _case(name: str, rounds: Sequence[Round]) -> str:
    run = typical(rounds, name)
    return f'| {name} | {run.rate:.0f} | {run.application:.0f} | {run.database:.0f} |'


def _figure(number: float) -> str:
    """Return a ratio with as many places as say something."""
    return f'{number:.2f}' if number < 10 else f'{number:.0f}'
