"""The definition of an alarm from its record, and the refusal of alarms that are not modelled.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
"""

from typing import Any

from moto.cloudwatch.exceptions import ValidationError

from rehearsal.api.alarms.evaluation import (
    BREACHING, COMPARISONS, Definition, IGNORE, MISSING, NOT_BREACHING, Series)
from rehearsal.api.alarms.expressions import Expression
from rehearsal.api.alarms.samples import Metric, PERCENTILE, STATISTICS
from rehearsal.errors import NotModelled

TREATMENTS = (MISSING, IGNORE, BREACHING, NOT_BREACHING)
SHORT_PERIODS = (10, 20, 30)
DAY, WEEK, HOUR = 86400, 604800, 3600
# Actions by the service in their ARN: a topic is published to, and a scaling policy is executed by its group.
ACTIONS = ('sns', 'autoscaling')


def definition_of(alarm: Any) -> Definition:
    """Return the definition of moto's alarm; raise ValidationError or NotModelled for an impossible one."""
    if alarm.rule or alarm.threshold_metric_id:
        raise NotModelled('composite alarms and anomaly detection')
    if alarm.comparison_operator not in COMPARISONS:
        raise ValidationError(f'Unsupported comparison operator {alarm.comparison_operator}')
    periods = int(alarm.evaluation_periods)
    datapoints = int(alarm.datapoints_to_alarm or periods)
    missing = alarm.treat_missing_data or MISSING
    if missing not in TREATMENTS:
        raise ValidationError(f'Option {missing} is not supported. Supported options for parameter TreatMissingData '
                              f'are {", ".join(TREATMENTS)}.')
    if not 1 <= datapoints <= periods:
        raise ValidationError('The value for the parameter DatapointsToAlarm must be from 1 to EvaluationPeriods')
    series, period, expression = contents(alarm)
    check_period(period, periods)
    for each in series.values():
        if each.statistic not in STATISTICS and not PERCENTILE.fullmatch(each.statistic):
            raise NotModelled(f'the statistic {each.statistic}')
    return Definition(series, period, periods, datapoints, alarm.comparison_operator, float(alarm.threshold), missing,
                      expression, alarm.evaluate_low_sample_count_percentile == IGNORE)


def contents(alarm: Any) -> tuple[dict[str, Series], int, Expression | None]:
    """Return the series of an alarm, their period, and the expression over them."""
    if not alarm.metric_data_queries:
        metric = Metric(alarm.namespace, alarm.metric_name, dimensions_of(alarm.dimensions))
        return ({'': Series(metric, alarm.statistic or alarm.extended_statistic or '', alarm.unit)},
                int(alarm.period), None)
    queries = {query.id: query for query in alarm.metric_data_queries}
    returned = [query for query in queries.values() if str(query.return_data).lower() != 'false']
    if len(returned) != 1:
        raise ValidationError('Exactly one element of the metrics list should return data.')
    stats = {name: query.metric_stat for name, query in queries.items() if query.metric_stat}
    expressions = [query for query in queries.values() if query.expression]
    if len(expressions) > 1 or expressions and expressions != returned:
        raise NotModelled('an expression over other expressions')
    expression = Expression(expressions[0].expression if expressions else returned[0].id)
    unknown = expression.names - stats.keys()
    if unknown:
        raise ValidationError(f'Invalid metrics list: unknown ids {", ".join(sorted(unknown))}')
    lengths = {int(stat.period) for stat in stats.values()}
    if len(lengths) != 1:
        raise NotModelled('metrics of different periods, or none, in one alarm')
    series = {name: Series(Metric(stat.metric.namespace, stat.metric.metric_name,
                                  dimensions_of(stat.metric.dimensions)), stat.stat, stat.unit)
              for name, stat in stats.items() if name in expression.names}
    return series, lengths.pop(), expression


def check_period(period: int, periods: int) -> None:
    """Refuse a period, or a duration of all periods, that AWS does not allow."""
    if period not in SHORT_PERIODS and (period < 60 or period % 60):
        raise ValidationError('Period must be 10, 20, 30 or a multiple of 60')
    if period * periods > (WEEK if period >= HOUR else DAY):
        raise ValidationError('Metrics cannot be checked across more than a day (EvaluationPeriods * Period must be '
                              '<= 86400), or a week for periods of an hour or more.')


def check_actions(alarm: Any) -> None:
    """Refuse actions in another region, and those that are not modelled."""
    for arn in [*alarm.alarm_actions, *alarm.ok_actions, *alarm.insufficient_data_actions]:
        service, region = arn.split(':')[2:4]
        if service not in ACTIONS:
            raise NotModelled(f'an alarm action of the service {service}')
        if region != alarm.region_name:
            raise ValidationError(f'Invalid region {region} specified. Only {alarm.region_name} is supported.')


def dimensions_of(dimensions: Any) -> frozenset[tuple[str, str]]:
    """Return moto's dimensions as pairs."""
    return frozenset((dimension.name, dimension.value) for dimension in dimensions)
