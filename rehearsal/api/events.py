"""EventBridge: events of AWS's own services, which its rules get.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-what-is-how-it-works-concepts.html
"""

from collections.abc import Mapping, Sequence
import copy
from datetime import datetime, timezone
import logging
from typing import Any
import uuid

from moto.events.models import EventBus, events_backends

logger = logging.getLogger(__name__)


def publish(account: str, region: str, source: str, detail_type: str, detail: Mapping[str, Any],
            resources: Sequence[str] = ()) -> None:
    """Send an event of a service of AWS to the rules of the default bus.

    A target that fails does not disturb the service: EventBridge counts it as a failed invocation.
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-retry-policy.html
    """
    now = datetime.now(timezone.utc)
    event: Any = {'version': '0', 'id': str(uuid.uuid4()), 'detail-type': detail_type, 'source': source,
                  'account': account, 'time': f'{now:%Y-%m-%dT%H:%M:%SZ}', 'region': region,
                  'resources': list(resources), 'detail': dict(detail), 'ingestion-time': now.timestamp()}
    bus: EventBus = events_backends[account][region].describe_event_bus('default')
    for rule in list(bus.rules.values()):
        try:
            rule.send_to_targets(copy.deepcopy(event))
        except Exception:
            logger.exception('rule %s: a target failed', rule.name)
