"""The notifications of SNS that were delivered: each is kept, because an e-mail leaves no other trace here."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

EMAIL = ('email', 'email-json')


@dataclass(frozen=True)
class Delivery:
    """A message of a topic to one of its subscribers."""

    at: str
    topic: str
    protocol: str
    endpoint: str
    subject: str
    message: str


def mail(deliveries: Iterable[Delivery]) -> list[dict[str, str]]:
    """Return the deliveries by e-mail, the oldest first."""
    return [asdict(delivery) for delivery in list(deliveries) if delivery.protocol in EMAIL]
