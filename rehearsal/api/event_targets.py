"""The targets of EventBridge's rules: moto has no topics among them, and it ignores the state of a rule.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-targets.html
"""

from collections.abc import Mapping
import copy
import json
from typing import Any

from jsonpath_ng.ext.parser import parse as parse_path
from moto.events.models import EventsBackend, Rule
from moto.events.utils import EventTemplateParser
from moto.sns.models import sns_backends

from rehearsal.api.patching import Extension
from rehearsal.errors import NotModelled

TARGETS = ('sns', 'sqs', 'logs', 'events')


class TargetActions(Extension, extends=EventsBackend):
    """The action that gives a rule its targets."""

    def put_targets(self, name: str, event_bus_arn: str | None, targets: list[dict[str, Any]]) -> None:
        """Add targets to a rule; one that no event could reach is missing here, and not at its first event."""
        for target in targets:
            service = target['Arn'].split(':')[2]
            if service not in TARGETS:
                raise NotModelled(f'a target of the service {service}')
        self.moto_put_targets(name=name, event_bus_arn=event_bus_arn, targets=targets)


class RuleTargets(Extension, extends=Rule):
    """The way of an event to the targets of a rule."""

    def send_to_targets(self, original_event: dict[str, Any], transform_input: bool = True) -> None:
        """Send an event to all targets if the rule is enabled and its pattern matches.

        https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html
        """
        if self.state != 'ENABLED' or not self.event_pattern.matches_event(original_event):
            return
        topics = [target for target in self.targets if target['Arn'].split(':')[2] == 'sns']
        others: Any = copy.copy(self)
        others.targets = [target for target in self.targets if target not in topics]
        others.moto_send_to_targets(original_event, transform_input)
        for target in topics:
            region, account = target['Arn'].split(':')[3:5]
            sns_backends[account][region].publish(message_for(target, original_event), arn=target['Arn'])


def message_for(target: Mapping[str, Any], event: dict[str, Any]) -> str:
    """Return the text that a target gets for an event: all of it, a part, a constant, or a template filled in.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html
    """
    if 'Input' in target:
        return str(target['Input'])
    shown = {key: value for key, value in event.items() if key != 'ingestion-time'}
    if 'InputPath' in target:
        found = parse_path(target['InputPath']).find(shown)
        return json.dumps(found[0].value if found else None)
    if 'InputTransformer' not in target:
        return json.dumps(shown)
    transformer = target['InputTransformer']
    paths = transformer.get('InputPathsMap', {})
    # A variable whose path the event does not have does not appear in the output.
    present = {name: path for name, path in paths.items() if parse_path(path).find(event)}
    template = transformer['InputTemplate']
    for name in paths.keys() - present.keys():
        template = template.replace(f'<{name}>', '')
    return json.dumps(EventTemplateParser.parse(template, present, event), ensure_ascii=False)  # type: ignore
