"""The thread that evaluates all alarms, and the acts that follow a change of state.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-actions.html
"""

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
import json
import logging
from threading import Event, RLock, Thread
from typing import Any

from botocore.loaders import create_loader
from moto.cloudwatch.models import MetricAggregatedDatum
from moto.sns.models import sns_backends

from rehearsal.api import events
from rehearsal.api.alarms.definitions import definition_of, dimensions_of
from rehearsal.api.alarms.evaluation import ALARM, evaluate, OK, SECONDS_BETWEEN_EVALUATIONS
from rehearsal.api.alarms.samples import at_of, Metric, Sample
from rehearsal.clocks import Clocks

logger = logging.getLogger(__name__)

LOOKS_PER_EVALUATION = 4
LONGEST_BETWEEN_LOOKS = 0.5
LONGEST_SUBJECT = 100


@dataclass(frozen=True)
class Change:
    """A change of an alarm's state."""

    account: str
    region: str
    name: str
    arn: str
    old: str
    new: str
    reason: str


class Evaluator:
    """The evaluation of all alarms by AWS's pace; it changes them while it holds the lock of the records.

    `listeners` hear of each change of a state. `performers` execute the actions of a service other than SNS: each gets
    the ARN of the action and the alarm. An action of Auto Scaling is executed each minute while the state lasts.
    """

    def __init__(self, backends: Callable[[], Iterable[Any]], lock: RLock, clocks: Clocks) -> None:
        """Evaluate the alarms of all backends of CloudWatch, which `backends` lists before each look."""
        self._backends = backends
        self._lock = lock
        self._clocks = clocks
        self._ended = Event()
        self.listeners: list[Callable[[Change], None]] = []
        self.performers: dict[str, Callable[[str, Any], None]] = {}

    def start(self) -> None:
        """Start the thread that evaluates."""
        Thread(target=self._run, name='alarms', daemon=True).start()

    def stop(self) -> None:
        """End that thread after its present look."""
        self._ended.set()

    def look(self) -> None:
        """Evaluate each alarm whose next evaluation is due."""
        with self._lock:
            for backend in self._backends():
                samples = samples_of(backend, self._clocks.pace)
                now = self._clocks.calendar().timestamp() * self._clocks.pace
                for alarm in list(backend.alarms.values()):
                    try:
                        self._evaluate(alarm, samples, now)
                    except Exception:
                        logger.exception('alarm %s cannot be evaluated', alarm.name)

    def changed(self, alarm: Any, old: str) -> None:
        """Do all that follows a change of an alarm's state: actions, an event, and the listeners' part."""
        change = Change(alarm.alarm_arn.split(':')[4], alarm.region_name, alarm.name, alarm.alarm_arn, old,
                        alarm.state_value, alarm.state_reason)
        logger.info('alarm %s: %s after %s', change.name, change.new, change.old)
        self._act(alarm, ('sns', *self.performers), old)
        events.publish(change.account, change.region, 'aws.cloudwatch', 'CloudWatch Alarm State Change',
                       detail_of(alarm, old), [alarm.alarm_arn])
        for listener in list(self.listeners):
            listener(change)

    def _run(self) -> None:
        pause = self._clocks.real_seconds(SECONDS_BETWEEN_EVALUATIONS / LOOKS_PER_EVALUATION)
        while not self._ended.wait(min(pause, LONGEST_BETWEEN_LOOKS)):
            try:
                self.look()
            except Exception:
                logger.exception('alarms cannot be evaluated')

    def _evaluate(self, alarm: Any, samples: dict[Metric, list[Sample]], now: float) -> None:
        definition = definition_of(alarm)
        due = now // definition.step
        if getattr(alarm, 'rehearsal_evaluated', None) == due:
            return
        alarm.rehearsal_evaluated = due
        verdict = evaluate(definition, samples, now)
        if verdict and verdict.state != alarm.state_value:
            alarm.update_state(verdict.reason, '{}', verdict.state)
        else:
            self._act(alarm, ('autoscaling',), alarm.state_value)

    def _act(self, alarm: Any, services: Sequence[str], old: str) -> None:
        for arn in actions_of(alarm):
            service = arn.split(':')[2]
            if service not in services:
                continue
            try:
                if service == 'sns':
                    notify(alarm, arn, old)
                elif service in self.performers:
                    self.performers[service](arn, alarm)
            except Exception:
                logger.exception('alarm %s: action %s failed', alarm.name, arn)


