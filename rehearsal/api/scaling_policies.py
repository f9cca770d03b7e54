"""Scaling policies of groups, of which moto shows less than Auto Scaling."""

from typing import Any

from moto.autoscaling.models import FakeScalingPolicy

from rehearsal.api.patching import Extension


class ScalingPolicies(Extension, extends=FakeScalingPolicy):
    """A scaling policy."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Enable the policy, as AWS does by default.

        https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_ScalingPolicy.html
        """
        self.moto___init__(*arguments, **options)
        policy: Any = self
        policy.enabled = True
        policy.predictive_scaling_configuration = policy.predictive_scaling_configuration or None
