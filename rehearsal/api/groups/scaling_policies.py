"""Scaling policies of groups, where moto leaves out what Auto Scaling answers."""

from typing import Any

from moto.autoscaling.models import FakeScalingPolicy

from rehearsal.api.patching import wrapping


def install() -> None:
    """Add whether a policy is enabled, which it is unless its creator says otherwise."""
    @wrapping(FakeScalingPolicy, '__init__')
    def create(original: Any, policy: Any, *arguments: Any, **options: Any) -> None:
        original(policy, *arguments, **options)
        # https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_ScalingPolicy.html
        policy.enabled = True
        policy.predictive_scaling_configuration = policy.predictive_scaling_configuration or None