def actions_of(alarm: Any) -> list[str]:
    """Return the ARNs of the actions of an alarm's present state."""
    if not alarm.actions_enabled:
        return []
    if alarm.state_value == ALARM:
        return list(alarm.alarm_actions)
    return list(alarm.ok_actions if alarm.state_value == OK else alarm.insufficient_data_actions)


def samples_of(backend: Any, pace: float) -> dict[Metric, list[Sample]]:
    """Return the samples of a region by metric and in order of time, whose unit is AWS's second.

    Only data points that are new since the last call are read. moto's reset forgets them with the backend.
    """
    samples: dict[Metric, list[Sample]] = backend.__dict__.setdefault('rehearsal_samples', {})
    read = backend.__dict__.setdefault('rehearsal_samples_read', 0)
    for datum in backend.metric_data[read:]:
        metric = Metric(datum.namespace, datum.name, dimensions_of(datum.dimensions))
        insort(samples.setdefault(metric, []), as_sample(datum, pace), key=at_of)
        read += 1
    backend.rehearsal_samples_read = read
    return samples


def as_sample(datum: Any, pace: float) -> Sample:
    """Return a data point of moto's."""
    moment: datetime = datum.timestamp
    # moto's own times have no time zone.
    at = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() * pace
    if isinstance(datum, MetricAggregatedDatum):
        return Sample(at, datum.sum, datum.sample_count, datum.min, datum.max, datum.unit)
    return Sample(at, datum.value, unit=datum.unit)


def notify(alarm: Any, topic: str, old: str) -> None:
    """Publish the state of an alarm to a topic.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html
    """
    region, account = topic.split(':')[3:5]
    place = region_names().get(region, region)
    subject = f'{alarm.state_value}: "{alarm.name}" in {place}'
    message = {'AlarmName': alarm.name, 'AlarmDescription': alarm.description, 'AWSAccountId': account,
               'NewStateValue': alarm.state_value, 'NewStateReason': alarm.state_reason,
               'StateChangeTime': in_aws_form(alarm.state_updated_timestamp), 'Region': place,
               'AlarmArn': alarm.alarm_arn, 'OldStateValue': old, 'OKActions': alarm.ok_actions,
               'AlarmActions': alarm.alarm_actions, 'InsufficientDataActions': alarm.insufficient_data_actions}
    sns_backends[account][region].publish(json.dumps(message), arn=topic, subject=subject[:LONGEST_SUBJECT])


def detail_of(alarm: Any, old: str) -> dict[str, Any]:
    """Return the part of an event that describes a change of an alarm's state.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html
    """
    state = {'value': alarm.state_value, 'reason': alarm.state_reason, 'reasonData': alarm.state_reason_data,
             'timestamp': in_aws_form(alarm.state_updated_timestamp)}
    return {'alarmName': alarm.name, 'state': state, 'previousState': {'value': old},
            'configuration': {'description': alarm.description}}


def in_aws_form(moment: datetime) -> str:
    """Return a time of moto's in the form that CloudWatch shows."""
    return f'{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}+0000'


@cache
def region_names() -> dict[str, str]:
    """Return the names of AWS's regions, such as US East (N. Virginia)."""
    partitions = create_loader().load_data('endpoints')['partitions']
    return {code: region['description'] for partition in partitions for code, region in partition['regions'].items()}
