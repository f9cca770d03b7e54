"""The API's actions on alarms: moto keeps alarms without evaluating them.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html and
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_SetAlarmState.html
"""

from typing import Any

from moto.cloudwatch.models import Alarm, CloudWatchBackend

from rehearsal.api.alarms.definitions import check_actions, definition_of
from rehearsal.api.alarms.evaluation import INSUFFICIENT_DATA
from rehearsal.api.patching import Extension

KEPT = ('state_value', 'state_reason', 'state_reason_data', 'state_updated_timestamp', 'history')


class AlarmActions(Extension, extends=CloudWatchBackend):
    """The action that creates an alarm or changes its definition."""

    def put_metric_alarm(self, name: str, **parameters: Any) -> Any:
        """Create an alarm in the state INSUFFICIENT_DATA, or change one, whose state stays."""
        former = self.alarms.get(name)
        alarm = self.moto_put_metric_alarm(name=name, **parameters)
        try:
            definition_of(alarm)
            check_actions(alarm)
        except Exception:
            self.alarms.pop(name)
            if former:
                self.alarms[name] = former
            raise
        if former:
            for attribute in KEPT:
                setattr(alarm, attribute, getattr(former, attribute))
        else:
            alarm.state_value = INSUFFICIENT_DATA
        return alarm


class AlarmStates(Extension, extends=Alarm):
    """The state of an alarm, whose change has consequences."""

    def update_state(self, reason: str, reason_data: str, state_value: str) -> None:
        """Set the state; actions, an event and the listeners follow only if it is another one."""
        old = self.state_value
        self.moto_update_state(reason, reason_data, state_value)
        if state_value != old:
            self.rehearsal.alarms.changed(self, old)
