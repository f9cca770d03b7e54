"""Notifications of SNS, whose deliveries are kept.

https://docs.aws.amazon.com/sns/latest/dg/welcome.html
"""

from datetime import datetime, timezone
from typing import Any

from moto.sns.models import Subscription

from rehearsal.api.deliveries import Delivery
from rehearsal.api.patching import Extension


class Deliveries(Extension, extends=Subscription):
    """The delivery of a topic's messages."""

    def publish(self, message: str, message_id: str, subject: str | None = None,
                message_attributes: dict[str, Any] | None = None, **options: Any) -> None:
        """Deliver a message that the subscription's filter lets through, and keep it."""
        matcher = self._filter_policy_matcher
        if matcher is None or matcher.matches(message_attributes, message):
            now = f'{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}'
            self.rehearsal.deliveries.append(
                Delivery(now, self.topic_arn, self.protocol, self.endpoint, subject or '', message))
        self.moto_publish(message, message_id, subject, message_attributes, **options)
