"""The alarms of the stack as the API describes them, without the parts that each installation has of its own."""

from collections.abc import Iterable
import json
from pathlib import Path
from typing import Any

INSTALLATION = 'visitors-staging-'
FACTS = Path(__file__).resolve().parent.parent / 'terraform' / 'alarms.json'
DEFINING = ('AlarmDescription', 'Namespace', 'MetricName', 'Statistic', 'ExtendedStatistic', 'Period',
            'EvaluationPeriods', 'DatapointsToAlarm', 'Threshold', 'ComparisonOperator', 'TreatMissingData',
            'EvaluateLowSampleCountPercentile')


def definitions(described: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the definitions of alarms by name; the value of a dimension is its name."""
    return {alarm['AlarmName'].removeprefix(INSTALLATION): definition(alarm) for alarm in described}


def definition(alarm: dict[str, Any]) -> dict[str, Any]:
    """Return the definition of an alarm in the form of a request to create it."""
    found: dict[str, Any] = {name: alarm[name] for name in DEFINING if alarm.get(name) is not None}
    if alarm.get('Metrics'):
        found['Metrics'] = sorted((query(each) for each in alarm['Metrics']), key=lambda each: str(each['Id']))
    else:
        found['Dimensions'] = dimensions(alarm['Dimensions'])
    return {**found, **{name: [arn.rpartition(':')[2].removeprefix(INSTALLATION) for arn in alarm[name]]
                        for name in ('AlarmActions', 'OKActions', 'InsufficientDataActions')}}


def query(each: dict[str, Any]) -> dict[str, Any]:
    """Return a query of an alarm of metric math."""
    found = {name: each[name] for name in ('Id', 'Expression', 'ReturnData') if each.get(name) is not None}
    if 'MetricStat' not in each:
        return found
    metric = each['MetricStat']['Metric']
    return {**found, 'MetricStat': {**each['MetricStat'], 'Metric': {
        **metric, 'Dimensions': dimensions(metric['Dimensions'])}}}


def dimensions(given: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Return dimensions whose values are their names."""
    return [{'Name': name, 'Value': name} for name in sorted(each['Name'] for each in given)]


def facts() -> dict[str, dict[str, Any]]:
    """Return the definitions that the last apply of the stack had."""
    return dict(json.loads(FACTS.read_text(encoding='utf-8')))
