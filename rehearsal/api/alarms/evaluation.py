"""The evaluation of an alarm: its definition, the samples of its metrics and a time give its state.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html and, for missing data,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import operator

from rehearsal.api.alarms.expressions import Expression, Value
from rehearsal.api.alarms.samples import between, fewest_samples, Metric, Sample, statistic_of

ALARM, OK, INSUFFICIENT_DATA = 'ALARM', 'OK', 'INSUFFICIENT_DATA'
MISSING, IGNORE, BREACHING, NOT_BREACHING = 'missing', 'ignore', 'breaching', 'notBreaching'
# AWS's examples have an evaluation range of two periods more than the alarm's.
MORE_PERIODS = 2
SECONDS_BETWEEN_EVALUATIONS, SHORT_SECONDS = 60, 10

COMPARISONS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    'GreaterThanThreshold': (operator.gt, 'greater than'),
    'GreaterThanOrEqualToThreshold': (operator.ge, 'greater than or equal to'),
    'LessThanThreshold': (operator.lt, 'less than'),
    'LessThanOrEqualToThreshold': (operator.le, 'less than or equal to')}


@dataclass(frozen=True)
class Series:
    """A statistic of a metric."""

    metric: Metric
    statistic: str
    unit: str | None = None


@dataclass(frozen=True)
class Definition:
    """An alarm: `datapoints` of `periods` must breach the threshold."""

    series: Mapping[str, Series]
    period: int
    periods: int
    datapoints: int
    comparison: str
    threshold: float
    missing: str = MISSING
    # None is the one series itself.
    expression: Expression | None = None
    # Whether a percentile of few samples changes nothing.
    ignores_few_samples: bool = False

    @property
    def step(self) -> int:
        """The seconds between two evaluations."""
        return SECONDS_BETWEEN_EVALUATIONS if self.period >= SECONDS_BETWEEN_EVALUATIONS else SHORT_SECONDS

    def breaches(self, value: float) -> bool:
        """Return whether a value breaches the threshold."""
        return COMPARISONS[self.comparison][0](value, self.threshold)


@dataclass(frozen=True)
class Verdict:
    """A state of an alarm, and its reason."""

    state: str
    reason: str


def evaluate(definition: Definition, samples: Mapping[Metric, Sequence[Sample]], now: float) -> Verdict | None:
    """Return the state of an alarm; None if it stays as it is.

    Periods end at the last full minute, so an alarm with a period of five minutes is evaluated each minute.
    """
    end = now // definition.step * definition.step
    starts = [end - definition.period * place for place in range(1, definition.periods + MORE_PERIODS + 1)]
    if definition.ignores_few_samples and has_few_samples(definition, samples, starts[0]):
        return None
    return verdict(definition, [value_of(definition, samples, start) for start in starts])


def has_few_samples(definition: Definition, samples: Mapping[Metric, Sequence[Sample]], start: float) -> bool:
    """Return whether a period has samples, but too few for its percentile."""
    for series in definition.series.values():
        count = sum(sample.count for sample in within(definition, samples, series, start))
        if 0 < count < fewest_samples(series.statistic):
            return True
    return False


def value_of(definition: Definition, samples: Mapping[Metric, Sequence[Sample]], start: float) -> Value:
    """Return the data point of the period from `start`; None if it is missing."""
    values = {name: statistic_of(within(definition, samples, series, start), series.statistic)
              for name, series in definition.series.items()}
    return definition.expression.value(values) if definition.expression else next(iter(values.values()))


def within(definition: Definition, samples: Mapping[Metric, Sequence[Sample]], series: Series,
           start: float) -> list[Sample]:
    """Return the samples of a series in the period from `start`."""
    found = between(samples.get(series.metric, ()), start, start + definition.period)
    return [sample for sample in found if series.unit in (None, sample.unit)]


def verdict(definition: Definition, values: Sequence[Value]) -> Verdict | None:
    """Return the state that the data points of an evaluation range give, the newest first; None keeps the state."""
    real = [value for value in values if value is not None]
    if len(real) >= definition.periods:
        return judged(definition, real[:definition.periods], 0)
    if not real and definition.missing == MISSING:
        return Verdict(INSUFFICIENT_DATA, f'Insufficient Data: {definition.periods} datapoints were unknown.')
    if definition.missing in (MISSING, IGNORE):
        return from_real_ones(definition, values, real)
    return judged(definition, real, definition.periods - len(real))


def from_real_ones(definition: Definition, values: Sequence[Value], real: Sequence[float]) -> Verdict | None:
    """Return the state if missing data points are not replaced; `real` are too few for the alarm's periods."""
    breaching = sum(definition.breaches(value) for value in real)
    if breaching < len(real) or breaching >= definition.datapoints:
        return judged(definition, real, 0)
    if definition.missing == IGNORE:
        return None
    # All breach, though they are too few: AWS waits until the oldest is as old as the required number of data points.
    age = 1 + max(place for place, value in enumerate(values) if value is not None)
    return Verdict(ALARM, reason(definition, real, 0, len(real))) if age >= definition.datapoints else (
        judged(definition, real, 0))


def judged(definition: Definition, real: Sequence[float], missing: int) -> Verdict:
    """Return the state for real data points and missing ones, which count as the alarm's definition says."""
    replaced = missing if definition.missing == BREACHING else 0
    breaching = sum(definition.breaches(value) for value in real) + replaced
    state = ALARM if breaching >= definition.datapoints else OK
    return Verdict(state, reason(definition, real, missing, breaching))


def reason(definition: Definition, real: Sequence[float], missing: int, breaching: int) -> str:
    """Return the reason of a state in AWS's manner."""
    points = f'{breaching} out of the last {len(real) + missing} datapoints'
    shown = f' [{", ".join(f"{value:g}" for value in real)}]' if real else ''
    treated = f' {missing} missing datapoints were treated as [{definition.missing}].' if missing else ''
    words = COMPARISONS[definition.comparison][1]
    return (f'Threshold Crossed: {points}{shown} were {words} the threshold ({definition.threshold:g}) (minimum '
            f'{definition.datapoints} datapoints for the state ALARM).{treated}')
