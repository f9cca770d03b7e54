"""The status of a health check after its answers.

https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Status:
    """A status, and the number of consecutive answers that contradict it; a new check is healthy."""

    is_healthy: bool = True
    contradictions: int = 0


def step(status: Status, has_passed: bool, threshold: int) -> Status:
    """Return the status after one more answer; so many consecutive answers as `threshold` change it."""
    if has_passed == status.is_healthy:
        return Status(status.is_healthy)
    contradictions = status.contradictions + 1
    return Status(has_passed) if contradictions >= threshold else Status(status.is_healthy, contradictions)


def shown(is_healthy: bool, is_inverted: bool, is_disabled: bool) -> bool:
    """Return the status that Route 53 uses: a disabled check is healthy, an inverted one the contrary.

    https://docs.aws.amazon.com/Route53/latest/APIReference/API_HealthCheckConfig.html
    """
    return (is_healthy or is_disabled) != is_inverted


def calculated(children: Sequence[bool], threshold: int) -> bool:
    """Return whether a check is healthy whose children's status is known: enough of them must be healthy.

    https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/health-checks-creating-values.html
    """
    return sum(children) >= threshold
