"""Raw data points of metrics, and their statistics.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
import math
import re

PERCENTILE = re.compile(r'p(\d{1,2}(?:\.\d{1,2})?|100)')
STATISTICS = ('Sum', 'Average', 'Minimum', 'Maximum', 'SampleCount')


@dataclass(frozen=True)
class Metric:
    """The name of a metric: two metrics with different dimensions are different ones."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Sample:
    """A value of a metric at a time, or a set of values of which only the statistics are known."""

    at: float
    total: float
    count: float = 1
    least: float = math.nan
    greatest: float = math.nan
    unit: str | None = None

    @property
    def minimum(self) -> float:
        """The least value."""
        return self.total if math.isnan(self.least) else self.least

    @property
    def maximum(self) -> float:
        """The greatest value."""
        return self.total if math.isnan(self.greatest) else self.greatest


def between(samples: Sequence[Sample], start: float, end: float) -> Sequence[Sample]:
    """Return the samples of a period, which includes its start and not its end; `samples` are in order of time."""
    return samples[bisect_left(samples, start, key=at_of):bisect_left(samples, end, key=at_of)]


def at_of(sample: Sample) -> float:
    """Return the time of a sample."""
    return sample.at


def statistic_of(samples: Sequence[Sample], statistic: str) -> float | None:
    """Return a statistic of samples; None without any."""
    if not samples:
        return None
    total, count = sum(sample.total for sample in samples), sum(sample.count for sample in samples)
    if statistic == 'Sum':
        return total
    if statistic == 'SampleCount':
        return count
    if statistic == 'Average':
        return total / count
    if statistic == 'Minimum':
        return min(sample.minimum for sample in samples)
    if statistic == 'Maximum':
        return max(sample.maximum for sample in samples)
    return percentile(samples, percentage_of(statistic))


def percentile(samples: Sequence[Sample], percentage: float) -> float | None:
    """Return the least value that is not below so many percent of the values.

    A set of values has no percentile, unless all its values are equal.
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html#Percentiles
    """
    equal = sorted((sample.minimum, sample.count) for sample in samples if sample.minimum == sample.maximum)
    wanted, reached = percentage / 100 * sum(count for _, count in equal), 0.0
    for value, count in equal:
        reached += count
        if reached >= wanted:
            return value
    return None


def percentage_of(statistic: str) -> float:
    """Return 95 for `p95`."""
    return float(statistic[1:])


def fewest_samples(statistic: str) -> float:
    """Return the number of samples below which a percentile means little; 0 for other statistics.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/percentiles-with-low-samples.html
    """
    if not PERCENTILE.fullmatch(statistic):
        return 0
    share = percentage_of(statistic) / 100
    rarer = 1 - share if share >= 0.5 else share
    return 10 / rarer if rarer > 0 else math.inf
